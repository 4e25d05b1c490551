"""The live clients of a fan-out, each in a seat, so that a batch is a walk over arrays.

A client takes its seat when the next batch begins and keeps it at least until that batch is over:
one that leaves meanwhile leaves a vacant seat. Joining and leaving cost the same in any crowd.

With a send queue, most clients are written to behind their transports' backs. The rule that keeps
their bytes in order: a client is *backlogged* from the moment that its transport may hold bytes
that the socket did not take, or has dropped some because it closes; while it is, only its transport
writes to it. FanoutClient.write reports bytes that stay in a transport (Hub.backlogged), and only a
batch, for a client that is backlogged already, writes to one without it; whether they are out is
asked when the next batch comes to the client's seat.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any, Final, Protocol

from workers.websocket.io_uring.send_queue import SendQueue

NO_SEAT: Final = -1
_NO_DESCRIPTOR: Final = -1


class Sink(Protocol):
    """A transport, as aiofastnet makes them."""

    def write_nocheck(self, data: bytes) -> None:
        """Send bytes as they are; calls its protocol's pause_writing when its buffer is full."""

    def get_write_buffer_size(self) -> int:
        """How many bytes the socket has not taken yet."""

    def is_closing(self) -> bool:
        """Whether it drops what is written."""


class Transport(Sink, Protocol):
    """The sink of a live client."""

    def can_write_eof(self) -> bool:
        """Whether there is nothing between it and the socket; TLS cannot close one direction."""

    def get_extra_info(self, name: str) -> Any:
        """Its `socket`, which has a `fileno`."""


class Recipient(Protocol):
    """A client that can be sent bytes."""

    @property
    def sink(self) -> Any:
        """Its transport."""

    def write(self, data: bytes) -> None:
        """Send bytes by its transport; reports it if that cannot send them all at once."""


class Member(Protocol):
    """One of the crowd: a client's subscription.

    seat: written by the crowd alone; NO_SEAT until the client has one.
    """

    seat: int

    @property
    def client(self) -> Recipient:
        """Who gets the frames."""


class Crowd:
    """members, sinks and descriptors: those of the client in each seat.

    queue: sends to many clients at once; None where that is not possible. queued: how many of the
    clients it can serve. vacant, backlogged: sets of seats. send: writes bytes to one of the
    transports, which are of one type as a rule.
    """

    __slots__ = (
        "_joining",
        "backlogged",
        "descriptors",
        "members",
        "queue",
        "queued",
        "send",
        "sinks",
        "vacant",
    )

    def __init__(self, queue: SendQueue | None) -> None:
        self.queue = queue
        self.queued = 0
        self.members: list[Member | None] = []
        self.sinks: list[Any] = []
        self.descriptors = array("i")
        self.vacant: set[int] = set()
        self.backlogged: set[int] = set()
        self.send: Callable[[Any, bytes], None] | None = None
        self._joining: dict[Member, None] = {}

    def __len__(self) -> int:
        """The number of seats."""
        return len(self.members)

    def join(self, member: Member) -> None:
        member.seat = NO_SEAT
        self._joining[member] = None

    def leave(self, member: Member) -> None:
        seat = member.seat
        if seat == NO_SEAT:
            self._joining.pop(member, None)
            return
        member.seat = NO_SEAT
        self._empty(seat)
        self.vacant.add(seat)

    def settle(self) -> None:
        """Fill all seats, without any change to those of clients that keep theirs.

        Only between two batches.
        """
        joining, self._joining = self._joining, {}
        for member in joining:
            if self.vacant:
                seat = self.vacant.pop()
            else:
                seat = len(self.members)
                self.members.append(None)
                self.sinks.append(None)
                self.descriptors.append(_NO_DESCRIPTOR)
            self._seat(member, seat)
        while self.vacant:
            last = len(self.members) - 1
            if last in self.vacant:
                self.vacant.discard(last)
            else:
                mover = self.members[last]
                assert mover is not None
                self._empty(last)
                self._seat(mover, self.vacant.pop())
            del self.members[last], self.sinks[last], self.descriptors[last]

    def backlog(self, member: Member) -> None:
        """This client's transport holds bytes."""
        # Without a seat it is asked when it takes one.
        if self.queue is not None and member.seat != NO_SEAT:
            self.backlogged.add(member.seat)

    def may_pass(self, seat: int) -> bool:
        """Whether bytes for this client may go past its transport."""
        if seat not in self.backlogged:
            return True
        if self.descriptors[seat] == _NO_DESCRIPTOR or is_backlogged(self.sinks[seat]):
            return False
        self.backlogged.discard(seat)
        return True

    def _seat(self, member: Member, seat: int) -> None:
        sink = member.client.sink
        member.seat = seat
        self.members[seat] = member
        self.sinks[seat] = sink
        if self.send is None:
            self.send = type(sink).write_nocheck
        elif self.send is not type(sink).write_nocheck:
            self.send = _send
        if self.queue is not None:
            descriptor = _descriptor(sink)
            self.descriptors[seat] = descriptor
            self.queued += descriptor != _NO_DESCRIPTOR
            self.backlogged.add(seat)
            self.may_pass(seat)

    def _empty(self, seat: int) -> None:
        self.members[seat] = None
        self.sinks[seat] = None
        self.queued -= self.descriptors[seat] != _NO_DESCRIPTOR
        self.descriptors[seat] = _NO_DESCRIPTOR
        self.backlogged.discard(seat)


def is_backlogged(sink: Sink) -> bool:
    """Whether bytes that go past this transport could arrive before, or instead of, others."""
    return sink.get_write_buffer_size() > 0 or sink.is_closing()


def _descriptor(sink: Transport) -> int:
    if not sink.can_write_eof():
        return _NO_DESCRIPTOR
    descriptor: int = sink.get_extra_info("socket").fileno()
    return descriptor


def _send(sink: Sink, data: bytes) -> None:
    sink.write_nocheck(data)
