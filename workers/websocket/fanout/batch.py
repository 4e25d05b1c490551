"""One batch of frames on its way to everybody who is live, a slice at a time.

The hot loop calls one function with one transport after the other, and looks at nothing else: what
a client is, whether it can be written to and what it has are looked up only for those few who
pause or leave before it is their turn. On a machine whose caches hold a few hundred clients, each
object that is not touched counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from energyws.protocol.position import Position

# Taking references to so many at once lets the processor fetch them side by side; of more of them
# the first would be out of its caches again before they are used.
SIDE_BY_SIDE: Final = 16


class Sink(Protocol):
    """A transport, as aiofastnet has them."""

    def write_nocheck(self, data: bytes) -> None:
        """Send bytes as they are; calls pause_writing of its protocol when it has taken enough."""


class Recipient(Protocol):
    """Whoever can be sent bytes."""

    @property
    def sink(self) -> Sink:
        """Its transport."""


class Crowd:
    """The clients that were live at one moment, and their transports, in the same order.

    send: writes bytes to one of the transports. Found once, since one listener's are of one type.
    """

    __slots__ = ("_at", "_members", "send", "sinks")

    def __init__(self, members: Iterable[Recipient]) -> None:
        self._members = list(members)
        self._at: dict[Recipient, int] | None = None
        self.sinks: list[Sink] = [member.sink for member in self._members]
        kinds = {type(sink) for sink in self.sinks}
        self.send: Callable[[Any, bytes], None] = _send
        if len(kinds) == 1:
            self.send = kinds.pop().write_nocheck

    def find(self, member: Recipient) -> int | None:
        """Where a client stands; None for one that came later."""
        if self._at is None:
            self._at = {each: at for at, each in enumerate(self._members)}
        return self._at.get(member)


class Batch:
    """`data`, which is `frames` frames, goes to a crowd; the client at `first` begins.

    end, reached: the index in the ring, and the position, of whoever has it. served: how many have
    had their turn.
    """

    __slots__ = ("_crowd", "_first", "_vacant", "data", "end", "frames", "reached", "served")

    def __init__(
        self, data: bytes, frames: int, end: int, reached: Position, crowd: Crowd, first: int
    ) -> None:
        self.data = data
        self.frames = frames
        self.end = end
        self.reached = reached
        self.served = 0
        self._crowd = crowd
        self._first = first
        self._vacant: set[int] = set()

    @property
    def over(self) -> bool:
        """Whether everybody had a turn."""
        return self.served == len(self._crowd.sinks)

    def send(self, most: int) -> int:
        """The next clients' turn, at most so many; returns how many were written to."""
        sinks, vacant = self._crowd.sinks, self._vacant
        send, data = self._crowd.send, self.data
        count = min(most, len(sinks) - self.served)
        begin = (self._first + self.served) % len(sinks)
        # They count as served from here on: a transport that pauses in the middle of its write has
        # taken it.
        self.served += count
        written = 0
        for start, stop in ((begin, begin + count), (0, begin + count - len(sinks))):
            for at in range(start, min(stop, len(sinks)), SIDE_BY_SIDE):
                near = sinks[at : min(at + SIDE_BY_SIDE, stop)]
                if vacant:
                    places = range(at, at + len(near))
                    near = [sinks[place] for place in places if place not in vacant]
                for sink in near:
                    send(sink, data)
                written += len(near)
        return written

    def waits(self, member: Recipient) -> bool:
        """Whether it is yet to be this client's turn."""
        at = self._crowd.find(member)
        if at is None or at in self._vacant:
            return False
        return (at - self._first) % len(self._crowd.sinks) >= self.served

    def drop(self, member: Recipient) -> bool:
        """Leave a client out; whether it was yet to be its turn."""
        if not self.waits(member):
            return False
        at = self._crowd.find(member)
        assert at is not None
        self._vacant.add(at)
        return True


def _send(sink: Sink, data: bytes) -> None:
    sink.write_nocheck(data)
