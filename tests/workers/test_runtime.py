"""A child's runtime, and a check that all code called by a loop or a thread is guarded.

tests/control/test_dying.py makes guarded code fail.
"""

from __future__ import annotations

import ast
import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from energyws.errors import BootError, ExitCode
from energyws.process.board import Board, Field, State
from energyws.process.control_messages import Shed, ShutDown, ShutdownMode, UseLog, UseSettings
from energyws.settings import Kafka, Logging, Settings
from workers.runtime import Runtime

ROOT: Final = Path(__file__).parent.parent.parent
# Functions that schedule a callback, and the index of that argument.
CALLERS: Final = {
    "call_later": 1,
    "call_at": 1,
    "call_soon": 0,
    "call_soon_threadsafe": 0,
    "add_reader": 1,
    "add_signal_handler": 1,
}
GUARDS: Final = ("crash_on_error", "crash_on_error_task", "self._crash_on_error")
# Unguarded callbacks by file, with the reason why an exception in one does no lasting harm.
EXCEPTIONS: Final = {
    ("workers/consumer/process.py", "create_task"): "only waits for an event",
    ("workers/consumer/process.py", "to_thread"): "awaited",
    ("workers/websocket/accept/listener.py", "self._accept"): "called for every connection",
    ("workers/websocket/accept/entering.py", "self._begin"): "affects one connection only",
    ("workers/websocket/accept/pending.py", "self._serve_some"): "called while connections wait",
    ("workers/websocket/connection/framing.py", "under.abort"): "affects one connection only",
    (
        "workers/websocket/connection/transport_exchange.py",
        "self.abort",
    ): "affects one connection only",
    ("workers/websocket/accept/entering.py", "exchange.follow"): "affects one connection only",
    ("workers/websocket/process.py", "create_task"): "only waits for an event",
    ("workers/websocket/auth/deny_file.py", "to_thread"): "awaited",
    ("workers/consumer/process.py", "function"): "guarded where it is defined",
    ("workers/runtime.py", "_exit_now"): "ends the process",
    ("workers/runtime.py", "create_task"): "the guard itself",
    ("energyws/logs/writer.py", "self._write"): "catches everything",
    ("energyws/control/admin/in_loop.py", "carry_out"): "the waiting thread gets the exception",
    (
        "energyws/control/admin/in_loop.py",
        "create_task",
    ): "the waiting thread gets the exception",
    ("energyws/control/admin/server.py", "self._serve"): "catches everything",
    ("energyws/control/children/children.py", "self._on_exit"): "keeps an id; a step does the rest",
    ("energyws/control/reload/reloader.py", "create_task"): "logs it, and starts the next reload",
    ("energyws/control/signals.py", "self._note"): "keeps a signal; the loop does the rest",
}

SETTINGS: Final = Settings(kafka=Kafka(brokers="b", topic="t"))


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> list[Logging]:
    """The log settings that were applied, in order; pytest's own logging does not change."""
    adjusted: list[Logging] = []
    monkeypatch.setattr("workers.runtime.writer.adjust", lambda log, process: adjusted.append(log))
    return adjusted


@pytest.fixture
def runtime(logs: list[Logging]) -> Iterator[Runtime]:
    board = Board.create()
    row = board.row(0)
    row[Field.STATE] = State.STARTING
    yield Runtime(SETTINGS, board, row, "worker-0", Path("/"), 0, None)
    board.close()


def test_child_becomes_ready_only_once(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        runtime.ready()
        runtime.ready()
    assert runtime.row[Field.STATE] == State.READY
    assert [record.getMessage() for record in caplog.records] == ["ready"]
    runtime.shut_down(ShutdownMode.RETIRE)
    runtime.ready()
    assert runtime.row[Field.STATE] == State.DRAINING


def test_shutdown_only_becomes_more_urgent(runtime: Runtime) -> None:
    modes: list[ShutdownMode] = []
    runtime.on_shutdown = modes.append
    assert not runtime.drain.is_set()
    for mode in (
        *(ShutdownMode.RETIRE, ShutdownMode.RETIRE),
        *(ShutdownMode.STOP, ShutdownMode.HANDOVER, ShutdownMode.RETIRE),
    ):
        runtime.obey(ShutDown(mode))
    assert runtime.drain.is_set()
    assert modes == [ShutdownMode.RETIRE, ShutdownMode.STOP]
    assert runtime.shutdown_mode is ShutdownMode.STOP


def test_shed_is_passed_on(runtime: Runtime) -> None:
    counts: list[int] = []
    runtime.on_shed = counts.append
    runtime.obey(Shed(7))
    assert counts == [7]


def test_new_settings_are_used_unless_refused(runtime: Runtime) -> None:
    new = replace(SETTINGS, kafka=Kafka(brokers="c", topic="t"))
    seen: list[tuple[Settings, Settings]] = []
    runtime.on_settings = lambda settings: seen.append((runtime.settings, settings))
    runtime.obey(UseSettings(new))
    assert seen == [(SETTINGS, new)]
    assert runtime.settings == new

    def refuse(settings: Settings) -> None:
        raise BootError("no such certificate")

    runtime.on_settings = refuse
    runtime.obey(UseSettings(SETTINGS))
    assert runtime.settings == new
    assert (runtime.row[Field.RELOADS], runtime.row[Field.RELOADS_REFUSED]) == (1, 1)


def test_log_settings_can_change_alone(runtime: Runtime, logs: list[Logging]) -> None:
    runtime.on_settings = lambda settings: pytest.fail("not called")
    log = Logging(format="json")
    runtime.obey(UseLog(log))
    assert logs == [log]
    assert runtime.settings == replace(SETTINGS, log=log)


@pytest.mark.parametrize(
    "code",
    [
        "runtime.crash_on_error(fail)()",
        "threading.Thread(target=runtime.crash_on_error(fail)).start(); time.sleep(60)",
        "asyncio.run(task())",
    ],
    ids=["callback", "thread", "task"],
)
def test_exception_in_guarded_code_ends_the_process(code: str) -> None:
    script = f"""
import asyncio, logging, threading, time
from workers import runtime

def fail():
    raise RuntimeError("broken on purpose")

async def failing():
    fail()

async def task():
    held = runtime.crash_on_error_task(failing())
    await asyncio.sleep(60)

{code}
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30)
    assert done.returncode == ExitCode.FAILURE
    assert b"broken on purpose" in done.stderr


@pytest.mark.parametrize(
    ("ends", "code"),
    [("pass", ExitCode.OK), ("raise BootError('x')", ExitCode.BOOT), ("1 / 0", ExitCode.FAILURE)],
)
def test_child_ends_without_waiting_for_destructors(ends: str, code: ExitCode) -> None:
    # As librdkafka's, of a client with a commit that nobody answers.
    script = f"""
import os, socket, tempfile, time
from pathlib import Path
from energyws.errors import BootError
from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.process.board import Board
from energyws.settings import Kafka, Settings
from energyws.settings_json import dumps
from workers import runtime

class Stuck:
    def __del__(self):
        time.sleep(600)

limited = RateLimitedLog(Log("test"), 600.0)

async def main(given):
    global stuck
    stuck = Stuck()
    limited.info("refused", client=1)
    limited.info("refused", client=2)
    print('main ends', flush=True)
    {ends}

settings = tempfile.TemporaryFile()
settings.write(dumps(Settings(kafka=Kafka(brokers="b", topic="t"))))
settings.flush()
board = Board.create()
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
runtime.run(main, ["--name=worker-0", "--row=0", f"--board-fd={{os.dup(board.descriptor)}}",
    f"--settings-fd={{os.dup(settings.fileno())}}", f"--control-fd={{theirs.detach()}}",
    f"--stacks-fd={{os.memfd_create('stacks')}}", "--bus=/", f"--parent={{os.getppid()}}"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30)
    assert (done.returncode, done.stdout) == (code, b"main ends\n"), done.stderr
    # Nor is a line lost that was held back.
    assert [line.split()[-1] for line in done.stderr.splitlines() if b"refused" in line] == [
        b"client=1",
        b"client=2",
    ]


def is_guard(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) in GUARDS


def callbacks(path: Path) -> Iterator[tuple[str, bool]]:
    """The names of callbacks of loops and threads in a file, and whether each is guarded."""
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
    """The code of the service's processes, without `energyws top` and `energyws status`."""
    yield ROOT / "energyws" / "logs" / "writer.py"
    for tree in ("workers", "energyws/control"):
        yield from (path for path in (ROOT / tree).rglob("*.py") if path.parent.name != "status")


def test_all_code_called_by_a_loop_or_a_thread_is_guarded() -> None:
    unguarded = {
        (str(path.relative_to(ROOT)), name)
        for path in sources()
        for name, guarded in callbacks(path)
        if not guarded
    }
    assert unguarded == set(EXCEPTIONS)
