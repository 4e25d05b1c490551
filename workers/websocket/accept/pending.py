"""Where accepted connections wait until their client has said what it wants.

A crowd connects first and speaks later, all within a moment. Were each connection given to the
event loop when it is accepted, that moment would be one turn of it: libuv takes thousands of
events one after the other (uv__io_poll looks for more up to 48 times) before anything else has
its turn, and with a handshake behind each, records and pongs would wait for half a second. Here
they wait in an epoll instance of their own, which the event loop sees as one descriptor, and so
many of those that can be read are served at a time. A client that says nothing, or never the
whole of it, costs a descriptor and what it has said; a reset is noticed at once.
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from workers.runtime import crash_on_error

# With fewer a crowd takes longer, since each turn may have a round of live delivery, too; with more
# the others wait longer, and it takes no less (measured by bench.storm).
SERVED_PER_TURN: Final = 128
LEAST_PAUSE_SECONDS: Final = 0.1


class PendingConnection:
    """A connection that waits. since: monotonic seconds. heard: it was served before."""

    __slots__ = ("connection", "heard", "since")

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.since = 0.0
        self.heard = False


G = TypeVar("G", bound=PendingConnection)


class PendingConnections(Generic[G]):
    """Calls `serve` with each connection that can be read, or has ended, until it is released.

    patience: seconds after which a connection is closed; of what it has sent by then nothing but
    its first words count. It may be changed, and counts for those who wait already.
    """

    def __init__(
        self,
        serve: Callable[[G], None],
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._serve = serve
        self._patience = patience
        self._clock = clock
        self._epoll = select.epoll()
        # By descriptor, in the order of their times.
        self._waiting: dict[int, G] = {}
        self._nobody = asyncio.Event()
        self._nobody.set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._epoll.fileno(), self._serve_some)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def guests(self) -> list[G]:
        """Who waits now."""
        return list(self._waiting.values())

    @property
    def patience(self) -> float:
        """Seconds until a connection is closed."""
        return self._patience

    @patience.setter
    def patience(self, seconds: float) -> None:
        self._patience = seconds
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._set_timer()

    def wait(self, guest: G) -> None:
        """A connection is ours until it is released."""
        descriptor = guest.connection.fileno()
        guest.since = self._clock()
        self._waiting[descriptor] = guest
        self._nobody.clear()
        self._epoll.register(descriptor, select.EPOLLIN)
        if self._timer is None:
            self._set_timer()

    def renew(self, guest: G) -> None:
        """It has its time anew."""
        descriptor = guest.connection.fileno()
        guest.since = self._clock()
        self._waiting[descriptor] = self._waiting.pop(descriptor)

    def release(self, guest: G) -> None:
        """It does not wait any more: its connection is somebody else's to use or to close."""
        descriptor = guest.connection.fileno()
        del self._waiting[descriptor]
        self._epoll.unregister(descriptor)
        if not self._waiting:
            self._nobody.set()

    def dismiss(self, guest: G) -> None:
        """Close it."""
        self.release(guest)
        guest.connection.close()

    async def emptied(self) -> None:
        """Wait until everybody was released or closed."""
        await self._nobody.wait()

    def close(self) -> None:
        """Close everybody who waits."""
        self._loop.remove_reader(self._epoll.fileno())
        if self._timer is not None:
            self._timer.cancel()
        for guest in self.guests:
            self.dismiss(guest)
        self._epoll.close()

    def _serve_some(self) -> None:
        for descriptor, _ in self._epoll.poll(0, SERVED_PER_TURN):
            guest = self._waiting[descriptor]
            guest.heard = True
            try:
                self._serve(guest)
            except BaseException:
                # It would be served again at once, and fail again.
                if self._waiting.get(descriptor) is guest:
                    self.dismiss(guest)
                raise

    @crash_on_error
    def _close_late(self) -> None:
        late = self._clock() - self._patience
        # Who has spoken and waits for us is not late.
        spoken = {descriptor for descriptor, _ in self._epoll.poll(0, len(self._waiting) + 1)}
        for guest in self.guests:
            if guest.since > late:
                break
            if guest.heard or guest.connection.fileno() not in spoken:
                self.dismiss(guest)
        self._timer = None
        self._set_timer()

    def _set_timer(self) -> None:
        if self._waiting:
            first = next(iter(self._waiting.values()))
            pause = max(first.since + self._patience - self._clock(), LEAST_PAUSE_SECONDS)
            self._timer = self._loop.call_later(pause, self._close_late)
