"""What every child process has in common: its start, its heartbeat, and control messages.

Settings come through a descriptor, not through the environment or the arguments, which other users
can read: they hold secrets.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import faulthandler
import functools
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, NoReturn, ParamSpec

import uvloop

from energyws.errors import BootError, EnergywsError, ExitCode
from energyws.logs import events, rate_limit, writer
from energyws.process.board import Board, Field, Row, State
from energyws.process.control_messages import (
    ControlMessage,
    Shed,
    ShutDown,
    ShutdownMode,
    UseLog,
    UseSettings,
    UseTicketKeys,
    unpack,
)
from energyws.process.counters import LOOP_DELAY
from energyws.settings import Settings
from energyws.settings_json import loads

BEAT_SECONDS: Final = 0.25
_PR_SET_PDEATHSIG: Final = 1
_DATAGRAM_BYTES: Final = 1 << 20
_URGENCY: Final = (ShutdownMode.RETIRE, ShutdownMode.HANDOVER, ShutdownMode.STOP)
_Parameters = ParamSpec("_Parameters")

_log = events.Log("process")
_limited = rate_limit.RateLimitedLog(_log, 10.0)


class ChildFailed(EnergywsError):
    """The child cannot go on, and has logged why: a new process may."""


@dataclass(slots=True)
class Runtime:
    """What a child process got at its start, and how it reacts to control messages.

    drain: set when the child must leave, by a control message or a SIGTERM. shutdown_mode: how to
    leave; it may become more urgent later, and on_shutdown is called each time. on_shed is called
    with the number of clients to send away. on_settings is called with new settings, before
    `settings` has them; if it raises BootError, the old settings stay. on_ticket_keys is called
    with new keys for TLS session tickets. successor: until this process is ready, another one does
    its work.
    """

    settings: Settings
    board: Board
    row: Row
    name: str
    bus_directory: Path
    slot: int | None
    listen_fd: int | None
    successor: bool = False
    drain: asyncio.Event = field(default_factory=asyncio.Event)
    shutdown_mode: ShutdownMode | None = None
    on_shutdown: Callable[[ShutdownMode], None] = field(default=lambda mode: None)
    on_shed: Callable[[int], None] = field(default=lambda count: None)
    on_settings: Callable[[Settings], None] = field(default=lambda settings: None)
    on_ticket_keys: Callable[[bytes], None] = field(default=lambda keys: None)

    def ready(self) -> None:
        """Show the supervisor that this process serves; may be called again."""
        if self.row[Field.STATE] == State.STARTING:
            self.row[Field.STATE] = State.READY
            _log.info("ready")

    def shut_down(self, mode: ShutdownMode) -> None:
        """Begin to leave, unless the child leaves already in this or a more urgent mode."""
        if self.shutdown_mode is None or _URGENCY.index(mode) > _URGENCY.index(self.shutdown_mode):
            self.shutdown_mode = mode
            self.row[Field.STATE] = State.DRAINING
            self.on_shutdown(mode)
            self.drain.set()

    def obey(self, message: ControlMessage) -> None:
        """Do what the supervisor asks."""
        match message:
            case ShutDown(mode):
                self.shut_down(mode)
            case Shed(count):
                self.on_shed(count)
            case UseSettings(settings):
                self._use_settings(settings)
            case UseLog(log):
                writer.adjust(log, self.name)
                self.settings = replace(self.settings, log=log)
            case UseTicketKeys(keys):
                self.on_ticket_keys(bytes.fromhex(keys))

    def _use_settings(self, settings: Settings) -> None:
        try:
            self.on_settings(settings)
        except BootError as error:
            self.row.add(Field.RELOADS_REFUSED)
            _log.error("reload refused: going on as before", reason=error)
            return
        writer.adjust(settings.log, self.name)
        self.settings = settings
        self.row.add(Field.RELOADS)


def run(
    main: Callable[[Runtime], Awaitable[None]], arguments: Sequence[str] | None = None
) -> NoReturn:
    """Run `main` in this child process until it returns, and exit with an ExitCode.

    A BootError in `main` exits with BOOT, upon which the supervisor ends the service; any other
    exception with FAILURE, upon which the supervisor starts the child again.

    The process then ends without the interpreter's own end: that would destroy what is left, and
    librdkafka's destructor waits for a commit without an answer, for ever if the service may not
    use its group.
    """
    options = _parser().parse_args(arguments)
    _end_with(options.parent)
    # For SIGABRT, which the supervisor sends to a child that hangs, and for crashes in C.
    faulthandler.enable(options.stacks_fd)
    settings = read_settings(options.settings_fd)
    writer.configure(settings.log, options.name)
    board = Board(options.board_fd)
    row = board.row(options.row)
    row[Field.PID] = os.getpid()
    row[Field.STATE] = State.STARTING

    async def supervised() -> None:
        runtime = Runtime(
            settings,
            board,
            row,
            options.name,
            options.bus,
            options.slot,
            options.listen_fd,
            options.successor,
        )
        _attach(runtime, socket.socket(fileno=options.control_fd))
        await main(runtime)

    code = ExitCode.OK
    try:
        uvloop.run(supervised())
    except BootError as error:
        _log.error("cannot start", reason=error)
        code = ExitCode.BOOT
    except ChildFailed:
        code = ExitCode.FAILURE
    except Exception:
        _log.exception("failed")
        code = ExitCode.FAILURE
    _exit_now(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Started by the supervisor, not by hand.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--row", type=int, required=True)
    parser.add_argument("--board-fd", type=int, required=True)
    parser.add_argument("--settings-fd", type=int, required=True)
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--stacks-fd", type=int, required=True)
    parser.add_argument("--bus", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--slot", type=int)
    parser.add_argument("--listen-fd", type=int)
    parser.add_argument("--successor", action="store_true")
    return parser


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when its supervisor dies (prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    # The kernel sends no signal if the parent has died before this call.
    if os.getppid() != parent:
        sys.exit(ExitCode.ORPHANED)


def read_settings(descriptor: int) -> Settings:
    """The settings in the supervisor's file; closes the descriptor."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        return loads(file.read())


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an exception in a callback in one line, without a traceback: clients can cause it.

    aiofastnet also reports TLS handshakes that fail here, with a traceback that cannot be printed.
    """
    error = context.get("exception")
    _limited.error(
        "the event loop reports",
        what=str(context.get("message", "")).partition("\n")[0],
        error=type(error).__name__,
        detail=error,
    )


def _attach(runtime: Runtime, control: socket.socket) -> None:
    """Let the loop receive control messages and signals, and beat."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_report)
    control.setblocking(False)
    loop.add_reader(control.fileno(), _on_control_message, runtime, control)
    loop.add_signal_handler(signal.SIGTERM, _on_terminate, runtime)
    loop.add_signal_handler(signal.SIGQUIT, _exit_now)
    # Ctrl-C, or a terminal that is closed, signals the whole process group: only the supervisor
    # reacts to it.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)

    @crash_on_error
    def beat(due: float) -> None:
        now = time.monotonic()
        runtime.row.add(Field.BEAT)
        late = max(0.0, now - due)
        runtime.row[Field.LOOP_DELAY_US] = int(late * 1e6)
        LOOP_DELAY.observe(runtime.row, late)
        rate_limit.flush_suppressed()
        loop.call_later(BEAT_SECONDS, beat, now + BEAT_SECONDS)

    beat(time.monotonic())


def crash_on_error(callback: Callable[_Parameters, None]) -> Callable[_Parameters, None]:
    """Decorator of a loop's callback or a thread's function: an exception ends the child.

    Otherwise an event loop logs the exception and carries on without that callback, or with records
    missing, and a thread ends unnoticed; a new process starts clean. `crash_on_error_task` does the
    same for coroutines.
    """

    @functools.wraps(callback)
    def guarded(*arguments: _Parameters.args, **named: _Parameters.kwargs) -> None:
        try:
            callback(*arguments, **named)
        except Exception:
            _fail()

    return guarded


def crash_on_error_task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task whose exception ends the process; the caller must keep a reference to it."""

    async def guarded() -> None:
        try:
            await work
        except Exception:
            _fail()

    return asyncio.get_running_loop().create_task(guarded())


def _fail() -> NoReturn:
    try:
        _log.exception("failed")
        logging.shutdown()
    finally:
        # Logging may fail too, for instance for want of memory.
        os._exit(ExitCode.FAILURE)


@crash_on_error
def _on_control_message(runtime: Runtime, control: socket.socket) -> None:
    try:
        data = control.recv(_DATAGRAM_BYTES)
    except (BlockingIOError, InterruptedError):
        return
    if not data:
        # In case the parent-death signal was lost: however the supervisor ends, the kernel closes
        # its end.
        os._exit(ExitCode.ORPHANED)
    runtime.obey(unpack(data))


@crash_on_error
def _on_terminate(runtime: Runtime) -> None:
    # A second SIGTERM ends the child at once. A SIGTERM after the supervisor's control message does
    # not: a process manager may have sent it to every process of the service.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _exit_now)
    runtime.shut_down(ShutdownMode.RETIRE)


def _exit_now(code: ExitCode = ExitCode.OK) -> NoReturn:
    rate_limit.flush_suppressed(at_once=True)
    logging.shutdown()
    os._exit(code)
