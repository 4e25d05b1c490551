"""`energyws top`: looks at the service every second, shows it, and does what the keys say.

The main thread has the terminal; others ask the service, so that a key never waits for an answer.
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

from energyws.control.admin.client import AdminClient, AdminRequestFailed
from energyws.control.status.keys import Dialog, KeyCommand, characters
from energyws.control.status.model import Document, view
from energyws.control.status.screen import Picture, screen
from energyws.control.status.service import carry_out, look
from energyws.control.status.terminal import Waker, cbreak
from energyws.errors import EnergywsError, ExitCode

LOOK_SECONDS: Final = 1.0
# Rates and quantiles are over so long: long enough for a p99, short enough to see a change.
WINDOW_SECONDS: Final = 5.0
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def run(remote: AdminClient) -> int:
    """Until the operator has enough of it; the exit code. Raises AdminRequestFailed if nobody
    answers."""
    console = Console(highlight=False)
    if not (sys.stdin.isatty() and console.is_terminal) or console.is_dumb_terminal:
        raise EnergywsError(
            "energyws top needs a terminal; for scripts there is: energyws status --json"
        )
    return _Top(remote, console, look(remote)).run()


class _Top:
    def __init__(self, remote: AdminClient, console: Console, first: Document) -> None:
        self._remote = remote
        self._console = console
        # With the time of their coming, the newest last.
        self._seen: deque[tuple[float, Document]] = deque([(time.monotonic(), first)])
        self._trouble: str | None = None
        self._said = ""
        self._dialog = Dialog()
        # What is to be done, and what comes of looking and doing.
        self._commands: queue.SimpleQueue[KeyCommand] = queue.SimpleQueue()
        self._news: queue.SimpleQueue[Document | AdminRequestFailed | str] = queue.SimpleQueue()
        self._stop = threading.Event()

    def run(self) -> int:
        signals = (*_ENDING, signal.SIGWINCH, signal.SIGTSTP)
        with Waker(sys.stdin.fileno(), signals) as self._waker:
            for work in (self._look, self._obey):
                # A request under way ends with the process.
                threading.Thread(target=work, daemon=True).start()
            try:
                while (end := self._show()) is signal.SIGTSTP:
                    os.kill(os.getpid(), signal.SIGSTOP)
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                # The terminal is gone, and with it whoever could be told so.
                end = signal.SIGHUP
            finally:
                self._stop.set()
        return ExitCode.OK if end is None else 128 + end

    def _show(self) -> signal.Signals | None:
        """Until a signal ends it or, None, a key does."""
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
        at, newest = self._seen[-1]
        before = self._seen[0][1] if len(self._seen) > 1 else None
        picture = Picture(
            view(newest, before),
            self._remote.where,
            self._said,
            self._dialog.question,
            self._trouble,
            time.monotonic() - at,
        )
        return screen(picture, *self._console.size)

    def _type(self, keys: str) -> bool:
        """Whether it is the end."""
        for key in characters(keys):
            self._dialog, command = self._dialog.press(key)
            if command is KeyCommand.QUIT:
                return True
            if command is not None:
                self._said = f"{command.value} …"
                self._commands.put(command)
            if self._dialog.asked is not None:
                # What was typed, or pasted, before the question could be read is no answer.
                break
        return False

    def _read_news(self) -> None:
        while not self._news.empty():
            news = self._news.get()
            match news:
                case AdminRequestFailed():
                    self._trouble = str(news)
                case str():
                    self._said = news
                case _:
                    self._trouble = None
                    now = time.monotonic()
                    self._seen.append((now, news))
                    while now - self._seen[0][0] > WINDOW_SECONDS + LOOK_SECONDS / 2:
                        self._seen.popleft()

    # In threads of their own.

    def _look(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self._tell(look(self._remote))
            except AdminRequestFailed as error:
                self._tell(error)

    def _obey(self) -> None:
        while True:
            command = self._commands.get()
            try:
                self._tell(carry_out(self._remote, command))
            except EnergywsError as error:
                # Also of a configuration in which admin.token was looked for.
                self._tell(f"{command.value}: {error}")

    def _tell(self, news: Document | AdminRequestFailed | str) -> None:
        self._news.put(news)
        self._waker.wake()
