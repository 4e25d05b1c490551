"""The terminal that the service was started from, if any: is it still there?

SIGHUP asks a daemon to read its configuration again, and tells a program in a terminal that the
terminal is gone. The terminal itself knows which of the two it is.
"""

from __future__ import annotations

import os
import select


class Terminal:
    """The controlling terminal, held open. A service without one never loses it."""

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
        """Let go of it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
