"""The shell of every child process: what the supervisor hands over, and what it expects.

Everything here runs in the child. It is told by descriptors, not by the environment or its
arguments, which others can read: the settings hold secrets.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import functools
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn, ParamSpec

import uvloop

from energyws import log
from energyws.board import Board, Field, Row, State
from energyws.errors import BootError, ExitCode
from energyws.settings import Settings, loads

BEAT_SECONDS: Final = 0.25
_PR_SET_PDEATHSIG: Final = 1
_Parameters = ParamSpec("_Parameters")

_log = log.Log("process")
_reports = log.Limited(10.0)


@dataclass(frozen=True, slots=True)
class Child:
    """What a child process has been given. `drain` is set by the first SIGTERM."""

    settings: Settings
    board: Board
    row: Row
    name: str
    bus_directory: Path
    slot: int | None
    listen_fd: int | None
    drain: asyncio.Event = field(default_factory=asyncio.Event)

    def ready(self) -> None:
        """Tell the supervisor that this process does its work; once more is fine."""
        if self.row[Field.STATE] == State.STARTING:
            self.row[Field.STATE] = State.READY
            _log.info("ready")


def run(
    main: Callable[[Child], Awaitable[None]], arguments: Sequence[str] | None = None
) -> NoReturn:
    """Be a child process: run `main` until it returns, and exit with an ExitCode.

    A BootError in `main` ends it with BOOT, and the supervisor gives up; any other exception with
    FAILURE, and the supervisor tries again.
    """
    options = _parser().parse_args(arguments)
    _end_with(options.parent)
    settings = _read_settings(options.settings_fd)
    log.configure(settings.log, options.name)
    board = Board(options.board_fd)
    row = board.row(options.row)
    row[Field.PID] = os.getpid()
    row[Field.STATE] = State.STARTING

    async def supervised() -> None:
        child = Child(
            settings, board, row, options.name, options.bus, options.slot, options.listen_fd
        )
        _watch(child, options.lifeline_fd)
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
    parser.add_argument("--lifeline-fd", type=int, required=True)
    parser.add_argument("--bus", type=Path, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--slot", type=int)
    parser.add_argument("--listen-fd", type=int)
    return parser


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when its supervisor dies (prctl(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    # Nothing is sent for a parent that had died before.
    if os.getppid() != parent:
        sys.exit(ExitCode.ORPHANED)


def _read_settings(descriptor: int) -> Settings:
    with open(descriptor, "rb") as file:
        file.seek(0)
        return loads(file.read())


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What goes wrong in callbacks: one line and no traceback, since clients can cause it.

    A TLS handshake that fails is reported here too, by aiofastnet, with a traceback that cannot
    even be printed.
    """
    if (held := _reports.ready()) is not None:
        error = context.get("exception")
        _log.error(
            "the event loop reports",
            what=str(context.get("message", "")).partition("\n")[0],
            error=type(error).__name__,
            detail=error,
            held_back=held,
        )


def _watch(child: Child, lifeline: int) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_report)
    # The second line of defence, should the parent-death signal be lost: its end is closed by
    # the kernel, whatever happens to the supervisor.
    loop.add_reader(lifeline, os._exit, ExitCode.ORPHANED)
    loop.add_signal_handler(signal.SIGTERM, _on_terminate, child)
    loop.add_signal_handler(signal.SIGQUIT, _leave_now)
    # Ctrl-C, or a terminal that is closed, reaches the whole group; what it means is the
    # supervisor's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def beat(due: float) -> None:
        now = time.monotonic()
        child.row.add(Field.BEAT)
        child.row[Field.LOOP_DELAY_US] = max(0, int((now - due) * 1e6))
        loop.call_later(BEAT_SECONDS, beat, now + BEAT_SECONDS)

    beat(time.monotonic())


def _on_terminate(child: Child) -> None:
    if child.drain.is_set():
        _leave_now()
    child.row[Field.STATE] = State.DRAINING
    child.drain.set()


def vital(callback: Callable[_Parameters, None]) -> Callable[_Parameters, None]:
    """For callbacks through which records pass: an exception in one ends the process.

    An event loop reports it and goes on, deaf or over a gap; whoever comes next starts in order.
    """

    @functools.wraps(callback)
    def guarded(*arguments: _Parameters.args, **named: _Parameters.kwargs) -> None:
        try:
            callback(*arguments, **named)
        except Exception:
            try:
                _log.exception("failed")
                logging.shutdown()
            finally:
                # Without memory even that may fail.
                os._exit(ExitCode.FAILURE)

    return guarded


def _leave_now() -> NoReturn:
    logging.shutdown()
    os._exit(ExitCode.OK)
