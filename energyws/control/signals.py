"""The signals of the service, and whether SIGHUP means "reload" or "your terminal is gone"."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from collections.abc import Callable
from typing import Final

# Each has a method `handle_...` of the supervisor.
HANDLED: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGUSR2,
)


class Signals:
    """Notes signals; the loop handles them later. wake: called when there is one."""

    def __init__(self, loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._noted: list[signal.Signals] = []
        for number in HANDLED:
            loop.add_signal_handler(number, self._note, number)

    def take(self) -> list[signal.Signals]:
        """The signals since the last call."""
        noted, self._noted = self._noted, []
        return noted

    def _note(self, number: signal.Signals) -> None:
        self._noted.append(number)
        self._wake()


class Terminal:
    """The controlling terminal, held open to see whether it is closed; a daemon has none."""

    def __init__(self) -> None:
        try:
            self._descriptor = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            self._descriptor = -1

    def gone(self) -> bool:
        """Whether there was one, and it has been closed."""
        if self._descriptor < 0:
            return False
        poll = select.poll()
        poll.register(self._descriptor, 0)
        return any(event & select.POLLHUP for _, event in poll.poll(0))

    def close(self) -> None:
        """Close our descriptor of it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
