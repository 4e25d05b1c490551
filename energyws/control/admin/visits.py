"""The connections to the admin port: how many at once, and which one makes way for the next.

A connection waits for its client until its request has arrived, and again until its answer is
taken. Whoever opens many and leaves them there must not keep a probe out: when there is no room,
the address with the most connections that wait loses its oldest one.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(slots=True)
class _Visit:
    address: str
    # Monotonic seconds; None: the service is at work on its answer.
    waits_since: float | None


class Visits:
    """Of at most `most` connections at once, none waits for its client longer than `seconds`.

    For several threads.
    """

    def __init__(
        self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most: Final = most
        self._seconds: Final = seconds
        self._clock: Final = clock
        self._lock = threading.Lock()
        # In the order of their arrival.
        self._open: dict[socket.socket, _Visit] = {}

    def begin(self, connection: socket.socket, address: str) -> bool:
        """Whether there is room for it, if need be after another one has made way."""
        with self._lock:
            if len(self._open) >= self._most and not self._make_room():
                return False
            self._open[connection] = _Visit(address, self._clock())
            return True

    def answering(self, connection: socket.socket) -> bool:
        """Its request has arrived. False: it had to make way."""
        with self._lock:
            if (visit := self._open.get(connection)) is None:
                return False
            visit.waits_since = None
            return True

    def sending(self, connection: socket.socket) -> None:
        """Its answer is about to be sent."""
        with self._lock:
            if (visit := self._open.get(connection)) is not None:
                visit.waits_since = self._clock()

    def end(self, connection: socket.socket) -> None:
        """It is closed."""
        with self._lock:
            self._open.pop(connection, None)

    def drop_overdue(self) -> None:
        """End those whose client has been too slow, byte by byte too; call often."""
        latest = self._clock() - self._seconds
        with self._lock:
            for connection, visit in list(self._open.items()):
                if visit.waits_since is not None and visit.waits_since <= latest:
                    self._drop(connection)

    def _make_room(self) -> bool:
        waiting = [each for each, visit in self._open.items() if visit.waits_since is not None]
        if not waiting:
            return False
        (greediest, _), *_ = Counter(self._open[each].address for each in waiting).most_common(1)
        self._drop(next(each for each in waiting if self._open[each].address == greediest))
        return True

    def _drop(self, connection: socket.socket) -> None:
        del self._open[connection]
        # Its thread then finds the end of the connection, and closes it.
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
