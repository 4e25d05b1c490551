"""What a loop or a thread calls is guarded; tests/control/test_dying.py lets it fail."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent.parent
# What has somebody call it later: the method, and which of its arguments is called.
CALLERS: Final = {
    "call_later": 1,
    "call_at": 1,
    "call_soon": 0,
    "call_soon_threadsafe": 0,
    "add_reader": 1,
    "add_signal_handler": 1,
}
GUARDS: Final = ("crash_on_error", "crash_on_error_task", "self._crash_on_error")
# The rest, by file and what is called, with why a failure of it leaves no process blind.
EXCEPTIONS: Final = {
    ("workers/consumer/process.py", "create_task"): "waits for an event only",
    ("workers/consumer/process.py", "to_thread"): "awaited",
    (
        "workers/websocket/accept/listener.py",
        "self._accept",
    ): "called again for the next connection",
    ("workers/websocket/connection/tls_exchange.py", "self.abort"): "one connection's",
    ("workers/websocket/accept/listener.py", "self._begin"): "one connection's",
    ("workers/websocket/connection/framing.py", "under.abort"): "one connection's",
    ("workers/websocket/accept/listener.py", "create_task"): "its end is looked at",
    (
        "workers/websocket/accept/pending.py",
        "self._serve_some",
    ): "called again while somebody waits",
    ("workers/runtime.py", "_leave_now"): "ends the process",
    ("workers/runtime.py", "create_task"): "is the guard",
    ("workers/websocket/process.py", "create_task"): "waits for an event only",
    ("energyws/logs/writer.py", "self._write"): "goes on whatever happens",
    ("energyws/control/admin/server.py", "self._serve"): "goes on whatever happens",
    (
        "energyws/control/children/children.py",
        "self._on_exit",
    ): "notes a number; a step does the rest",
    ("energyws/control/admin/in_loop.py", "carry_out"): "whoever waits gets the exception",
    ("energyws/control/admin/in_loop.py", "create_task"): "whoever waits gets the exception",
    (
        "energyws/control/reload/reloader.py",
        "create_task",
    ): "logs it, and goes on with the next one",
}


def is_guard(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in GUARDS


def later(path: Path) -> Iterator[tuple[str, bool]]:
    """What in a file is called by a loop or a thread: its name, and whether it is guarded."""
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


def test_whatever_a_loop_or_a_thread_calls_is_guarded() -> None:
    unguarded = {
        (str(path.relative_to(ROOT)), name)
        for pattern in ("workers/*.py", "energyws/logs/writer.py", "energyws/control/*.py")
        for path in sorted(ROOT.glob(pattern))
        for name, guarded in later(path)
        if not guarded
    }
    assert unguarded == set(EXCEPTIONS)
