"""The shell of every child process: what the supervisor hands over, and what it expects.

Everything here runs in the child. It is told by descriptors, not by the environment or its
arguments, which others can read: the settings hold secrets.
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

from energyws.errors import BootError, ExitCode
from energyws.logs import events, rate_limit, writer
from energyws.process.board import Board, Field, Row, State
from energyws.process.control_messages import (
    Adopt,
    ControlMessage,
    Leave,
    Shed,
    ShutdownMode,
    Write,
    unpack,
)
from energyws.process.counters import LOOP_DELAY
from energyws.settings import Settings, loads

BEAT_SECONDS: Final = 0.25
_PR_SET_PDEATHSIG: Final = 1
_DATAGRAM_BYTES: Final = 1 << 20
_URGENCY: Final = (ShutdownMode.RETIRE, ShutdownMode.HANDOVER, ShutdownMode.STOP)
_Parameters = ParamSpec("_Parameters")

_log = events.Log("process")
_limited = rate_limit.RateLimitedLog(_log, 10.0)


@dataclass(slots=True)
class Runtime:
    """What a child process has been given, and what it is told while it runs.

    drain: set once it is to leave, by the supervisor or by a SIGTERM; departure says how, and may
    become more urgent afterwards: on_departure is told each time. on_shed gets how many clients to
    send away. on_adopt gets new settings, before `settings` has them; it raises BootError for what
    cannot be used, and then the old ones stay. successor: another process does this one's work
    until it is ready.
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
    departure: ShutdownMode | None = None
    on_departure: Callable[[ShutdownMode], None] = field(default=lambda how: None)
    on_shed: Callable[[int], None] = field(default=lambda count: None)
    on_adopt: Callable[[Settings], None] = field(default=lambda settings: None)

    def ready(self) -> None:
        """Tell the supervisor that this process does its work; once more is fine."""
        if self.row[Field.STATE] == State.STARTING:
            self.row[Field.STATE] = State.READY
            _log.info("ready")

    def depart(self, how: ShutdownMode) -> None:
        """Be told to leave; what was more urgent before stays so."""
        if self.departure is None or _URGENCY.index(how) > _URGENCY.index(self.departure):
            self.departure = how
            self.row[Field.STATE] = State.DRAINING
            self.on_departure(how)
            self.drain.set()

    def obey(self, order: ControlMessage) -> None:
        """Do what the supervisor says."""
        match order:
            case Leave(how):
                self.depart(how)
            case Shed(count):
                self.on_shed(count)
            case Adopt(settings):
                self._adopt(settings)
            case Write(form):
                writer.adjust(form, self.name)
                self.settings = replace(self.settings, log=form)

    def _adopt(self, settings: Settings) -> None:
        try:
            self.on_adopt(settings)
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
    """Be a child process: run `main` until it returns, and exit with an ExitCode.

    A BootError in `main` ends it with BOOT, and the supervisor gives up; any other exception with
    FAILURE, and the supervisor tries again.
    """
    options = _parser().parse_args(arguments)
    _end_with(options.parent)
    # SIGABRT, by which the supervisor asks a child that hangs where it stands, and crashes in C.
    faulthandler.enable(options.stacks_fd)
    settings = read_settings(options.settings_fd)
    writer.configure(settings.log, options.name)
    board = Board(options.board_fd)
    row = board.row(options.row)
    row[Field.PID] = os.getpid()
    row[Field.STATE] = State.STARTING

    async def supervised() -> None:
        child = Runtime(
            settings,
            board,
            row,
            options.name,
            options.bus,
            options.slot,
            options.listen_fd,
            options.successor,
        )
        _watch(child, socket.socket(fileno=options.orders_fd))
        await main(child)

    try:
        uvloop.run(supervised())
    except BootError as error:
        _log.error("cannot start", reason=error)
        sys.exit(ExitCode.BOOT)
    except Exception:
        _log.exception("failed")
        sys.exit(ExitCode.FAILURE)
    sys.exit(ExitCode.OK)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Started by the supervisor, not by hand.")
    parser.add_argument("--name", required=True)
    parser.add_argument("--row", type=int, required=True)
    parser.add_argument("--board-fd", type=int, required=True)
    parser.add_argument("--settings-fd", type=int, required=True)
    parser.add_argument("--orders-fd", type=int, required=True)
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
    # Nothing is sent for a parent that had died before.
    if os.getppid() != parent:
        sys.exit(ExitCode.ORPHANED)


def read_settings(descriptor: int) -> Settings:
    """What the supervisor has written into that file; closes it."""
    with open(descriptor, "rb") as file:
        file.seek(0)
        return loads(file.read())


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What goes wrong in callbacks: one line and no traceback, since clients can cause it.

    A TLS handshake that fails is reported here too, by aiofastnet, with a traceback that cannot
    even be printed.
    """
    error = context.get("exception")
    _limited.error(
        "the event loop reports",
        what=str(context.get("message", "")).partition("\n")[0],
        error=type(error).__name__,
        detail=error,
    )


def _watch(child: Runtime, orders: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_report)
    orders.setblocking(False)
    loop.add_reader(orders.fileno(), _on_orders, child, orders)
    loop.add_signal_handler(signal.SIGTERM, _on_terminate, child)
    loop.add_signal_handler(signal.SIGQUIT, _leave_now)
    # Ctrl-C, or a terminal that is closed, reaches the whole group; what it means is the
    # supervisor's decision.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)

    @crash_on_error
    def beat(due: float) -> None:
        now = time.monotonic()
        child.row.add(Field.BEAT)
        late = max(0.0, now - due)
        child.row[Field.LOOP_DELAY_US] = int(late * 1e6)
        LOOP_DELAY.observe(child.row, late)
        rate_limit.flush_suppressed()
        loop.call_later(BEAT_SECONDS, beat, now + BEAT_SECONDS)

    beat(time.monotonic())


def crash_on_error(callback: Callable[_Parameters, None]) -> Callable[_Parameters, None]:
    """For what is called by a loop or a thread: an exception in it ends the process.

    A callback that the event loop calls again and again, or the whole of a thread. An event loop
    reports the exception and goes on, deaf, blind or over a gap, and a thread ends unseen; a
    successor starts in order. `crash_on_error_task` is the same for coroutines.
    """

    @functools.wraps(callback)
    def guarded(*arguments: _Parameters.args, **named: _Parameters.kwargs) -> None:
        try:
            callback(*arguments, **named)
        except Exception:
            _fail()

    return guarded


def crash_on_error_task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that ends the process when it ends with an exception; the caller holds it."""

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
        # Without memory even that may fail.
        os._exit(ExitCode.FAILURE)


@crash_on_error
def _on_orders(child: Runtime, orders: socket.socket) -> None:
    try:
        data = orders.recv(_DATAGRAM_BYTES)
    except (BlockingIOError, InterruptedError):
        return
    if not data:
        # The second line of defence, should the parent-death signal be lost: the other end is
        # closed by the kernel, whatever happens to the supervisor.
        os._exit(ExitCode.ORPHANED)
    child.obey(unpack(data))


@crash_on_error
def _on_terminate(child: Runtime) -> None:
    # Whoever asks a second time means at once; but the supervisor's order is no second time: a
    # process manager may have sent this signal to every process of the service.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _leave_now)
    child.depart(ShutdownMode.RETIRE)


def _leave_now() -> NoReturn:
    logging.shutdown()
    os._exit(ExitCode.OK)
