"""The live subscriptions of a fan-out, each of which gets every frame.

Rules of this file:

1. Nothing is allocated per client and frame: pending frames are joined once, and each client's
   transport is given the same bytes.
2. All live subscriptions stand at the same index of the ring, `boundary`.
3. A live client can be written to: one that pauses leaves at once, so the hot loop checks nothing.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from typing import Final

from energyws.process.board import Field, Row
from energyws.process.counters import AGE, FANOUT
from energyws.protocol.forms import Encode
from energyws.protocol.position import Position, from_offsets
from energyws.stream.ring import Entry, Ring
from workers.websocket.fanout.batch import Batch, join
from workers.websocket.fanout.crowd import Crowd
from workers.websocket.fanout.subscription import FanoutClient, Subscription
from workers.websocket.io_uring.send_queue import SendQueue

# Joining more into one write saves nothing more, and a paused client holds what it was given.
JOIN_BYTES: Final = 256 * 1024


class Live:
    """members: the live subscriptions. encode: as in Fanout; queue: sends to many clients at once.

    sent: the ring's index after the last complete batch.
    """

    def __init__(
        self, ring: Ring, row: Row, encode: Encode | None, queue: SendQueue | None
    ) -> None:
        self.ring = ring
        self.members: dict[FanoutClient, Subscription] = {}
        self.sent = ring.end
        # The position there: the ring may have dropped it by now.
        self._reached = ring.head
        self._row = row
        self._encode = encode
        self._queue = queue
        self._batch: Batch | None = None
        # Of the batch under way: its start (monotonic), and the timestamp of its oldest record.
        self._began = 0.0
        self._oldest_ms = 0
        # Whether the newest batch left frames for the next one.
        self._full = False
        # The members, in the order in which a batch serves them.
        self._crowd = Crowd(queue)

    @property
    def boundary(self) -> int:
        """The ring's index that live subscriptions have reached, once the batch is out."""
        return self.sent if self._batch is None else self._batch.end

    @property
    def reached(self) -> Position:
        """The position there."""
        return self._reached if self._batch is None else self._batch.reached

    @property
    def is_busy(self) -> bool:
        """Whether a batch is under way, or was cut at its limit."""
        return self._batch is not None or (self._full and self.has_news)

    @property
    def wake_at(self) -> float:
        """When there is something to write, though nothing comes: never."""
        return math.inf

    @property
    def has_news(self) -> bool:
        """Whether the ring has frames beyond the last complete batch."""
        return self.sent < self.ring.end

    def place(self, subscription: Subscription) -> tuple[int, Position]:
        """The index and the position of a member: what comes before them was written to it."""
        if self._batch is None or self._batch.waits(subscription):
            return self.sent, self._reached
        return self._batch.end, self._batch.reached

    def pass_over(self) -> None:
        """Nobody is owed what came while nobody was live."""
        if not self.members and self._batch is None:
            self.sent, self._reached = self.ring.end, self.ring.head

    def join(self, subscription: Subscription) -> None:
        """Serve it from the boundary on, with the others."""
        self.members[subscription.client] = subscription
        self._crowd.join(subscription)

    def leave(self, subscription: Subscription) -> None:
        del self.members[subscription.client]
        self._crowd.leave(subscription)

    def backlog(self, subscription: Subscription) -> None:
        """The transport of its client holds bytes: nothing may go past it."""
        self._crowd.backlog(subscription)

    def overtaken(self) -> list[Subscription]:
        """The members, no more live, if more came in one turn than the ring holds."""
        if self._batch is not None or self.sent >= self.ring.first:
            return []
        members = list(self.members.values())
        for subscription in members:
            subscription.cursor = self._reached
        self._dismiss()
        return members

    def begin(self, ring: Ring) -> None:
        """Begin with another ring, and with no members."""
        self.ring = ring
        self._batch = None
        self.sent, self._reached = ring.end, ring.head
        self._dismiss()

    def work(self, writes: int) -> int:
        """Make at most `writes` writes; returns how many are left of them."""
        batch = self._batch
        if batch is None:
            batch = self._next_batch()
            if batch is None:
                return writes
        served = batch.served
        written = batch.send(writes)
        count_writes(self._row, written, batch.frames, len(batch.data))
        if batch.over:
            self.sent = batch.end
            self._reached = batch.reached
            self._batch = None
            observe(self._row, time.monotonic() - self._began, self._oldest_ms)
        return writes - (batch.served - served)

    def _next_batch(self) -> Batch | None:
        ring = self.ring
        self.pass_over()
        if self.sent == ring.end:
            return None
        self._began = time.monotonic()
        entries, end = ring.read(self.sent, ring.end, JOIN_BYTES)
        self._oldest_ms = entries[0].timestamp_ms
        self._full = end < ring.end
        self._crowd.settle()
        self._batch = Batch(
            join([entry.frame for entry in entries], self._encode),
            len(entries),
            end,
            after(self._reached, entries, ring),
            self._crowd,
            # So that no client is always the last one.
            random.randrange(len(self.members)),
        )
        return self._batch

    def _dismiss(self) -> None:
        self.members = {}
        self._crowd = Crowd(self._queue)


def count_writes(row: Row, writes: int, frames: int, size: int) -> None:
    """Count writes, each of so many frames. size: the bytes of each."""
    row.add(Field.WRITES, writes)
    row.add(Field.DELIVERIES, writes * frames)
    row.add(Field.BYTES, writes * size)


def observe(row: Row, seconds: float, oldest_ms: int) -> None:
    """Note how long frames took to go out, and how old the oldest record of them is."""
    FANOUT.observe(row, seconds)
    # A gap's entry has no timestamp; a producer's clock may be ahead of ours.
    if oldest_ms:
        AGE.observe(row, max(0.0, time.time() - oldest_ms / 1000))


def after(reached: Position, entries: Sequence[Entry], ring: Ring) -> Position:
    """The position after these entries, which follow it."""
    offsets = list(reached.offsets)
    offsets.extend([0] * (ring.partitions - len(offsets)))
    for entry in entries:
        offsets[entry.partition] = entry.offset + 1
    return from_offsets(ring.epoch, offsets)
