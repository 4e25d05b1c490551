"""Fan-out of one stream: every frame to every live subscription, one write per client and turn.

Rules of this file:

1. Nothing here awaits, and nothing is allocated per client and frame: the frames that wait are
   joined once, and each client's transport is given the same bytes.
2. Live subscriptions all stand at one place, `boundary`. Whoever stands elsewhere has a cursor
   into the ring, not a buffer: a slow client costs the same however slow it is.
3. Who is live can be written to: whoever pauses leaves at once, so the hot loop asks nothing.
4. A turn of the event loop makes a bounded number of writes, then lets others have theirs; a
   large one counts as several.
5. Whoever wants more than the ring holds is replayed from the log, chunk by chunk and only while
   it takes them. A chunk is shared, so what a client costs meanwhile is its position.
6. What is compressed is so for all clients of one fan-out, and once: neither they nor the hot loop
   know of it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from itertools import islice
from typing import Final, Protocol

from energyws.process.board import Field, Row
from energyws.process.counters import AGE, FANOUT, RESUMES
from energyws.protocol import frame
from energyws.protocol.deflate import Compressor
from energyws.protocol.messages import OnLag, Subscribe, Subscribed, Unrecovered
from energyws.protocol.position import Position, from_offsets
from energyws.stream.fair_queue import QueueFull
from energyws.stream.history import Chunk, StartPoint
from energyws.stream.recovery import StartsAt, resume_from, start_point
from energyws.stream.ring import Cursor, Ring, TooSlow
from workers.websocket.fanout.batch import Batch, Crowd, Sink

# Joining more into one write saves nothing any more, and a paused client holds what it was given.
JOIN_BYTES: Final = 256 * 1024
CATCH_UP_BYTES: Final = 64 * 1024
# So many bytes take about as long as one small write.
BYTES_PER_WRITE: Final = 4 * 1024
# The same where they have to be compressed, and nobody did it before.
SHRUNK_BYTES_PER_WRITE: Final = 512


class FanoutClient(Protocol):
    """A connection, as the hub sees it.

    writable: False while its transport is paused, and for ever once it closes.
    compressed: it takes compressed frames.
    """

    writable: bool
    compressed: bool

    @property
    def subject(self) -> str:
        """Whose it is: clients of one subject share its turns with the log."""

    @property
    def sink(self) -> Sink:
        """Its transport."""

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""

    def subscribed(self, streams: dict[str, Subscribed]) -> None:
        """Tell it where its subscriptions begin, before the first frame of theirs."""

    def too_slow(self) -> None:
        """Close it: it fell off the ring and had asked to be disconnected then."""

    def unavailable(self) -> None:
        """Close it: what it asked back cannot be read at present."""

    def lags(self, stream: str) -> None:
        """It was live, and takes no more for now."""

    def skipped(self, stream: str, frames: int, by_choice: bool) -> None:
        """So many frames were left out, because it is too slow; it may want it so."""


class ChunkSource(Protocol):
    """What lies further back than the ring."""

    def chunk(self, asker: FanoutClient, stream: str, position: Position) -> Chunk | None:
        """The chunk after a position; None: it has been asked for. Raises QueueFull."""

    def withdraw(self, asker: FanoutClient, stream: str) -> None:
        """A client wants nothing of a stream's log any more, for now."""


class Subscription:
    """One client's wish for one stream.

    cursor: its place in the ring, or in the log while it is replayed; None while it is live.
    paused: its client could not be written to since the cursor was last used.
    """

    __slots__ = ("client", "cursor", "on_lag", "paused")

    def __init__(self, client: FanoutClient, on_lag: OnLag) -> None:
        self.client = client
        self.on_lag = on_lag
        self.cursor: StartsAt = None
        self.paused = False


class Fanout:
    """One stream: its ring, and who is where in it.

    shrink: makes the form of the frames that its clients get; None: as they are.
    """

    def __init__(
        self, name: str, ring: Ring, log: ChunkSource, row: Row, shrink: Compressor | None = None
    ) -> None:
        self.name = name
        self.ring = ring
        self._log = log
        self._row = row
        self._shrink = shrink
        self._bytes_per_write = SHRUNK_BYTES_PER_WRITE if shrink else BYTES_PER_WRITE
        self._sent = ring.end
        # What live clients have: the ring may have let go of it by now.
        self._reached = ring.head
        self._batch: Batch | None = None
        # Of the batch under way: when it began, and the timestamp of its oldest record.
        self._began = 0.0
        self._oldest_ms = 0
        # Whether the newest batch took less than there was.
        self._full = False
        self._live: dict[FanoutClient, Subscription] = {}
        # The live ones; None once others are.
        self._crowd: Crowd | None = None
        self._catching: dict[FanoutClient, Subscription] = {}
        self._behind: dict[FanoutClient, Subscription] = {}
        # Those whose next chunk has been asked for, by where it begins; and where that is.
        self._awaiting: dict[Position, dict[FanoutClient, Subscription]] = {}
        self._awaited: dict[FanoutClient, Position] = {}

    @property
    def boundary(self) -> int:
        """The index at which live subscriptions stand, or will once the batch is out."""
        return self._sent if self._batch is None else self._batch.end

    @property
    def lagging(self) -> int:
        """How many subscriptions are not live."""
        return len(self._catching) + len(self._behind) + len(self._awaited)

    def subscribe(
        self, client: FanoutClient, request: Subscribe, found: StartPoint | None, now: float
    ) -> Subscribed:
        """Add or replace a client's subscription; says where it begins.

        found: the answer to energyws.stream.recovery.question.
        """
        self.leave(client)
        subscription = Subscription(client, request.on_lag)
        ring = self.ring
        if not self._live and self._batch is None:
            # Nobody waits for what came meanwhile, so it is not news for this one either.
            self._sent, self._reached = ring.end, ring.head
        live = ring.head
        told, subscription.cursor = start_point(self.name, self.ring, live, request, found, now)
        if told.recovered is not None:
            depth = "memory" if found is None else "log"
            result = "recovered" if told.reason is None else told.reason.value.lower()
            RESUMES.count(self._row, depth, result)
        if subscription.cursor is None and self.boundary < ring.end:
            # The others have yet to get what came before it.
            subscription.cursor = Cursor(ring.end, live, request.on_lag)
        if subscription.cursor is None:
            self._go_live(subscription)
        else:
            self._catching[client] = subscription
        return told

    def leave(self, client: FanoutClient) -> None:
        """Forget a client."""
        if self._live.pop(client, None) is not None:
            self._crowd = None
            if self._batch is not None:
                self._batch.drop(client)
            return
        position = self._awaited.pop(client, None)
        if position is not None:
            group = self._awaiting[position]
            del group[client]
            if not group:
                del self._awaiting[position]
            self._log.withdraw(client, self.name)
        elif self._catching.pop(client, None) is not None:
            # It may not have taken yet what it waited for.
            self._log.withdraw(client, self.name)
        else:
            self._behind.pop(client, None)

    def pause_writing(self, client: FanoutClient) -> None:
        """A client's transport takes no more."""
        subscription = self._live.pop(client, None)
        if subscription is not None:
            self._crowd = None
            missed = self._batch is not None and self._batch.drop(client)
            self._fall_behind(subscription, missed)
            client.lags(self.name)

    def resume_writing(self, client: FanoutClient) -> None:
        """A client's transport has room again."""
        subscription = self._behind.pop(client, None)
        if subscription is None:
            return
        cursor = subscription.cursor
        if subscription.on_lag is OnLag.LATEST and isinstance(cursor, Cursor):
            frames, skipped = cursor.jump_to_newest(self.name, self.ring, self.boundary)
            self._write(client, frames)
            self._skipped(subscription, skipped)
        self._catching[client] = subscription

    def arrived(self, position: Position) -> None:
        """The chunk after a position can be had now."""
        self._catching.update(self._no_longer_awaiting(position))

    def failed(self, position: Position) -> None:
        """The chunk after a position cannot be had."""
        for client in self._no_longer_awaiting(position):
            client.unavailable()

    def work(self, writes: int, now: float) -> int:
        """Make at most `writes` writes; returns how many are left of them."""
        writes = self._fan_out(writes)
        return self._catch_up(writes, now) if writes else 0

    def has_news(self) -> bool:
        """Whether there are frames that nobody has been sent yet."""
        return self._sent < self.ring.end

    def is_busy(self) -> bool:
        """Whether a batch is under way or could not be larger, or somebody can catch up."""
        if self._batch is not None or (self._full and self.has_news()):
            return True
        return any(
            isinstance(cursor, Position) or (cursor is not None and cursor.index < self._sent)
            for cursor in (subscription.cursor for subscription in self._catching.values())
        )

    def restart(self, ring: Ring) -> None:
        """The topic is another one now: own up to the break, then go on in its ring."""
        message = frame.lagged(
            self.name,
            None,
            str(self.ring.head),
            str(ring.floor),
            Unrecovered.EPOCH_CHANGED.value,
        )
        everyone = self._everyone()
        self._start_over(ring)
        for client, subscription in everyone.items():
            # A paused transport takes these few bytes too: they must come before what follows.
            client.write(message)
            self._go_live(subscription)

    def reopen(self, ring: Ring) -> None:
        """This worker has missed more than the consumer remembers: everybody is replayed."""
        batch = self._batch
        places: dict[Subscription, Position] = {}
        for subscription in self._everyone().values():
            cursor = subscription.cursor
            if isinstance(cursor, Cursor):
                places[subscription] = cursor.position(self.ring)
            elif cursor is not None:
                places[subscription] = cursor
            elif batch is None or batch.waits(subscription.client):
                places[subscription] = self._reached
            else:
                places[subscription] = batch.reached
        self._start_over(ring)
        for subscription, position in places.items():
            subscription.cursor = position
            self._catching[subscription.client] = subscription

    def _no_longer_awaiting(self, position: Position) -> dict[FanoutClient, Subscription]:
        waited = self._awaiting.pop(position, {})
        for client in waited:
            del self._awaited[client]
        return waited

    def _everyone(self) -> dict[FanoutClient, Subscription]:
        everyone = {**self._live, **self._catching, **self._behind}
        for group in self._awaiting.values():
            everyone |= group
        return everyone

    def _start_over(self, ring: Ring) -> None:
        self.ring = ring
        self._batch = None
        self._sent = ring.end
        self._reached = ring.head
        self._crowd = None
        self._live, self._catching, self._behind = {}, {}, {}
        self._awaiting, self._awaited = {}, {}

    def _fan_out(self, writes: int) -> int:
        batch = self._batch
        if batch is None:
            batch = self._next_batch()
            if batch is None:
                return writes
        served = batch.served
        written = batch.send(writes)
        self._row.add(Field.WRITES, written)
        self._row.add(Field.DELIVERIES, written * batch.frames)
        self._row.add(Field.BYTES, written * len(batch.data))
        if batch.over:
            self._sent = batch.end
            self._reached = batch.reached
            self._batch = None
            FANOUT.observe(self._row, time.monotonic() - self._began)
            # A mark for a gap has no time of its own; a producer's clock may be ahead.
            if self._oldest_ms:
                AGE.observe(self._row, max(0.0, time.time() - self._oldest_ms / 1000))
        return writes - (batch.served - served)

    def _next_batch(self) -> Batch | None:
        ring = self.ring
        if self._sent < ring.first:
            # More came in one turn than the ring holds. That is no client's fault.
            for client, subscription in self._live.items():
                subscription.cursor = self._reached
                self._catching[client] = subscription
            self._live = {}
            self._crowd = None
        if not self._live:
            self._sent = ring.end
            self._reached = ring.position_at(ring.end)
        if self._sent == ring.end:
            return None
        self._began = time.monotonic()
        entries, end = ring.read(self._sent, ring.end, JOIN_BYTES)
        self._oldest_ms = entries[0].timestamp_ms
        self._full = end < ring.end
        reached = list(self._reached.offsets)
        reached.extend([0] * (len(ring.head.offsets) - len(reached)))
        for entry in entries:
            reached[entry.partition] = entry.offset + 1
        if self._crowd is None:
            self._crowd = Crowd(self._live)
        self._batch = Batch(
            self._join([entry.frame for entry in entries]),
            len(entries),
            end,
            from_offsets(ring.epoch, reached),
            self._crowd,
            # Nobody is always the last one.
            random.randrange(len(self._live)),
        )
        return self._batch

    def _go_live(self, subscription: Subscription) -> None:
        """From the boundary on it gets what everybody gets."""
        if subscription.client.writable:
            subscription.cursor = None
            self._live[subscription.client] = subscription
            self._crowd = None
        else:
            self._fall_behind(subscription, missed=False)

    def _fall_behind(self, subscription: Subscription, missed: bool) -> None:
        """missed: the batch under way does not reach it."""
        if self._batch is None or missed:
            index, position = self._sent, self._reached
        else:
            index, position = self._batch.end, self._batch.reached
        subscription.cursor = Cursor(index, position, subscription.on_lag)
        subscription.paused = True
        self._behind[subscription.client] = subscription

    def _catch_up(self, writes: int, now: float) -> int:
        for client, subscription in list(islice(self._catching.items(), writes)):
            if writes <= 0:
                break
            writes -= 1
            # To the end of the queue, unless it leaves it: everybody gets a turn.
            del self._catching[client]
            if not client.writable:
                subscription.paused = True
                self._behind[client] = subscription
                # What it waited for must not be kept for a client that may never take it.
                self._log.withdraw(client, self.name)
            elif isinstance(subscription.cursor, Position):
                writes -= self._replay_chunk(client, subscription, subscription.cursor, now)
            else:
                writes -= self._read_ring(client, subscription, now)
        return max(writes, 0)

    def _replay_chunk(
        self, client: FanoutClient, subscription: Subscription, position: Position, now: float
    ) -> int:
        try:
            chunk = self._log.chunk(client, self.name, position)
        except QueueFull:
            client.unavailable()
            return 0
        if chunk is None:
            self._awaiting.setdefault(position, {})[client] = subscription
            self._awaited[client] = position
            return 0
        place, _ = resume_from(self.ring, chunk.end, subscription.on_lag, now)
        subscription.cursor = place
        self._catching[client] = subscription
        if not chunk.data:
            return 0
        data = self._shrink(chunk.data) if self._shrink else chunk.data
        return self._deliver(client, data, chunk.frames, len(chunk.data))

    def _read_ring(self, client: FanoutClient, subscription: Subscription, now: float) -> int:
        cursor = subscription.cursor
        assert isinstance(cursor, Cursor)
        if cursor.index < self.ring.first and not subscription.paused:
            # It fell off the ring, though it took all that we gave it.
            subscription.cursor = cursor.position(self.ring)
            self._catching[client] = subscription
            return 0
        subscription.paused = False
        boundary = self.boundary
        try:
            frames, skipped = cursor.take(self.name, self.ring, boundary, CATCH_UP_BYTES, now)
        except TooSlow:
            client.too_slow()
            return 0
        self._skipped(subscription, skipped)
        if cursor.index == boundary and cursor.skip is None:
            self._go_live(subscription)
        else:
            self._catching[client] = subscription
        return self._write(client, frames)

    def _skipped(self, subscription: Subscription, frames: int) -> None:
        if frames:
            self._row.add(Field.SKIPPED, frames)
            by_choice = subscription.on_lag is OnLag.LATEST
            subscription.client.skipped(self.name, frames, by_choice)

    def _write(self, client: FanoutClient, frames: Sequence[bytes]) -> int:
        if not frames:
            return 0
        return self._deliver(client, self._join(frames), len(frames), sum(map(len, frames)))

    def _join(self, frames: Sequence[bytes]) -> bytes:
        # Compressed one by one, so that whoever catches up finds those that went out live.
        return b"".join(map(self._shrink, frames) if self._shrink else frames)

    def _deliver(self, client: FanoutClient, data: bytes, frames: int, size: int) -> int:
        """Write to one client; returns what a turn is charged for it beyond one write.

        size: the bytes of the frames before any compression.
        """
        client.write(data)
        self._row.add(Field.WRITES)
        self._row.add(Field.DELIVERIES, frames)
        self._row.add(Field.BYTES, len(data))
        return size // self._bytes_per_write
