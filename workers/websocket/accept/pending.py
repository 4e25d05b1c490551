"""Accepted connections wait here until their client has sent its request.

A crowd connects first and sends its requests later, all within a moment. Were each connection given
to the event loop when it is accepted, that moment would be one turn of it: libuv takes thousands of
events one after the other (uv__io_poll looks for more up to 48 times) before anything else has its
turn, and with a handshake behind each, records and pongs would wait for half a second. Here they
wait in an epoll instance of their own, which the event loop sees as one descriptor, and a bounded
number of readable ones is served at a time. A client that sends nothing, or never the whole
request, costs a descriptor and what it has sent; a reset is noticed at once.
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from workers.runtime import crash_on_error

# With fewer a crowd takes longer, since each turn may include a round of live delivery, too; with
# more the others wait longer, and the crowd takes no less (measured by bench.storm).
SERVED_PER_TURN: Final = 128
LEAST_PAUSE_SECONDS: Final = 0.1


class Timer(Protocol):
    """A timer that has been set."""

    def cancel(self) -> None:
        """It will not go off."""


class Clock(Protocol):
    """Time for handshakes: a test brings its own."""

    def time(self) -> float:
        """Monotonic seconds."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Set a timer."""


class LoopClock:
    """The running event loop's timers, by a time that is not frozen for a turn of it."""

    def __init__(self) -> None:
        self.time = time.monotonic
        self.call_later = asyncio.get_running_loop().call_later


class PendingConnection:
    """since: monotonic seconds. heard: it has been served before."""

    __slots__ = ("connection", "heard", "since")

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.since = 0.0
        self.heard = False


P = TypeVar("P", bound=PendingConnection)


class PendingConnections(Generic[P]):
    """Calls `serve` with each connection that can be read, or has ended, until it is released.

    timeout: seconds after which a connection is closed, unless its first bytes have not been served
    yet; later ones do not count. A change applies to the connections that wait, too. dropped:
    called with each connection that is closed here.
    """

    def __init__(
        self,
        serve: Callable[[P], None],
        timeout: float,
        clock: Clock | None = None,
        dropped: Callable[[P], None] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._serve = serve
        self._timeout = timeout
        self._clock = clock or LoopClock()
        self._dropped = dropped
        self._epoll = select.epoll()
        # By descriptor, in the order of their times.
        self._waiting: dict[int, P] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._timer: Timer | None = None
        self._loop.add_reader(self._epoll.fileno(), self._serve_some)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def all(self) -> list[P]:
        return list(self._waiting.values())

    @property
    def timeout(self) -> float:
        """Seconds until a connection is closed."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._timeout = seconds
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._set_timer()

    def add(self, pending: P) -> None:
        """Own a connection until it is released."""
        descriptor = pending.connection.fileno()
        pending.since = self._clock.time()
        self._waiting[descriptor] = pending
        self._empty.clear()
        self._epoll.register(descriptor, select.EPOLLIN)
        if self._timer is None:
            self._set_timer()

    def renew(self, pending: P) -> None:
        """Start a connection's timeout again."""
        descriptor = pending.connection.fileno()
        pending.since = self._clock.time()
        self._waiting[descriptor] = self._waiting.pop(descriptor)

    def release(self, pending: P) -> None:
        """Give up a connection without closing it."""
        descriptor = pending.connection.fileno()
        del self._waiting[descriptor]
        self._epoll.unregister(descriptor)
        if not self._waiting:
            self._empty.set()

    def drop(self, pending: P) -> None:
        self.release(pending)
        pending.connection.close()
        if self._dropped is not None:
            self._dropped(pending)

    async def emptied(self) -> None:
        """Wait until every connection has been released or closed."""
        await self._empty.wait()

    def close(self) -> None:
        self._loop.remove_reader(self._epoll.fileno())
        if self._timer is not None:
            self._timer.cancel()
        for pending in self.all:
            self.drop(pending)
        self._epoll.close()

    def _serve_some(self) -> None:
        for descriptor, _ in self._epoll.poll(0, SERVED_PER_TURN):
            pending = self._waiting[descriptor]
            pending.heard = True
            try:
                self._serve(pending)
            except BaseException:
                # It would be served again at once, and fail again.
                if self._waiting.get(descriptor) is pending:
                    self.drop(pending)
                raise

    @crash_on_error
    def _close_late(self) -> None:
        late = self._clock.time() - self._timeout
        # A connection whose first bytes wait for us is not late.
        readable = {descriptor for descriptor, _ in self._epoll.poll(0, len(self._waiting) + 1)}
        for pending in self.all:
            if pending.since > late:
                break
            if pending.heard or pending.connection.fileno() not in readable:
                self.drop(pending)
        self._timer = None
        self._set_timer()

    def _set_timer(self) -> None:
        if self._waiting:
            first = next(iter(self._waiting.values()))
            pause = max(first.since + self._timeout - self._clock.time(), LEAST_PAUSE_SECONDS)
            self._timer = self._clock.call_later(pause, self._close_late)
