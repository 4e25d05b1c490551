"""The subscriptions of one stream that are not live: they catch up from the ring, or from the log.

Each is in one of three places: it is catching up, its transport is paused, or it waits for a chunk
of the log or for more of a snapshot. Those are shared, so what a client costs while it waits is its
position.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Final

from energyws.process.board import Field, Row
from energyws.protocol import messages
from energyws.protocol.forms import Encode
from energyws.protocol.frame_position import covering
from energyws.protocol.messages import OnLag
from energyws.protocol.position import Position
from energyws.stream.fair_queue import QueueFull
from energyws.stream.history import Chunk
from energyws.stream.recovery import resume_from
from energyws.stream.ring import Cursor, Ring, TooSlow
from workers.websocket.fanout.batch import join
from workers.websocket.fanout.history_client import HistoryClient
from workers.websocket.fanout.live import count_writes
from workers.websocket.fanout.subscription import FanoutClient, Subscription
from workers.websocket.pace import Pace
from workers.websocket.snapshots.feed import Feed

CATCH_UP_BYTES: Final = 64 * 1024
# Writing this many bytes takes about as long as one small write.
BYTES_PER_WRITE: Final = 4 * 1024
# The same for bytes that may have to be compressed first.
ENCODED_BYTES_PER_WRITE: Final = 512


class CatchUp:
    """go_live: takes a subscription whose cursor has reached the boundary (see Fanout).

    pace: None: clients are sent as much as they take. scanned: called for each chunk that a
    subscription has been given its part of, with the time.
    """

    def __init__(
        self,
        name: str,
        log: HistoryClient,
        row: Row,
        encode: Encode | None,
        go_live: Callable[[Subscription], None],
        pace: Pace | None = None,
        scanned: Callable[[Subscription, Chunk, float], None] | None = None,
    ) -> None:
        self._name = name
        self._log = log
        self._row = row
        self._encode = encode
        self._go_live = go_live
        self._pace = pace
        self._scanned = scanned
        self._bytes_per_write = ENCODED_BYTES_PER_WRITE if encode else BYTES_PER_WRITE
        self._catching: dict[FanoutClient, Subscription] = {}
        self._paused: dict[FanoutClient, Subscription] = {}
        # Those that have had their share, until the next tick.
        self._resting: dict[FanoutClient, Subscription] = {}
        # Those that wait for more of a snapshot.
        self._unfed: dict[FanoutClient, Subscription] = {}
        # Those whose next chunk has been requested, by where it begins; and where that is.
        self._awaiting: dict[Position, dict[FanoutClient, Subscription]] = {}
        self._awaited: dict[FanoutClient, Position] = {}

    def __len__(self) -> int:
        waiting = len(self._paused) + len(self._resting) + len(self._unfed) + len(self._awaited)
        return len(self._catching) + waiting

    def add(self, subscription: Subscription) -> None:
        """Serve it from its cursor on."""
        self._catching[subscription.client] = subscription

    def add_paused(self, subscription: Subscription) -> None:
        """Keep it until its transport has room again."""
        subscription.paused = True
        self._paused[subscription.client] = subscription

    def find(self, client: FanoutClient) -> Subscription | None:
        """A client's subscription, if it is here."""
        if (position := self._awaited.get(client)) is not None:
            return self._awaiting[position][client]
        for group in (self._catching, self._resting, self._unfed, self._paused):
            if client in group:
                return group[client]
        return None

    def leave(self, client: FanoutClient) -> None:
        position = self._awaited.pop(client, None)
        if position is not None:
            group = self._awaiting[position]
            del group[client]
            if not group:
                del self._awaiting[position]
            self._log.withdraw(client, self._name)
        elif self._catching.pop(client, None) or self._resting.pop(client, None):
            # The chunk that it waited for may be kept for it still.
            self._log.withdraw(client, self._name)
        elif self._paused.pop(client, None) is None:
            self._unfed.pop(client, None)

    def resume_writing(self, client: FanoutClient, ring: Ring, boundary: int) -> None:
        """A client's transport has room again."""
        subscription = self._paused.pop(client, None)
        if subscription is None:
            return
        cursor = subscription.cursor
        if (
            subscription.on_lag is OnLag.LATEST
            and isinstance(cursor, Cursor)
            and subscription.feed is None
        ):
            frames, skipped = cursor.jump_to_newest(self._name, ring, boundary)
            if cursor.skip is not None:
                # The client may be ahead of the frames that it skips.
                frames = _covering(frames, cursor.skip)
            frames = self._released(subscription, cursor, frames, ring, time.monotonic())
            self._write(client, frames)
            self._skipped(subscription, skipped)
        self._catching[client] = subscription

    def arrived(self, position: Position) -> None:
        """The chunk after a position has arrived."""
        self._catching.update(self._no_longer_awaiting(position))

    def failed(self, position: Position) -> None:
        """The chunk after a position cannot be read."""
        for client in self._no_longer_awaiting(position):
            client.history_unavailable()

    def is_busy(self, sent: int) -> bool:
        """Whether a subscription can catch up. sent: the ring's index after the last live frame."""
        return any(
            subscription.feed is not None
            or subscription.holds
            or isinstance(cursor := subscription.cursor, Position)
            or (cursor is not None and cursor.index < sent)
            for subscription in self._catching.values()
        )

    def work(self, writes: int, ring: Ring, boundary: int, now: float) -> int:
        """Make at most `writes` writes; returns how many are left of them."""
        for client, subscription in list(islice(self._catching.items(), writes)):
            if writes <= 0:
                break
            writes -= 1
            # It goes to the end of the queue if it stays in it: every client gets a turn.
            del self._catching[client]
            if not client.writable:
                self.add_paused(subscription)
                # A chunk must not be kept for a client that may never take it.
                self._log.withdraw(client, self._name)
            elif self._pace is not None and not self._pace.may_go_on(client):
                self._resting[client] = subscription
            elif subscription.feed is not None:
                writes -= self._feed(subscription, subscription.feed)
            elif isinstance(subscription.cursor, Position):
                writes -= self._replay_chunk(subscription, subscription.cursor, ring, now)
            else:
                writes -= self._read_ring(subscription, ring, boundary, now)
        return max(writes, 0)

    def tick(self) -> None:
        """Those that rested may go on."""
        self._catching.update(self._resting)
        self._resting = {}

    def clear(self) -> dict[FanoutClient, Subscription]:
        """Forget all subscriptions, and return them."""
        everyone = self._catching | self._paused | self._resting | self._unfed
        for group in self._awaiting.values():
            everyone |= group
        self._catching, self._paused, self._resting, self._unfed = {}, {}, {}, {}
        self._awaiting, self._awaited = {}, {}
        return everyone

    def _no_longer_awaiting(self, position: Position) -> dict[FanoutClient, Subscription]:
        group = self._awaiting.pop(position, {})
        for client in group:
            del self._awaited[client]
        return group

    def _feed(self, subscription: Subscription, feed: Feed) -> int:
        """Write the next piece of a snapshot; returns what that costs, beyond one write."""
        client = subscription.client
        if feed.failed:
            client.history_unavailable()
            return 0
        taken = (0, b"") if feed.over else feed.take(partial(self._fed, client, feed))
        if taken is None:
            self._unfed[client] = subscription
            return 0
        self._catching[client] = subscription
        frames, data = taken
        pieces = [data] if data else []
        if feed.over:
            subscription.feed = None
            # If it fell off the ring meanwhile, the log has what comes next.
            subscription.paused = False
            pieces.append(messages.position(self._name, str(feed.position), had=feed.had))
        if not pieces:
            return 0
        size = sum(map(len, pieces))
        return self._deliver(client, join(pieces, self._encode), frames, size)

    def _fed(self, client: FanoutClient, feed: Feed) -> None:
        """There is more of a snapshot."""
        subscription = self._unfed.get(client)
        if subscription is not None and subscription.feed is feed:
            del self._unfed[client]
            self._catching[client] = subscription

    def _replay_chunk(
        self, subscription: Subscription, position: Position, ring: Ring, now: float
    ) -> int:
        client = subscription.client
        try:
            chunk = self._log.chunk(client, self._name, position)
        except QueueFull:
            client.history_unavailable()
            return 0
        if chunk is None:
            self._awaiting.setdefault(position, {})[client] = subscription
            self._awaited[client] = position
            return 0
        selection = subscription.selection
        subscription.cursor = resume_from(ring, chunk.end, subscription.on_lag, now, selection)
        self._catching[client] = subscription
        pieces, frames = subscription.part(chunk, now)
        cost = 0
        if pieces:
            data = join(pieces, self._encode)
            cost = self._deliver(client, data, frames, sum(map(len, pieces)))
        if self._scanned is not None:
            self._scanned(subscription, chunk, now)
        return cost

    def _read_ring(self, subscription: Subscription, ring: Ring, boundary: int, now: float) -> int:
        client, cursor = subscription.client, subscription.cursor
        assert isinstance(cursor, Cursor)
        if cursor.index < ring.first and (not subscription.paused or client.form.ends):
            # It fell off the ring, though it took everything that we wrote, or is not to be brought
            # up to the present: the log has the rest.
            subscription.cursor = cursor.position(ring)
            self._catching[client] = subscription
            return 0
        subscription.paused = False
        known, begin = cursor.skip, cursor.index
        try:
            frames, skipped = cursor.take(self._name, ring, boundary, CATCH_UP_BYTES, now)
        except TooSlow:
            client.too_slow()
            return 0
        if known is not None and (cursor.skip or cursor.index - begin != len(frames)):
            # The client had some of these records already, or is ahead of the ring.
            frames = _covering(frames, known)
        frames = self._released(subscription, cursor, frames, ring, now)
        self._skipped(subscription, skipped)
        if cursor.index == boundary and cursor.skip is None:
            self._go_live(subscription)
        else:
            self._catching[client] = subscription
        return self._write(client, frames)

    def _released(
        self,
        subscription: Subscription,
        cursor: Cursor,
        frames: list[bytes],
        ring: Ring,
        now: float,
    ) -> list[bytes]:
        """What a subscription gets now that its cursor has found these frames."""
        frames, conflated = subscription.release(frames, now)
        if conflated is None:
            return frames
        self._row.add(Field.CONFLATED, conflated)
        place = str(cursor.position(ring))
        return [*frames, messages.position(self._name, place, conflated)]

    def _skipped(self, subscription: Subscription, frames: int) -> None:
        if frames:
            self._row.add(Field.SKIPPED, frames)
            by_choice = subscription.on_lag is OnLag.LATEST
            subscription.client.skipped(self._name, frames, by_choice)

    def _write(self, client: FanoutClient, frames: Sequence[bytes]) -> int:
        if not frames:
            return 0
        data = join(frames, self._encode)
        return self._deliver(client, data, len(frames), sum(map(len, frames)))

    def _deliver(self, client: FanoutClient, data: bytes, frames: int, size: int) -> int:
        """Write to one client; returns what that costs of a turn's writes, beyond one.

        size: the bytes of the frames before they were encoded.
        """
        client.write(data)
        if self._pace is not None:
            self._pace.sent(client, len(data))
        count_writes(self._row, 1, frames, len(data))
        return size // self._bytes_per_write


def _covering(frames: list[bytes], known: Position) -> list[bytes]:
    """Frames for a client that has all before `known`: it may resume from any of them."""
    for place, frame in enumerate(frames):
        adapted = covering(frame, known)
        if adapted is frame:
            # So do those after it: positions only rise.
            break
        frames[place] = adapted
    return frames
