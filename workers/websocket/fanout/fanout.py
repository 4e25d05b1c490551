"""Fan-out of one stream: every frame to every live subscription, one write per client and turn.

Rules of this package:

1. Nothing here awaits, and nothing is allocated per client and frame: pending frames are joined
   once, and each client's transport is given the same bytes.
2. All live subscriptions stand at the same index, `boundary`. Every other one has a cursor into the
   ring, not a buffer: a slow client costs the same however slow it is.
3. A live client can be written to: one that pauses leaves at once, so the hot loop checks nothing.
4. A turn of the event loop makes a bounded number of writes, then yields; a large write counts as
   several.
5. A client that needs more than the ring holds is replayed from the log, chunk by chunk and only
   while it reads (catch_up.py).
6. Frames are encoded once for all clients of a fan-out, which take one form: the hot loop does
   not know of it.
"""

from __future__ import annotations

import random
import time
from typing import Final, cast

from energyws.process.board import Field, Row
from energyws.process.counters import AGE, FANOUT, RESUMES
from energyws.protocol import frame
from energyws.protocol.forms import Encode
from energyws.protocol.messages import Subscribe, Subscribed, Unrecovered
from energyws.protocol.position import from_offsets
from energyws.stream.history import StartPoint
from energyws.stream.recovery import start_point
from energyws.stream.ring import Cursor, Ring
from workers.websocket.fanout.batch import Batch, join
from workers.websocket.fanout.catch_up import CatchUp
from workers.websocket.fanout.crowd import Crowd
from workers.websocket.fanout.history_client import HistoryClient
from workers.websocket.fanout.pace import Pace
from workers.websocket.fanout.subscription import (
    EndingClient,
    FanoutClient,
    Subscription,
)
from workers.websocket.io_uring.send_queue import SendQueue

# Joining more into one write saves nothing more, and a paused client holds what it was given.
JOIN_BYTES: Final = 256 * 1024


class Fanout:
    """One stream: its ring, and its subscriptions.

    encode: makes the form that its clients take; None: they get the frames as they are.
    queue: sends to many clients at once; None: their transports do.
    pace: that of CatchUp. catch_up: the subscriptions that are not live.
    """

    def __init__(
        self,
        name: str,
        ring: Ring,
        log: HistoryClient,
        row: Row,
        encode: Encode | None = None,
        queue: SendQueue | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.name = name
        self.ring = ring
        self._row = row
        self._encode = encode
        self.catch_up = CatchUp(name, log, row, encode, self._go_live, pace)
        self._sent = ring.end
        # The position of live clients: the ring may have dropped it by now.
        self._reached = ring.head
        self._batch: Batch | None = None
        # Of the batch under way: its start (monotonic), and the timestamp of its oldest record.
        self._began = 0.0
        self._oldest_ms = 0
        # Whether the newest batch left frames for the next one.
        self._full = False
        self._live: dict[FanoutClient, Subscription] = {}
        # The same, in the order in which a batch serves them.
        self._queue = queue
        self._crowd = Crowd(queue)

    @property
    def boundary(self) -> int:
        """The ring's index that live subscriptions have reached, once the batch is out."""
        return self._sent if self._batch is None else self._batch.end

    def subscribe(
        self, client: FanoutClient, request: Subscribe, found: StartPoint | None, now: float
    ) -> Subscribed:
        """Add or replace a client's subscription; returns where it begins.

        found: the log's answer to energyws.stream.recovery.history_request, if there was one.
        """
        self.leave(client)
        subscription = Subscription(client, request.on_lag)
        ring = self.ring
        if not self._live and self._batch is None:
            # No client is owed what came meanwhile, so it is not news to this one either.
            self._sent, self._reached = ring.end, ring.head
        live = ring.head
        reply, subscription.cursor = start_point(self.name, self.ring, live, request, found, now)
        if reply.recovered is not None:
            depth = "memory" if found is None else "log"
            result = "recovered" if reply.reason is None else reply.reason.value.lower()
            RESUMES.count(self._row, depth, result)
        if subscription.cursor is None and self.boundary < ring.end:
            # The live clients have yet to get what came before it.
            subscription.cursor = Cursor(ring.end, live, request.on_lag)
        if subscription.cursor is None:
            self._go_live(subscription)
        else:
            self.catch_up.add(subscription)
        return reply

    def leave(self, client: FanoutClient) -> None:
        subscription = self._live.pop(client, None)
        if subscription is not None:
            self._crowd.leave(subscription)
        else:
            self.catch_up.leave(client)

    def pause_writing(self, client: FanoutClient) -> None:
        subscription = self._live.pop(client, None)
        if subscription is not None:
            missed = self._batch is not None and self._batch.waits(subscription)
            self._crowd.leave(subscription)
            self._fall_behind(subscription, missed)
            client.lagging(self.name)

    def resume_writing(self, client: FanoutClient) -> None:
        self.catch_up.resume_writing(client, self.ring, self.boundary)

    def backlogged(self, client: FanoutClient) -> None:
        """A client's transport holds bytes: nothing may go past it."""
        subscription = self._live.get(client)
        if subscription is not None:
            self._crowd.backlog(subscription)

    def work(self, writes: int, now: float) -> int:
        """Make at most `writes` writes; returns how many are left of them."""
        writes = self._fan_out(writes)
        return self.catch_up.work(writes, self.ring, self.boundary, now) if writes else 0

    def has_news(self) -> bool:
        """Whether the ring has frames beyond the last complete batch."""
        return self._sent < self.ring.end

    def is_busy(self) -> bool:
        """Whether a batch is under way or was cut at its limit, or a subscription can catch up."""
        if self._batch is not None or (self._full and self.has_news()):
            return True
        return self.catch_up.is_busy(self._sent)

    def restart(self, ring: Ring) -> None:
        """The topic was created anew: report the gap, then continue in the new topic's ring."""
        message = frame.lagged(
            self.name,
            None,
            str(self.ring.head),
            str(ring.floor),
            Unrecovered.EPOCH_CHANGED.value,
        )
        encoded = join([message], self._encode)
        subscriptions = self._live | self.catch_up.clear()
        self._start_over(ring)
        for client, subscription in subscriptions.items():
            # To a paused transport, too: these few bytes must come before what follows.
            client.write(encoded)
            self._go_live(subscription)

    def reopen(self, ring: Ring) -> None:
        """This worker has missed more than the consumer remembers: replay the log to everyone."""
        batch = self._batch
        subscriptions = self._live | self.catch_up.clear()
        for subscription in subscriptions.values():
            cursor = subscription.cursor
            if isinstance(cursor, Cursor):
                subscription.cursor = cursor.position(self.ring)
            elif cursor is None:
                reached = self._reached
                if batch is not None and not batch.waits(subscription):
                    reached = batch.reached
                subscription.cursor = reached
        self._start_over(ring)
        for subscription in subscriptions.values():
            self.catch_up.add(subscription)

    def _start_over(self, ring: Ring) -> None:
        self.ring = ring
        self._batch = None
        self._sent = ring.end
        self._reached = ring.head
        self._live = {}
        self._crowd = Crowd(self._queue)

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
            # A gap's entry has no timestamp; a producer's clock may be ahead of ours.
            if self._oldest_ms:
                AGE.observe(self._row, max(0.0, time.time() - self._oldest_ms / 1000))
        return writes - (batch.served - served)

    def _next_batch(self) -> Batch | None:
        ring = self.ring
        if self._sent < ring.first:
            # More came in one turn than the ring holds, which is not the clients' fault.
            for subscription in self._live.values():
                subscription.cursor = self._reached
                self.catch_up.add(subscription)
            self._live = {}
            self._crowd = Crowd(self._queue)
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
        self._crowd.settle()
        self._batch = Batch(
            join([entry.frame for entry in entries], self._encode),
            len(entries),
            end,
            from_offsets(ring.epoch, reached),
            self._crowd,
            # So that no client is always the last one.
            random.randrange(len(self._live)),
        )
        return self._batch

    def _go_live(self, subscription: Subscription) -> None:
        """Serve it from the boundary on, with the other live ones."""
        client = subscription.client
        if client.form.ends:
            reached = self._reached if self._batch is None else self._batch.reached
            cast(EndingClient, client).caught_up(reached)
        elif client.writable:
            subscription.cursor = None
            self._live[client] = subscription
            self._crowd.join(subscription)
        else:
            self._fall_behind(subscription, missed=False)

    def _fall_behind(self, subscription: Subscription, missed: bool) -> None:
        """Keep a paused client at its place. missed: it will not get the batch under way."""
        if self._batch is None or missed:
            index, position = self._sent, self._reached
        else:
            index, position = self._batch.end, self._batch.reached
        subscription.cursor = Cursor(index, position, subscription.on_lag)
        self.catch_up.add_paused(subscription)
