"""Fan-out of one stream: every frame to every live subscription, one write per client and turn.

Rules of this file:

1. Nothing here awaits, and nothing is allocated per client and frame: the frames that wait are
   joined once, and each client's transport is given the same bytes.
2. Live subscriptions all stand at one place, `boundary`. Whoever stands elsewhere has a cursor
   into the ring, not a buffer: a slow client costs the same however slow it is.
3. A client whose transport is paused is not looked up when it pauses, but found at the next
   fan-out; so the hot loop asks one boolean per client and nothing else.
4. A turn of the event loop makes a bounded number of writes, then lets others have theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from energyws import frame
from energyws.board import Field, Row
from energyws.position import BadPosition, Position, parse
from energyws.protocol import OnLag, Subscribe, Subscribed, Unrecovered
from energyws.replay import Cursor, Located, Ring, TooSlow

# Joining more into one write saves nothing any more, and a paused client holds what it was given.
JOIN_BYTES: Final = 256 * 1024
CATCH_UP_BYTES: Final = 64 * 1024


class Client(Protocol):
    """A connection, as the hub sees it.

    writable: False while its transport is paused, and for ever once it closes.
    """

    writable: bool

    @property
    def write(self) -> Callable[[bytes], None]:
        """Send bytes as they are."""

    def subscribed(self, streams: dict[str, Subscribed]) -> None:
        """Tell it where its subscriptions begin, before the first frame of theirs."""

    def too_slow(self) -> None:
        """Close it: it fell off the ring and had asked to be disconnected then."""


class Subscription:
    """One client's wish for one stream. `cursor` is None while it is live."""

    __slots__ = ("client", "cursor", "on_lag")

    def __init__(self, client: Client, on_lag: OnLag) -> None:
        self.client = client
        self.on_lag = on_lag
        self.cursor: Cursor | None = None


class _Nobody:
    """The client of a subscription that has ended."""

    writable = False

    def write(self, data: bytes) -> None:
        """Never called: it is not writable."""

    def subscribed(self, streams: dict[str, Subscribed]) -> None:
        """Never called: it does not subscribe."""

    def too_slow(self) -> None:
        """Never called: it is in no group."""


_NOBODY: Final = _Nobody()


@dataclass(slots=True)
class _Batch:
    """A fan-out under way: `data` goes to `targets`, of which `done` have been served."""

    data: bytes
    frames: int
    end: int
    targets: list[Subscription]
    done: int = 0


class Fanout:
    """One stream: its ring, and who is where in it."""

    def __init__(self, name: str, ring: Ring, row: Row) -> None:
        self.name = name
        self.ring = ring
        self._row = row
        self._sent = ring.end
        self._batch: _Batch | None = None
        self._live: dict[Client, Subscription] = {}
        self._catching: dict[Client, Subscription] = {}
        self._behind: dict[Client, Subscription] = {}

    @property
    def boundary(self) -> int:
        """The index at which live subscriptions stand, or will once the batch is out."""
        return self._sent if self._batch is None else self._batch.end

    @property
    def lagging(self) -> int:
        """How many subscriptions are not live."""
        return len(self._catching) + len(self._behind)

    def subscribe(self, client: Client, request: Subscribe, now: float) -> Subscribed:
        """Add or replace a client's subscription; says where it begins."""
        self.leave(client)
        subscription = Subscription(client, request.on_lag)
        if (text := request.resume.get(self.name)) is not None:
            return self._resume(subscription, text, now)
        if request.last is not None:
            return self._last(subscription, request.last)
        self._live[client] = subscription
        return Subscribed(str(self.ring.position_at(self.boundary)))

    def leave(self, client: Client) -> None:
        """Forget a client."""
        for group in (self._live, self._catching, self._behind):
            subscription = group.pop(client, None)
            if subscription is not None:
                # A batch under way may still have it among its targets.
                subscription.client = _NOBODY
                return

    def resume_writing(self, client: Client) -> None:
        """A client's transport has room again."""
        subscription = self._behind.pop(client, None)
        if subscription is None:
            return
        cursor = subscription.cursor
        assert cursor is not None
        if subscription.on_lag is OnLag.LATEST:
            frames, skipped = cursor.jump_to_newest(self.name, self.ring, self.boundary)
            self._write(client, frames)
            self._row.add(Field.SKIPPED, skipped)
        self._catching[client] = subscription

    def work(self, writes: int, now: float) -> int:
        """Make at most `writes` writes; returns how many are left of them."""
        writes = self._fan_out(writes)
        return self._catch_up(writes, now) if writes else 0

    def has_work(self) -> bool:
        """Whether `work` would find something to do at once."""
        if self._batch is not None or self._sent < self.ring.end:
            return True
        return any(
            subscription.cursor is not None and subscription.cursor.index < self._sent
            for subscription in self._catching.values()
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
        everyone = {**self._live, **self._catching, **self._behind}
        self.ring = ring
        self._batch = None
        self._sent = ring.end
        self._live, self._catching, self._behind = {}, {}, {}
        for client, subscription in everyone.items():
            # A paused transport takes these few bytes too: they must come before what follows.
            client.write(message)
            subscription.cursor = None
            self._live[client] = subscription

    def _resume(self, subscription: Subscription, text: str, now: float) -> Subscribed:
        ring = self.ring
        earliest = str(ring.floor)
        try:
            known = parse(text)
        except BadPosition:
            self._live[subscription.client] = subscription
            position = str(ring.position_at(self.boundary))
            return Subscribed(position, False, 0, Unrecovered.BAD_POSITION, earliest)
        if known.epoch != ring.epoch:
            # Nothing of this log is known to the client, so all of it is news.
            known = ring.floor
            replayed = self._begin_at(subscription, known, now).replayed
            reason = Unrecovered.EPOCH_CHANGED
            return Subscribed(earliest, False, replayed, reason, earliest)
        located = self._begin_at(subscription, known, now)
        if located.complete:
            return Subscribed(text, True, located.replayed)
        position = str(known.merge(ring.position_at(located.start)))
        reason = Unrecovered.HISTORY_EXCEEDED
        return Subscribed(position, False, located.replayed, reason, earliest)

    def _begin_at(self, subscription: Subscription, known: Position, now: float) -> Located:
        located = self.ring.locate(known)
        cursor = Cursor(located.start, known, subscription.on_lag)
        cursor.skip_to(known, now)
        self._place(subscription, cursor)
        return located

    def _last(self, subscription: Subscription, count: int) -> Subscribed:
        ring = self.ring
        begin = max(ring.first, ring.end - count)
        position = str(ring.position_at(begin))
        replayed = ring.end - begin
        self._place(subscription, Cursor(begin, ring.position_at(begin), subscription.on_lag))
        if replayed == count:
            return Subscribed(position, True, replayed)
        reason = Unrecovered.HISTORY_EXCEEDED
        return Subscribed(position, False, replayed, reason, str(ring.floor))

    def _place(self, subscription: Subscription, cursor: Cursor) -> None:
        subscription.cursor = cursor
        self._catching[subscription.client] = subscription

    def _fan_out(self, writes: int) -> int:
        batch = self._batch
        if batch is None:
            batch = self._next_batch()
            if batch is None:
                return writes
        targets = batch.targets[batch.done : batch.done + writes]
        data = batch.data
        missed: list[Subscription] = []
        for subscription in targets:
            client = subscription.client
            if client.writable:
                client.write(data)
            else:
                missed.append(subscription)
        for subscription in missed:
            self._fall_behind(subscription, self._behind)
        batch.done += len(targets)
        written = len(targets) - len(missed)
        self._row.add(Field.WRITES, written)
        self._row.add(Field.DELIVERIES, written * batch.frames)
        self._row.add(Field.BYTES, written * len(data))
        if batch.done >= len(batch.targets):
            self._sent = batch.end
            self._batch = None
        return writes - len(targets)

    def _next_batch(self) -> _Batch | None:
        ring = self.ring
        if self._sent < ring.first:
            # More came in one turn than the ring holds: everybody fell off it.
            for subscription in list(self._live.values()):
                self._fall_behind(subscription, self._catching)
            self._sent = ring.end
        if self._sent == ring.end:
            return None
        entries, end = ring.read(self._sent, ring.end, JOIN_BYTES)
        if not self._live:
            self._sent = ring.end
            return None
        self._batch = _Batch(
            b"".join([entry.frame for entry in entries]),
            len(entries),
            end,
            list(self._live.values()),
        )
        return self._batch

    def _fall_behind(self, subscription: Subscription, group: dict[Client, Subscription]) -> None:
        if subscription.client is _NOBODY:
            return
        del self._live[subscription.client]
        position = self.ring.position_at(max(self._sent, self.ring.first))
        subscription.cursor = Cursor(self._sent, position, subscription.on_lag)
        group[subscription.client] = subscription

    def _catch_up(self, writes: int, now: float) -> int:
        boundary = self.boundary
        for client, subscription in list(self._catching.items())[:writes]:
            cursor = subscription.cursor
            assert cursor is not None
            if not client.writable:
                self._behind[client] = self._catching.pop(client)
                continue
            try:
                frames, skipped = cursor.take(self.name, self.ring, boundary, CATCH_UP_BYTES, now)
            except TooSlow:
                del self._catching[client]
                client.too_slow()
                continue
            writes -= 1
            self._write(client, frames)
            self._row.add(Field.SKIPPED, skipped)
            if cursor.index == boundary and cursor.skip is None:
                subscription.cursor = None
                del self._catching[client]
                self._live[client] = subscription
            else:
                # To the end of the queue: everybody gets a turn.
                self._catching[client] = self._catching.pop(client)
        return writes

    def _write(self, client: Client, frames: Sequence[bytes]) -> None:
        if frames:
            data = b"".join(frames)
            client.write(data)
            self._row.add(Field.WRITES)
            self._row.add(Field.DELIVERIES, len(frames))
            self._row.add(Field.BYTES, len(data))
