"""The demo's screen in a terminal: draws the model, reads keys, leaves the terminal as it was."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.live import Live

from energyws.control.status.keys import characters
from energyws.control.status.model import ProcessView
from energyws.control.status.terminal import cbreak
from energyws.demo.screen.links import Links
from energyws.demo.screen.model import Model
from energyws.demo.screen.picture import Overlay, Picture, screen

DRAW_SECONDS: Final = 0.25
_READ_BYTES: Final = 64
_OVERLAYS: Final[dict[str, Overlay]] = {"?": "help", "u": "links"}
_QUIT: Final = "q"
_KILL: Final = "p"


def is_possible(console: Console) -> bool:
    """Whether this process has a terminal to itself, and somebody to look at it."""
    # Not console.is_terminal: FORCE_COLOR makes that true for a pipe.
    if not (sys.stdin.isatty() and sys.stdout.isatty()) or console.is_dumb_terminal:
        return False
    # In the background the kernel would stop whoever changes the terminal's settings. Where there
    # is no job control (ENOTTY), nobody is in the background.
    with contextlib.suppress(OSError):
        if os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp():
            return False
    return not os.environ.get("CI")


class Screen:
    """kill_worker: kills the worker of this process id; False if there is none any more."""

    def __init__(
        self,
        console: Console,
        model: Model,
        links: Links,
        kill_worker: Callable[[int], bool],
        log: str,
        remarks: Sequence[str],
    ) -> None:
        self._console = console
        self._model = model
        self._links = links
        self._kill_worker = kill_worker
        self._log = log
        self._remarks = remarks
        self._overlay: Overlay | None = None
        self._outcome = ""
        self._wake = asyncio.Event()
        self._suspended = False
        self._over = False

    async def run(self) -> None:
        """Return when the user quits, or the terminal is gone."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self._wake.set)
        loop.add_signal_handler(signal.SIGTSTP, self._suspend)
        try:
            while not self._over:
                try:
                    with self._terminal() as live:
                        await self._draw(live)
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    # The terminal is gone.
                    return
                if self._suspended:
                    self._suspended = False
                    # Stops here; goes on when the shell sends SIGCONT.
                    os.kill(os.getpid(), signal.SIGSTOP)
        finally:
            loop.remove_signal_handler(signal.SIGWINCH)
            loop.remove_signal_handler(signal.SIGTSTP)

    @contextlib.contextmanager
    def _terminal(self) -> Iterator[Live]:
        loop = asyncio.get_running_loop()
        keys = sys.stdin.fileno()
        with cbreak(keys):
            loop.add_reader(keys, self._read, keys)
            try:
                with Live(
                    console=self._console,
                    screen=True,
                    auto_refresh=False,
                    redirect_stdout=False,
                    redirect_stderr=False,
                ) as live:
                    yield live
            finally:
                loop.remove_reader(keys)

    async def _draw(self, live: Live) -> None:
        loop = asyncio.get_running_loop()
        while not (self._over or self._suspended):
            picture = Picture(
                self._model.view(loop.time(), time.time()),
                self._links,
                self._log,
                self._remarks,
                self._overlay,
                self._outcome,
            )
            live.update(screen(picture, *self._console.size), refresh=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAW_SECONDS):
                    await self._wake.wait()
            self._wake.clear()

    def _suspend(self) -> None:
        self._suspended = True
        self._wake.set()

    def _read(self, keys: int) -> None:
        try:
            data = os.read(keys, _READ_BYTES)
        except OSError:
            data = b""
        # The terminal is gone.
        self._over = self._over or not data
        for key in characters(data.decode("ascii", "replace")):
            self._press(key)
        self._wake.set()

    def _press(self, key: str) -> None:
        if key == _QUIT:
            self._over = True
        elif key == _KILL:
            self._overlay = None
            self._outcome = self._kill()
        else:
            asked = _OVERLAYS.get(key)
            # The same key, or any other one, leads back.
            self._overlay = None if asked == self._overlay else asked

    def _kill(self) -> str:
        victims = self._model.victims()
        if not victims:
            return "no worker is ready: wait a moment"
        victim: ProcessView = random.choice(victims)
        if victim.pid is None or not self._kill_worker(victim.pid):
            return f"{victim.name} has just ended by itself: try again"
        now = asyncio.get_running_loop().time()
        self._model.kill(victim, now, time.time())
        return ""
