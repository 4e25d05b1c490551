"""One batch of frames on its way to all live clients, a slice at a time.

The hot loop calls one function with one transport after the other, and touches nothing else: the
client itself is looked up only for the few that pause or leave before their turn. Where the caches
hold a few hundred clients, each object that is not touched counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from energyws.protocol.forms import Encode
from energyws.protocol.position import Position

# Taking references to this many at once lets the processor fetch them side by side; with more, the
# first would be out of its caches again before they are used.
SIDE_BY_SIDE: Final = 16


class Sink(Protocol):
    """A transport, as aiofastnet makes them."""

    def write_nocheck(self, data: bytes) -> None:
        """Send bytes as they are; calls its protocol's pause_writing when its buffer is full."""


class Recipient(Protocol):
    """A client that can be sent bytes."""

    @property
    def sink(self) -> Sink:
        """Its transport."""


class Recipients:
    """The clients that were live at one moment, and their transports, in the same order.

    send: writes bytes to one of the transports. Found once, since one listener's are of one type.
    """

    __slots__ = ("_all", "_at", "send", "sinks")

    def __init__(self, recipients: Iterable[Recipient]) -> None:
        self._all = list(recipients)
        self._at: dict[Recipient, int] | None = None
        self.sinks: list[Sink] = [each.sink for each in self._all]
        kinds = {type(sink) for sink in self.sinks}
        self.send: Callable[[Any, bytes], None] = _send
        if len(kinds) == 1:
            self.send = kinds.pop().write_nocheck

    def find(self, recipient: Recipient) -> int | None:
        """A client's index; None for one that came later."""
        if self._at is None:
            self._at = {each: at for at, each in enumerate(self._all)}
        return self._at.get(recipient)


class Batch:
    """`data`, which holds `frames` frames, for all recipients; the one at index `first` begins.

    end, reached: the index in the ring, and the position, of a client that has it. served: how many
    clients have had their turn.
    """

    __slots__ = ("_first", "_recipients", "_vacant", "data", "end", "frames", "reached", "served")

    def __init__(
        self,
        data: bytes,
        frames: int,
        end: int,
        reached: Position,
        recipients: Recipients,
        first: int,
    ) -> None:
        self.data = data
        self.frames = frames
        self.end = end
        self.reached = reached
        self.served = 0
        self._recipients = recipients
        self._first = first
        self._vacant: set[int] = set()

    @property
    def over(self) -> bool:
        """Whether every client has had its turn."""
        return self.served == len(self._recipients.sinks)

    def send(self, most: int) -> int:
        """Serve the next clients, `most` at most; returns how many were written to."""
        sinks, vacant = self._recipients.sinks, self._vacant
        send, data = self._recipients.send, self.data
        count = min(most, len(sinks) - self.served)
        begin = (self._first + self.served) % len(sinks)
        # They count as served from here on: a transport that pauses during its write has taken it.
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

    def waits(self, recipient: Recipient) -> bool:
        """Whether this client's turn is still to come."""
        at = self._recipients.find(recipient)
        if at is None or at in self._vacant:
            return False
        return (at - self._first) % len(self._recipients.sinks) >= self.served

    def drop(self, recipient: Recipient) -> bool:
        """Leave a client out; returns whether its turn was still to come."""
        if not self.waits(recipient):
            return False
        at = self._recipients.find(recipient)
        assert at is not None
        self._vacant.add(at)
        return True


def join(frames: Sequence[bytes], encode: Encode | None) -> bytes:
    """Frames as one write."""
    # Encoded one by one, so that a client that catches up finds those that went out live.
    return b"".join(map(encode, frames) if encode else frames)


def _send(sink: Sink, data: bytes) -> None:
    sink.write_nocheck(data)
