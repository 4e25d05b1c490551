"""`energyws top`: asks the service every second, shows it, and carries out the keys' commands.

The main thread owns the terminal; other threads do the requests, so that no key waits for one.
"""

from __future__ import annotations

import errno
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from typing import Final

from rich.console import Console, Group
from rich.live import Live

from energyws.control.admin.client import AdminClient
from energyws.control.status.keys import Dialog, KeyCommand, characters
from energyws.control.status.model import Document, view
from energyws.control.status.screen import Picture, screen
from energyws.control.status.service import carry_out, look
from energyws.control.status.terminal import Waker, cbreak
from energyws.errors import EnergywsError, ExitCode

LOOK_SECONDS: Final = 1.0
# The window of rates and quantiles: long enough for a p99, short enough to see a change.
WINDOW_SECONDS: Final = 5.0
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def run(admin: AdminClient) -> int:
    """Run until the operator quits; the exit code. Raises EnergywsError at the start only."""
    console = Console(highlight=False)
    if not (sys.stdin.isatty() and console.is_terminal) or console.is_dumb_terminal:
        raise EnergywsError(
            "energyws top needs a terminal; for scripts there is: energyws status --json"
        )
    return _Top(admin, console, look(admin)).run()


class _Top:
    def __init__(self, admin: AdminClient, console: Console, first: Document) -> None:
        self._admin = admin
        self._console = console
        # With the time of their arrival, the newest last.
        self._documents: deque[tuple[float, Document]] = deque([(time.monotonic(), first)])
        self._failure: str | None = None
        self._outcome = ""
        self._dialog = Dialog()
        # To the other threads, and what they bring back.
        self._commands: queue.SimpleQueue[KeyCommand] = queue.SimpleQueue()
        self._news: queue.SimpleQueue[Document | EnergywsError | str] = queue.SimpleQueue()
        self._stop = threading.Event()

    def run(self) -> int:
        signals = (*_ENDING, signal.SIGWINCH, signal.SIGTSTP)
        with Waker(sys.stdin.fileno(), signals) as self._waker:
            for work in (self._look, self._carry_out):
                # Daemons: a request that is under way must not delay the end.
                threading.Thread(target=work, daemon=True).start()
            try:
                while (end := self._show()) is signal.SIGTSTP:
                    os.kill(os.getpid(), signal.SIGSTOP)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                # The terminal is gone, as with a SIGHUP.
                end = signal.SIGHUP
            finally:
                self._stop.set()
        return ExitCode.OK if end is None else 128 + end

    def _show(self) -> signal.Signals | None:
        """Run until a signal ends it, or a key (None)."""
        with (
            cbreak(sys.stdin.fileno()),
            Live(
                console=self._console,
                screen=True,
                auto_refresh=False,
                redirect_stdout=False,
                redirect_stderr=False,
            ) as live,
        ):
            while True:
                self._read_news()
                live.update(self._picture(), refresh=True)
                keys, signals = self._waker.wait(LOOK_SECONDS)
                for number in signals:
                    if number is not signal.SIGWINCH:
                        return number
                if self._type(keys):
                    return None

    def _picture(self) -> Group:
        at, newest = self._documents[-1]
        before = self._documents[0][1] if len(self._documents) > 1 else None
        picture = Picture(
            view(newest, before),
            self._admin.where,
            self._outcome,
            self._dialog.question,
            self._failure,
            time.monotonic() - at,
        )
        return screen(picture, *self._console.size)

    def _type(self, keys: str) -> bool:
        """Handle keys; whether one of them quits."""
        for key in characters(keys):
            self._dialog, command = self._dialog.press(key)
            if command is KeyCommand.QUIT:
                return True
            if command is not None:
                self._outcome = f"{command.value} …"
                self._commands.put(command)
            if self._dialog.asked is not None:
                # Keys typed or pasted before the question was visible do not answer it.
                break
        return False

    def _read_news(self) -> None:
        while not self._news.empty():
            news = self._news.get()
            match news:
                case EnergywsError():
                    self._failure = str(news)
                case str():
                    self._outcome = news
                case _:
                    self._failure = None
                    now = time.monotonic()
                    self._documents.append((now, news))
                    while now - self._documents[0][0] > WINDOW_SECONDS + LOOK_SECONDS / 2:
                        self._documents.popleft()

    # The methods below run in the other threads.

    def _look(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self._report(look(self._admin))
            except EnergywsError as error:
                # Also a ConfigError, from the file that should have admin.token.
                self._report(error)

    def _carry_out(self) -> None:
        while True:
            command = self._commands.get()
            try:
                self._report(carry_out(self._admin, command))
            except EnergywsError as error:
                self._report(f"{command.value}: {error}")

    def _report(self, news: Document | EnergywsError | str) -> None:
        self._news.put(news)
        self._waker.wake()
