"""When the publisher sends a heartbeat: soon after each change, then more and more rarely.

A frame shows by its sequence number what was lost before it, as a heartbeat does, so a heartbeat
is due only once frames have stopped, and then after twice the pause each time. So a worker that
could not receive anything for a while learns what it has missed after at most twice that time
("variable heartbeats": Holbrook, Singhal, Cheriton, Log-Based Receiver-Reliable Multicast,
SIGCOMM 1995). One a second is sent in any case: it has the heads of all streams, and a worker may
have missed the last one. Times are monotonic seconds.
"""

from __future__ import annotations

from typing import Final

LONGEST_SECONDS: Final = 1.0


class Heartbeats:
    """first: the pause after a change, in seconds. The first heartbeat is due at once."""

    def __init__(self, first: float, now: float) -> None:
        self._first = first
        self._longest = max(first, LONGEST_SECONDS)
        self._pause = first
        self._sent = now
        # Whether a head has moved that no message has told the workers yet.
        self._untold = False
        self.due = now

    def published(self, now: float) -> None:
        """A frame was sent: it takes the place of a heartbeat, unless one has more to tell."""
        self._pause = self._first
        if not self._untold:
            self.due = min(now + self._first, self._sent + self._longest)

    def head_moved(self, now: float) -> None:
        """A head has moved without a frame, past a bad record for instance."""
        self._untold = True
        self.worker_came(now)

    def worker_came(self, now: float) -> None:
        """A worker has connected: it waits for a first message."""
        self._pause = self._first
        self.due = min(self.due, now + self._first)

    def run_announced(self, now: float) -> None:
        """The heartbeat that begins a run was sent."""
        self._untold = False
        self._sent = now
        self.published(now)

    def sent(self, now: float) -> None:
        """A heartbeat was sent."""
        self._untold = False
        self._sent = now
        self.due = now + self._pause
        self._pause = min(2 * self._pause, self._longest)
