"""Where accepted connections wait until their client has said something.

A crowd connects first and speaks later, all within a moment. Were each connection given to the
event loop when it is accepted, that moment would be one turn of it: libuv takes thousands of
events one after the other (uv__io_poll looks for more up to 48 times) before anything else has
its turn, and with a handshake behind each, records and pongs would wait for half a second. Here
they wait in an epoll instance of their own, which the event loop sees as one descriptor, and so
many of those that can be read are let in at a time. Whoever says nothing costs a descriptor.
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections.abc import Callable
from typing import Final

# With fewer a crowd takes longer, since each turn may have a round of live delivery, too; with more
# the others wait longer, and it takes no less (measured by bench.storm).
ADMITTED_PER_TURN: Final = 128
LEAST_PAUSE_SECONDS: Final = 0.1


class Lobby:
    """Hands each connection, with its peer's address, to `admit` once it can be read.

    patience: seconds after which whoever has said nothing is closed.
    """

    def __init__(self, admit: Callable[[socket.socket, str], None], patience: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._admit = admit
        self._patience = patience
        self._epoll = select.epoll()
        # By descriptor, in the order of their deadlines (monotonic seconds).
        self._waiting: dict[int, tuple[socket.socket, str, float]] = {}
        self._nobody = asyncio.Event()
        self._nobody.set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(self._epoll.fileno(), self._admit_some)

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, connection: socket.socket, peer: str) -> None:
        """A connection was accepted; it is ours until it is admitted."""
        descriptor = connection.fileno()
        self._waiting[descriptor] = connection, peer, time.monotonic() + self._patience
        self._nobody.clear()
        self._epoll.register(descriptor, select.EPOLLIN)
        if self._timer is None:
            self._timer = self._loop.call_later(self._patience, self._close_silent)

    async def emptied(self) -> None:
        """Wait until everybody was admitted, or closed for silence."""
        await self._nobody.wait()

    def close(self) -> None:
        """Close everybody who waits."""
        self._loop.remove_reader(self._epoll.fileno())
        if self._timer is not None:
            self._timer.cancel()
        self._epoll.close()
        for connection, _, _ in self._waiting.values():
            connection.close()
        self._waiting.clear()
        self._tell_if_empty()

    def _admit_some(self) -> None:
        for descriptor, _ in self._epoll.poll(0, ADMITTED_PER_TURN):
            self._epoll.unregister(descriptor)
            connection, peer, _ = self._waiting.pop(descriptor)
            self._admit(connection, peer)
        self._tell_if_empty()

    def _close_silent(self) -> None:
        now = time.monotonic()
        # Who has spoken and waits for us is not late.
        spoken = {descriptor for descriptor, _ in self._epoll.poll(0, len(self._waiting) + 1)}
        for descriptor, (connection, _, deadline) in list(self._waiting.items()):
            if deadline > now:
                break
            if descriptor not in spoken:
                del self._waiting[descriptor]
                connection.close()
        self._tell_if_empty()
        self._timer = None
        if self._waiting:
            first = next(deadline for _, _, deadline in self._waiting.values())
            pause = max(first - now, LEAST_PAUSE_SECONDS)
            self._timer = self._loop.call_later(pause, self._close_silent)

    def _tell_if_empty(self) -> None:
        if not self._waiting:
            self._nobody.set()
