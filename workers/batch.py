"""One batch of frames on its way to everybody who is live, a slice at a time.

The hot loop calls one bound method after the other from a list, and looks at nothing else: what a
client is, whether it can be written to and what it has are looked up only for those few who pause
or leave before it is their turn. On a machine whose caches hold a few hundred clients, each object
that is not touched counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from energyws.position import Position

Write = Callable[[bytes], None]


class Writable(Protocol):
    """Whoever can be sent bytes."""

    @property
    def write(self) -> Write:
        """Send bytes as they are."""


class Crowd:
    """The clients that were live at one moment, and their writes, in the same order."""

    __slots__ = ("_at", "_clients", "writes")

    def __init__(self, clients: Iterable[Writable]) -> None:
        self._clients = list(clients)
        self._at: dict[Writable, int] | None = None
        self.writes: list[Write] = [client.write for client in self._clients]

    def find(self, client: Writable) -> int | None:
        """Where a client stands; None for one that came later."""
        if self._at is None:
            self._at = {each: at for at, each in enumerate(self._clients)}
        return self._at.get(client)


class Batch:
    """`data`, which is `frames` frames, goes to a crowd; the client at `first` begins.

    end, reached: the index in the ring, and the position, of whoever has it.
    """

    __slots__ = ("_crowd", "_done", "_first", "_vacant", "data", "end", "frames", "reached")

    def __init__(
        self, data: bytes, frames: int, end: int, reached: Position, crowd: Crowd, first: int
    ) -> None:
        self.data = data
        self.frames = frames
        self.end = end
        self.reached = reached
        self._crowd = crowd
        self._first = first
        self._done = 0
        self._vacant: set[int] = set()

    @property
    def over(self) -> bool:
        """Whether everybody had a turn."""
        return self._done == len(self._crowd.writes)

    def take(self, most: int) -> tuple[list[Write], int]:
        """The next writes to make, and how many of them are those of somebody.

        They count as done from here on: a transport that pauses in the middle of its write has
        taken it.
        """
        writes = self._crowd.writes
        count = min(most, len(writes) - self._done)
        begin = (self._first + self._done) % len(writes)
        beyond = begin + count - len(writes)
        turn = writes[begin : begin + count]
        if beyond > 0:
            turn += writes[:beyond]
        vacant = sum((at - begin) % len(writes) < count for at in self._vacant)
        self._done += count
        return turn, count - vacant

    def waits(self, client: Writable) -> bool:
        """Whether it is yet to be this client's turn."""
        at = self._crowd.find(client)
        if at is None or at in self._vacant:
            return False
        return (at - self._first) % len(self._crowd.writes) >= self._done

    def drop(self, client: Writable) -> bool:
        """Leave a client out; whether it was yet to be its turn."""
        if not self.waits(client):
            return False
        at = self._crowd.find(client)
        assert at is not None
        self._crowd.writes[at] = _nowhere
        self._vacant.add(at)
        return True


def _nowhere(data: bytes) -> None:
    """The write of a client that is left out."""
