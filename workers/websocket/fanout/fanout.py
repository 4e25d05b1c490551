"""Fan-out of one stream: every frame to every live subscription, one write per client and turn.

Rules of this package:

1. Nothing here awaits. A turn of the event loop makes a bounded number of writes, then yields; a
   large write counts as several.
2. Live subscriptions get frames as they come (live.py). Every other one has a cursor into the ring,
   not a buffer: a slow client costs the same however slow it is.
3. A client that needs more than the ring holds is replayed from the log, chunk by chunk and only
   while it reads (catch_up.py).
4. Frames are encoded once for all clients of a fan-out, which take one form: the hot loop does
   not know of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

from energyws.process.board import Row
from energyws.process.counters import RESUMES
from energyws.protocol import frame
from energyws.protocol.forms import Encode
from energyws.protocol.messages import Subscribe, Subscribed, Unrecovered
from energyws.protocol.position import Position
from energyws.stream.history import Chunk, StartPoint
from energyws.stream.recovery import after_snapshot, cursor_at, resume_from, start_point
from energyws.stream.ring import Cursor, Ring
from workers.websocket.fanout.batch import join
from workers.websocket.fanout.catch_up import CatchUp
from workers.websocket.fanout.history_client import HistoryClient
from workers.websocket.fanout.live import Live
from workers.websocket.fanout.subscription import (
    EndingClient,
    FanoutClient,
    Subscription,
)
from workers.websocket.io_uring.send_queue import SendQueue
from workers.websocket.pace import Pace
from workers.websocket.snapshots.feed import Feed


class LiveSubscriptions(Protocol):
    """See Live, which serves those to everything."""

    members: dict[FanoutClient, Subscription]
    sent: int

    @property
    def boundary(self) -> int: ...

    @property
    def reached(self) -> Position: ...

    @property
    def is_busy(self) -> bool: ...

    @property
    def wake_at(self) -> float: ...

    @property
    def has_news(self) -> bool: ...

    def place(self, subscription: Subscription) -> tuple[int, Position]: ...

    def pass_over(self) -> None: ...

    def join(self, subscription: Subscription) -> None: ...

    def leave(self, subscription: Subscription) -> None: ...

    def backlog(self, subscription: Subscription) -> None: ...

    def overtaken(self) -> list[Subscription]: ...

    def begin(self, ring: Ring) -> None: ...

    def work(self, writes: int) -> int: ...


class Fanout:
    """One stream: its ring, and its subscriptions.

    encode: makes the form that its clients take; None: they get the frames as they are.
    queue: sends to many clients at once; None: their transports do. pace, scanned: those of
    CatchUp. live, catch_up: the subscriptions that are live, and those that are not.
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
        *,
        live: LiveSubscriptions | None = None,
        scanned: Callable[[Subscription, Chunk, float], None] | None = None,
    ) -> None:
        self.name = name
        self.ring = ring
        self.live = live or Live(ring, row, encode, queue)
        self.catch_up = CatchUp(name, log, row, encode, self._go_live, pace, scanned)
        self._row = row
        self._encode = encode

    @property
    def boundary(self) -> int:
        """The ring's index that live subscriptions have reached, once the batch is out."""
        return self.live.boundary

    def subscribe(
        self,
        client: FanoutClient,
        request: Subscribe,
        found: StartPoint | None,
        now: float,
        feed: Feed | None = None,
        left: Position | None = None,
    ) -> Subscribed:
        """Add or replace a client's subscription; returns where it begins.

        found: the log's answer to energyws.stream.recovery.history_request, if there was one.
        feed: a snapshot, or the rest of one, that comes first; the subscription then begins at its
        position.
        left: the place of the subscription that it replaces, if it goes on from there.
        """
        self.leave(client)
        subscription = self._subscription(client, request)
        selection = subscription.selection
        ring = self.ring
        self.live.pass_over()
        live = ring.head
        if left is not None and (live.beyond(left) or left.beyond(live)):
            # It may also be ahead of this worker.
            reply = Subscribed(str(left))
            subscription.cursor = resume_from(ring, left, request.on_lag, now, selection)
        else:
            reply, subscription.cursor = start_point(
                self.name, ring, live, request, found, now, selection
            )
        if reply.recovered is not None:
            depth = "memory" if found is None else "log"
            result = "recovered" if reply.reason is None else reply.reason.value.lower()
            RESUMES.count(self._row, depth, result)
        if feed is not None:
            subscription.feed = feed
            subscription.cursor = resume_from(ring, feed.position, request.on_lag, now, selection)
            reply = after_snapshot(reply, feed.position, feed.told)
        elif subscription.cursor is None and self.boundary < ring.end:
            # The live clients have yet to get what came before it.
            subscription.cursor = cursor_at(ring.end, live, request.on_lag, selection)
        if subscription.cursor is None:
            self._go_live(subscription)
        else:
            self.catch_up.add(subscription)
        return reply

    def place(self, client: FanoutClient) -> Position | None:
        """Where a client is: what comes before was written to it; None without a subscription."""
        if (subscription := self.live.members.get(client)) is not None:
            return self.live.place(subscription)[1]
        if (subscription := self.catch_up.find(client)) is None:
            return None
        cursor = subscription.cursor
        return cursor.position(self.ring) if isinstance(cursor, Cursor) else cursor

    def feed(self, client: FanoutClient) -> Feed | None:
        """The snapshot that a client is yet to get the rest of."""
        subscription = self.catch_up.find(client)
        return None if subscription is None else subscription.feed

    def leave(self, client: FanoutClient) -> None:
        subscription = self.live.members.get(client)
        if subscription is not None:
            self.live.leave(subscription)
        else:
            self.catch_up.leave(client)

    def pause_writing(self, client: FanoutClient) -> None:
        subscription = self.live.members.get(client)
        if subscription is not None:
            place = self.live.place(subscription)
            self.live.leave(subscription)
            self._pause(subscription, *place)
            client.lagging(self.name)

    def resume_writing(self, client: FanoutClient) -> None:
        self.catch_up.resume_writing(client, self.ring, self.boundary)

    def backlogged(self, client: FanoutClient) -> None:
        """A client's transport holds bytes: nothing may go past it."""
        subscription = self.live.members.get(client)
        if subscription is not None:
            self.live.backlog(subscription)

    def work(self, writes: int, now: float) -> int:
        """Make at most `writes` writes; returns how many are left of them."""
        for subscription in self.live.overtaken():
            # Which is not the clients' fault.
            self.catch_up.add(subscription)
        writes = self.live.work(writes)
        return self.catch_up.work(writes, self.ring, self.boundary, now) if writes else 0

    @property
    def wake_at(self) -> float:
        """When there is work, though nothing comes (monotonic)."""
        return self.live.wake_at

    def has_news(self) -> bool:
        """Whether the ring has frames beyond the last complete batch."""
        return self.live.has_news

    def is_busy(self) -> bool:
        """Whether there is work left, or a subscription can catch up."""
        return self.live.is_busy or self.catch_up.is_busy(self.live.sent)

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
        subscriptions = self.live.members | self.catch_up.clear()
        self._begin(ring)
        for client, subscription in subscriptions.items():
            # The rest of a snapshot would be one of the topic before.
            subscription.feed = None
            # To a paused transport, too: these few bytes must come before what follows.
            client.write(encoded)
            self._go_live(subscription)

    def reopen(self, ring: Ring) -> None:
        """This worker has missed more than the consumer remembers: replay the log to everyone."""
        subscriptions = self.live.members | self.catch_up.clear()
        for subscription in subscriptions.values():
            cursor = subscription.cursor
            if isinstance(cursor, Cursor):
                subscription.cursor = cursor.position(self.ring)
            elif cursor is None:
                _, subscription.cursor = self.live.place(subscription)
        self._begin(ring)
        for subscription in subscriptions.values():
            self.catch_up.add(subscription)

    def _subscription(self, client: FanoutClient, request: Subscribe) -> Subscription:
        return Subscription(client, request.on_lag)

    def _begin(self, ring: Ring) -> None:
        self.ring = ring
        self.live.begin(ring)

    def _go_live(self, subscription: Subscription) -> None:
        """Serve it from the boundary on, with the other live ones."""
        client = subscription.client
        if client.form.ends:
            cast(EndingClient, client).caught_up(self.live.reached)
        elif client.writable:
            subscription.cursor = None
            self.live.join(subscription)
        else:
            self._pause(subscription, self.boundary, self.live.reached)

    def _pause(self, subscription: Subscription, index: int, position: Position) -> None:
        """Keep it at its place until its client reads again."""
        on_lag, selection = subscription.on_lag, subscription.selection
        subscription.cursor = cursor_at(index, position, on_lag, selection)
        self.catch_up.add_paused(subscription)
