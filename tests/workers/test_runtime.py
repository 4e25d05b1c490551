"""A child's runtime, and that all code which a loop or a thread calls is guarded.

tests/control/test_dying.py lets guarded code fail.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
# Functions that have a callback called later, and the index of that argument.
CALLERS: Final = {
    "call_later": 1,
    "call_at": 1,
    "call_soon": 0,
    "call_soon_threadsafe": 0,
    "add_reader": 1,
    "add_signal_handler": 1,
}
GUARDS: Final = ("crash_on_error", "crash_on_error_task", "self._crash_on_error")
# Unguarded callbacks by file, with the reason why an exception in them does no lasting harm.
EXCEPTIONS: Final = {
    ("workers/consumer/process.py", "create_task"): "waits for an event only",
    ("workers/consumer/process.py", "to_thread"): "awaited",
    ("workers/websocket/accept/listener.py", "self._accept"): "called for the next connection, too",
    ("workers/websocket/accept/listener.py", "self._begin"): "one connection's",
    ("workers/websocket/accept/listener.py", "create_task"): "its end is looked at",
    ("workers/websocket/accept/pending.py", "self._serve_some"): "called while connections wait",
    ("workers/websocket/connection/framing.py", "under.abort"): "one connection's",
    ("workers/websocket/connection/tls_exchange.py", "self.abort"): "one connection's",
    ("workers/websocket/process.py", "create_task"): "waits for an event only",
    ("workers/runtime.py", "_exit_now"): "ends the process",
    ("workers/runtime.py", "create_task"): "is the guard",
    ("energyws/logs/events.py", "self._write"): "catches everything",
    ("energyws/control/admin/in_loop.py", "carry_out"): "the waiting thread gets the exception",
    (
        "energyws/control/admin/in_loop.py",
        "create_task",
    ): "the waiting thread gets the exception",
    ("energyws/control/admin/server.py", "self._serve"): "catches everything",
    ("energyws/control/children/children.py", "self._on_exit"): "notes an id; a step does the rest",
    ("energyws/control/reload/reloader.py", "create_task"): "logs it, and begins the next reload",
    ("energyws/control/signals.py", "self._note"): "notes a signal; the loop does the rest",
}


def is_guard(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in GUARDS


def later(path: Path) -> Iterator[tuple[str, bool]]:
    """The names of what a loop or a thread calls in a file, and whether each is guarded."""
    tree = ast.parse(path.read_text())
    guarded = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(isinstance(each, ast.Name) and each.id in GUARDS for each in node.decorator_list)
    }
    guarded |= {
        ast.unparse(node.targets[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and is_guard(node.value)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and "threading.Thread" in map(ast.unparse, node.bases):
            yield (
                f"{node.name}.run",
                any(
                    isinstance(each, ast.FunctionDef)
                    and each.name == "run"
                    and any(ast.unparse(guard) in GUARDS for guard in each.decorator_list)
                    for each in node.body
                ),
            )
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if called in CALLERS:
            callback = node.args[CALLERS[called]]
            name = ast.unparse(callback)
            yield name, name in GUARDS or name.removeprefix("self.") in guarded
        elif called in ("create_task", "ensure_future", "run_in_executor", "to_thread"):
            yield called, False
        elif called == "Thread":
            (target,) = (each.value for each in node.keywords if each.arg == "target")
            name = ast.unparse(target)
            yield name, is_guard(target) or name in guarded


def sources() -> Iterator[Path]:
    """The code of the service's processes; `energyws top` is a process of its own."""
    yield ROOT / "energyws" / "logs" / "events.py"
    for tree in ("workers", "energyws/control"):
        yield from (path for path in (ROOT / tree).rglob("*.py") if path.parent.name != "status")


def test_whatever_a_loop_or_a_thread_calls_is_guarded() -> None:
    unguarded = {
        (str(path.relative_to(ROOT)), name)
        for path in sources()
        for name, guarded in later(path)
        if not guarded
    }
    assert unguarded == set(EXCEPTIONS)
