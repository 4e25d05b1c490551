"""Fan-out of one stream to subscriptions that get some of its keys, and are told where they are.

A client whose keys are quiet would fall ever further behind in what it knows of the stream. So it
is sent `position` messages: at times, after a ping of its own, while it waits for a scan of the
log, and last before it is sent away.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Final, cast

from energyws.process.board import Field, Row
from energyws.protocol.forms import Encode
from energyws.protocol.keys import EVERYTHING
from energyws.protocol.messages import Subscribe, Subscribed
from energyws.protocol.position import Position
from energyws.stream.history import Chunk, StartPoint
from energyws.stream.ring import Cursor, Ring
from workers.websocket.fanout.fanout import Fanout
from workers.websocket.fanout.groups import KeyedSubscription, SlowGroup
from workers.websocket.fanout.history_client import HistoryClient
from workers.websocket.fanout.keyed_live import KeyedLive
from workers.websocket.fanout.subscription import EndingClient, FanoutClient, Subscription
from workers.websocket.io_uring.send_queue import SendQueue
from workers.websocket.pace import Pace
from workers.websocket.snapshots.feed import Feed

# A client that goes live need not be told its position if it has heard of what came since then.
RECENT_SECONDS: Final = 5.0
# A client that waits for a scan of the log is told no more often.
SCAN_SECONDS: Final = 1.0


class KeyedFanout(Fanout):
    """encode_from: as in KeyedLive."""

    def __init__(
        self,
        name: str,
        ring: Ring,
        log: HistoryClient,
        row: Row,
        encode: Encode | None = None,
        queue: SendQueue | None = None,
        pace: Pace | None = None,
        encode_from: int = 1,
    ) -> None:
        self.keyed = KeyedLive(name, ring, row, encode, queue, encode_from)
        # A client that catches up gets frames that nobody else needs.
        alone = encode if encode_from == 1 else None
        super().__init__(
            name, ring, log, row, alone, queue, pace, live=self.keyed, scanned=self._scanned
        )

    def subscribe(
        self,
        client: FanoutClient,
        request: Subscribe,
        found: StartPoint | None,
        now: float,
        feed: Feed | None = None,
        left: Position | None = None,
    ) -> Subscribed:
        reply = super().subscribe(client, request, found, now, feed, left)
        if (keys := request.filters.get(self.name)) is not None:
            reply = replace(reply, keys=len(keys))
        subscription = self.catch_up.find(client)
        if subscription is not None:
            told_at = self._heard(subscription, reply.position)
            cast(KeyedSubscription, subscription).told_at = told_at
        return reply

    def place(self, client: FanoutClient) -> Position | None:
        subscription = cast(KeyedSubscription | None, self.catch_up.find(client))
        if subscription is not None and subscription.holds:
            pending = subscription.group.pending
            assert pending is not None
            assert pending.start is not None
            return pending.start[1]
        return super().place(client)

    def tell(self, client: FanoutClient) -> None:
        """Tell a client where it is, if it is live, and not where it was told last."""
        subscription = self.live.members.get(client)
        if subscription is not None:
            position = self.keyed.tell(cast(KeyedSubscription, subscription))
            self._tell(client, position)

    def last_word(self, client: FanoutClient) -> bytes | None:
        """What a client is to be told before it is sent away: where it is."""
        position: Position | None = None
        if client in self.live.members:
            live = cast(KeyedSubscription, self.live.members[client])
            if live.group.pending is not None and live.group.pending.frames:
                return self.keyed.flush(live, last=True)
            position = self.keyed.tell(live)
        elif (subscription := self.catch_up.find(client)) is not None and not subscription.feed:
            # Amid a snapshot it has no position to come back to.
            position = self.place(client)
        if position is None:
            return None
        self._row.add(Field.POSITIONS_SENT)
        return self.keyed.message(position)

    def restart(self, ring: Ring) -> None:
        for member in self.keyed.held():
            # It waits for the gap no longer than the others.
            member.client.write(self.keyed.flush(member))
        super().restart(ring)

    def tick(self, position_seconds: float) -> None:
        """To be called about once a second. position_seconds: as in settings.Server."""
        self.keyed.tick(position_seconds)

    def _subscription(self, client: FanoutClient, request: Subscribe) -> Subscription:
        keys = request.filters.get(self.name, EVERYTHING)
        if request.max_rate is None:
            group = self.keyed.groups.group(keys)
        else:
            group = SlowGroup(keys, 1 / request.max_rate)
        return KeyedSubscription(client, request.on_lag, group)

    def _go_live(self, subscription: Subscription) -> None:
        keyed, now = cast(KeyedSubscription, subscription), time.monotonic()
        if subscription.cursor is None:
            # Its client has just been told where it begins.
            keyed.told_at = now
        if keyed.group.pending is not None:
            # It may hold frames of the log, if that is of another topic now.
            keyed.group.pending.drop()
        owed = subscription.client.writable and now - keyed.told_at > RECENT_SECONDS
        if owed:
            # Its group need not be told again because of it.
            keyed.told_at = now
        super()._go_live(subscription)
        if owed and subscription.client in self.live.members:
            self.keyed.owe(keyed)

    def _scanned(self, subscription: Subscription, chunk: Chunk, now: float) -> None:
        """A client has its part of a chunk."""
        self._row.add(Field.SCAN_RECORDS, chunk.frames)
        client, keyed = subscription.client, cast(KeyedSubscription, subscription)
        if client.form.ends:
            cast(EndingClient, client).scanned(chunk.end)
            return
        pending, ends = keyed.group.pending, isinstance(keyed.cursor, Cursor)
        conflated = 0 if pending is None else pending.conflated
        # Else it is told where it is behind what it holds.
        tells = not keyed.holds and (conflated or ends or now - keyed.told_at >= SCAN_SECONDS)
        if tells:
            if pending is not None:
                pending.conflated = 0
            self._tell(client, chunk.end, conflated)
        if tells or ends:
            keyed.told_at = self._heard(keyed, str(chunk.end))

    def _heard(self, subscription: Subscription, position: str) -> float:
        """A time when a client that was told this position now had heard of all that had come."""
        cursor, ring = subscription.cursor, self.ring
        if not isinstance(cursor, Cursor) or position == str(ring.head):
            return time.monotonic()
        # What it has not heard of may have no frame.
        return ring.added_at(cursor.index) if ring.first <= cursor.index < ring.end else -math.inf

    def _tell(self, client: FanoutClient, position: Position | None, conflated: int = 0) -> None:
        if position is not None:
            client.write(self.keyed.message(position, conflated))
            self._row.add(Field.POSITIONS_SENT)
