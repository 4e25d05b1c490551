"""One batch of frames on its way to all live clients, a slice at a time.

The hot loops touch nothing but the crowd's arrays: a descriptor, or a transport. The client itself
is looked up only for the few that pause or leave before their turn, or whose transports must write.
Where the caches hold a few hundred clients, each object that is not touched counts.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final, cast

from energyws.protocol.forms import Encode
from energyws.protocol.position import Position
from workers.websocket.fanout.crowd import NO_SEAT, Crowd, Member, Recipient
from workers.websocket.io_uring.send_queue import ENTRIES, SendQueue

# Taking references to this many at once lets the processor fetch them side by side; with more, the
# first would be out of its caches again before they are used.
SIDE_BY_SIDE: Final = 16
# For fewer, one system call for all costs more than one for each.
LEAST_QUEUED: Final = 8


class Batch:
    """`data`, which holds `frames` frames, for a crowd that has settled; seat `first` begins.

    end, reached: the index in the ring, and the position, of a client that has it. served: how many
    seats have had their turn.
    """

    __slots__ = ("_crowd", "_first", "_size", "data", "end", "frames", "reached", "served")

    def __init__(
        self, data: bytes, frames: int, end: int, reached: Position, crowd: Crowd, first: int
    ) -> None:
        self.data = data
        self.frames = frames
        self.end = end
        self.reached = reached
        self.served = 0
        self._crowd = crowd
        self._size = len(crowd)
        self._first = first

    @property
    def over(self) -> bool:
        """Whether every client has had its turn."""
        return self.served == self._size

    def waits(self, member: Member) -> bool:
        """Whether this client's turn is still to come."""
        seat = member.seat
        return seat != NO_SEAT and (seat - self._first) % self._size >= self.served

    def send(self, most: int) -> int:
        """Serve the next seats, `most` at most; returns how many clients were written to."""
        size, queue = self._size, self._crowd.queue
        if queue is not None and (queue.failure is not None or not self._crowd.queued):
            queue = None
        count = min(most, size - self.served)
        begin = (self._first + self.served) % size
        # They count as served from here on: a transport that pauses during its write has taken it.
        self.served += count
        written = 0
        for start, stop in ((begin, min(begin + count, size)), (0, begin + count - size)):
            if queue is None:
                written += self._send_one_by_one(start, stop)
            elif stop - start < LEAST_QUEUED:
                written += self._send_by_transports(self._occupied(start, stop))
            else:
                written += self._send_queued(queue, start, stop)
        return written

    def _send_one_by_one(self, start: int, stop: int) -> int:
        crowd, data = self._crowd, self.data
        sinks, vacant, send = crowd.sinks, crowd.vacant, crowd.send
        assert send is not None
        written = 0
        for at in range(start, stop, SIDE_BY_SIDE):
            near = sinks[at : min(at + SIDE_BY_SIDE, stop)]
            if vacant:
                near = [sinks[seat] for seat in range(at, at + len(near)) if seat not in vacant]
            for sink in near:
                send(sink, data)
            written += len(near)
        return written

    def _send_queued(self, queue: SendQueue, start: int, stop: int) -> int:
        crowd, data = self._crowd, self.data
        send = crowd.send
        assert send is not None
        written = 0
        for at in range(start, stop, ENTRIES):
            end = min(at + ENTRIES, stop)
            seats: Sequence[int] = range(at, end)
            if _any_in(seats, crowd.vacant) or _any_in(seats, crowd.backlogged):
                free: list[int] = []
                for seat in self._occupied(at, end):
                    if crowd.may_pass(seat):
                        free.append(seat)
                    else:
                        # Not by its client, which would report a backlog that is known.
                        send(crowd.sinks[seat], data)
                        written += 1
                seats = free
                descriptors = array("i", [crowd.descriptors[seat] for seat in seats])
            else:
                descriptors = crowd.descriptors[at:end]
            written += len(seats)
            short = [
                (self._client(seats[nth]), taken) for nth, taken in queue.send(descriptors, data)
            ]
            for client, taken in short:
                # A view, which transports take for bytes: all who do not read now hold the same.
                client.write(cast(bytes, memoryview(data)[taken:]))
        return written

    def _send_by_transports(self, seats: Sequence[int]) -> int:
        for seat in seats:
            self._client(seat).write(self.data)
        return len(seats)

    def _occupied(self, start: int, stop: int) -> Sequence[int]:
        vacant = self._crowd.vacant
        return [seat for seat in range(start, stop) if seat not in vacant]

    def _client(self, seat: int) -> Recipient:
        member = self._crowd.members[seat]
        assert member is not None
        return member.client


def _any_in(seats: Sequence[int], of: set[int]) -> bool:
    return bool(of) and not of.isdisjoint(seats)


def join(frames: Sequence[bytes], encode: Encode | None) -> bytes:
    """Frames as one write."""
    # Encoded one by one, so that a client that catches up finds those that went out live.
    return b"".join(map(encode, frames) if encode else frames)
