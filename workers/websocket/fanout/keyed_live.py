"""Fan-out of one stream to subscriptions that get some of its keys.

Rules of this file:

1. All live subscriptions stand at the same index of the ring (as in live.py), though each gets its
   own part of what comes. A round takes frames from the ring and goes to each group that wants some
   of them; the others have reached its end at once.
2. A client that is told its position has everything before it. So positions are told between
   rounds only, and behind what was written.
3. Members join between rounds: what a round has for their group came before them.
"""

from __future__ import annotations

import math
import random
import time
from itertools import islice
from typing import Final, cast

from energyws.process.board import Field, Row
from energyws.protocol import messages
from energyws.protocol.forms import Encode
from energyws.protocol.position import Position
from energyws.stream.ring import Ring
from workers.websocket.fanout.batch import Batch, join
from workers.websocket.fanout.groups import Group, Groups, KeyedSubscription
from workers.websocket.fanout.live import JOIN_BYTES, count_writes, observe
from workers.websocket.fanout.rounds import Round, Waiting
from workers.websocket.fanout.subscription import FanoutClient, Subscription
from workers.websocket.io_uring.send_queue import SendQueue


class KeyedLive:
    """members: the live subscriptions. sent: the ring's index after the last complete round.

    encode_from: the size of a group from which its frames are encoded; smaller ones get them as
    they are.
    """

    def __init__(
        self,
        name: str,
        ring: Ring,
        row: Row,
        encode: Encode | None,
        queue: SendQueue | None,
        encode_from: int = 1,
    ) -> None:
        self.ring = ring
        self.members: dict[FanoutClient, Subscription] = {}
        self.sent = ring.end
        self.groups: Final = Groups(queue)
        self._name = name
        self._row = row
        self._encode = encode
        self._encode_from = encode_from
        self._reached = ring.head
        # When that was seen to have moved: its first member may lack what had come by then.
        self._moved_at = ring.added_at(ring.end - 1) if len(ring) else 0.0
        self._round: Round | None = None
        # When the round began (monotonic), and whether it left frames for the next one.
        self._began = 0.0
        self._full = False
        # Live since the round began, and not in their groups yet.
        self._arriving: dict[KeyedSubscription, None] = {}
        # Members that take records at most so often, and for whom some wait.
        self._waiting = Waiting()
        # Those to be told their position.
        self._owed: dict[KeyedSubscription, None] = {}

    @property
    def boundary(self) -> int:
        """The ring's index that live subscriptions have reached, once the round is over."""
        return self.sent if self._round is None else self._round.end

    @property
    def reached(self) -> Position:
        """The position there."""
        return self._reached if self._round is None else self._round.reached

    @property
    def is_busy(self) -> bool:
        """Whether there is something to write."""
        if self._round is not None or self._owed or (self._full and self.has_news):
            return True
        return self._waiting.wake_at <= time.monotonic()

    @property
    def wake_at(self) -> float:
        """When there is something to write, though nothing comes (monotonic)."""
        return self._waiting.wake_at

    @property
    def has_news(self) -> bool:
        """Whether the ring has frames beyond the last complete round."""
        return self.sent < self.ring.end

    def place(self, subscription: Subscription) -> tuple[int, Position]:
        """The index and the position of a member: what comes before them was written to it."""
        keyed = cast(KeyedSubscription, subscription)
        pending = keyed.group.pending
        if pending is not None and pending.start is not None:
            return pending.start
        if self._round is None or (keyed not in self._arriving and self._round.waits(keyed)):
            return self.sent, self._reached
        return self._round.end, self._round.reached

    def pass_over(self) -> None:
        """Nobody is owed what came while nobody was live."""
        if not self.members and self._round is None:
            self.sent = self.ring.end
            self._look(time.monotonic())

    def join(self, subscription: Subscription) -> None:
        """Serve it from the boundary on. Its told_at is known."""
        keyed = cast(KeyedSubscription, subscription)
        self.members[keyed.client] = keyed
        if self._round is None:
            self.groups.join(keyed)
        else:
            self._arriving[keyed] = None

    def leave(self, subscription: Subscription) -> None:
        keyed = cast(KeyedSubscription, subscription)
        del self.members[keyed.client]
        self._part(keyed)
        if keyed in self._arriving:
            del self._arriving[keyed]
        else:
            self.groups.leave(keyed)

    def backlog(self, subscription: Subscription) -> None:
        """The transport of its client holds bytes: nothing may go past it."""
        keyed = cast(KeyedSubscription, subscription)
        if keyed not in self._arriving and keyed.group.crowd is not None:
            keyed.group.crowd.backlog(keyed)

    def overtaken(self) -> list[Subscription]:
        """The members, no more live, if more came in one turn than the ring holds."""
        if self._round is not None or self.sent >= self.ring.first:
            return []
        members = list(self.members.values())
        for subscription in members:
            _, subscription.cursor = self.place(subscription)
        self._dismiss()
        return members

    def begin(self, ring: Ring) -> None:
        """Begin with another ring, and with no members."""
        self.ring = ring
        self._round = None
        self.sent, self._reached = ring.end, ring.head
        self._dismiss()

    def work(self, writes: int) -> int:
        """Make about `writes` writes; returns how many are left of them."""
        if self._round is None:
            self._round = self._next_round()
        if self._round is not None:
            writes = self._serve(self._round, writes)
        if self._round is None and writes > 0:
            writes = self._serve_waiting(writes)
            writes = self._tell_owed(writes)
        return max(writes, 0)

    def tick(self, seconds: float) -> None:
        """To be called about once a second: owes a position to those not told for so long."""
        now = time.monotonic()
        self._look(now)
        ring = self.ring
        # While nothing has left the ring, nothing is about to.
        half = ring.added_at((ring.first + ring.end) // 2) if ring.first else -math.inf
        for group in self.groups.due(now, seconds, half):
            if self._round is None or self._round.group is not group:
                if group.told_at <= self._moved_at:
                    self._owed |= dict.fromkeys(group.everyone())
                self.groups.told(group, now)

    def owe(self, subscription: KeyedSubscription) -> None:
        """Have a member told its position soon."""
        self._owed[subscription] = None

    def tell(self, subscription: KeyedSubscription) -> Position | None:
        """Where a member is, if it is not where it was told last; it is told now."""
        now = time.monotonic()
        self._look(now)
        group = subscription.group
        if subscription not in self._arriving:
            if group.told_at > self._moved_at and subscription not in self._owed:
                return None
            if group.size == 1:
                self.groups.told(group, now)
            self._owed.pop(subscription, None)
        return self.place(subscription)[1]

    def flush(self, subscription: KeyedSubscription, *, last: bool = False) -> bytes:
        """What waits for a member that takes records at most so often, to be written now.

        last: it is told where it is in any case.
        """
        group, now = subscription.group, time.monotonic()
        assert group.pending is not None
        frames, conflated = group.pending.take(now)
        says_where = last or conflated > 0
        # Its last frame may be behind the others.
        self.groups.told(group, now if says_where else self._moved_at)
        data = join(frames, self._encode if self._encode_from == 1 else None)
        count_writes(self._row, 1, len(frames), len(data))
        # As all that waited is out.
        _, place = self.place(subscription)
        return data + self.message(place, conflated) if says_where else data

    def held(self) -> list[KeyedSubscription]:
        """The members for whom something waits until it is their turn."""
        members = (cast(KeyedSubscription, each) for each in self.members.values())
        return [each for each in members if each.group.pending and each.group.pending.frames]

    def message(self, position: Position, conflated: int = 0) -> bytes:
        """The message that tells a position, in the form of the fan-out."""
        self._row.add(Field.CONFLATED, conflated)
        told = messages.position(self._name, str(position), conflated)
        return self._encode(told) if self._encode and self._encode_from == 1 else told

    def _look(self, now: float) -> None:
        """Whether more of the log has been read, also where it had nothing for anybody."""
        if self._round is None and not self.has_news:
            position = self.ring.position_at(self.sent)
            if position != self._reached:
                self._reached, self._moved_at = position, now

    def _next_round(self) -> Round | None:
        ring = self.ring
        self.pass_over()
        if self.sent == ring.end:
            return None
        assert ring.keys is not None
        self._began = time.monotonic()
        entries, end = ring.read(self.sent, ring.end, JOIN_BYTES)
        self._full = end < ring.end
        keys = ring.keys.read(self.sent, end)
        touched = self.groups.touch([entry.frame for entry in entries], keys)
        return Round(end, ring.position_at(end), entries[0].timestamp_ms, touched)

    def _serve(self, round_: Round, writes: int) -> int:
        while writes > 0 and (round_.batch is not None or round_.touched):
            if round_.batch is None:
                writes -= self._begin_group(round_, round_.touched.popleft())
            else:
                writes -= self._send(round_, round_.batch, writes)
        if round_.batch is None and not round_.touched:
            self._end_round(round_)
        return writes

    def _begin_group(self, round_: Round, group: Group) -> int:
        """Write to a small group, or begin the batch of a large one; returns how many writes."""
        frames, group.frames = group.frames, None
        if frames is None:
            # All its members have left.
            return 0
        if group.pending is not None:
            self._waiting.hold(group, frames, (self.sent, self._reached))
            # It takes less time than a write, but the event loop must not wait for thousands.
            return 1
        self.groups.told(group, self._began)
        data = join(frames, self._encode if group.size >= self._encode_from else None)
        if group.crowd is not None:
            group.crowd.settle()
            round_.group = group
            first = random.randrange(group.size)
            round_.batch = Batch(data, len(frames), round_.end, round_.reached, group.crowd, first)
            return 0
        members = group.members
        for subscription in members:
            subscription.client.write(data)
        count_writes(self._row, len(members), len(frames), len(data))
        return len(members)

    def _send(self, round_: Round, batch: Batch, writes: int) -> int:
        served = batch.served
        count_writes(self._row, batch.send(writes), batch.frames, len(batch.data))
        if batch.over:
            round_.group = round_.batch = None
        return batch.served - served

    def _end_round(self, round_: Round) -> None:
        now = time.monotonic()
        self.sent, self._reached, self._moved_at = round_.end, round_.reached, now
        self._round = None
        arriving, self._arriving = self._arriving, {}
        for subscription in arriving:
            self.groups.join(subscription)
        if round_.groups:
            observe(self._row, now - self._began, round_.oldest_ms)

    def _serve_waiting(self, writes: int) -> int:
        for member in self._waiting.due(time.monotonic(), writes, self.members):
            # Another's write may have made it leave.
            if self.members.get(member.client) is member:
                member.client.write(self.flush(member))
                writes -= 1
        return writes

    def _tell_owed(self, writes: int) -> int:
        if not self._owed or writes <= 0:
            return writes
        told = self.message(self._reached)
        for subscription in list(islice(self._owed, writes)):
            # Another's write may have made it leave.
            if subscription in self._owed:
                del self._owed[subscription]
                _, place = self.place(subscription)
                data = told if place is self._reached else self.message(place)
                subscription.client.write(data)
                self._row.add(Field.POSITIONS_SENT)
                writes -= 1
        return writes

    def _part(self, subscription: KeyedSubscription) -> None:
        """Keep what is known of it alone, since it leaves its group."""
        if subscription.group.pending is not None:
            # It begins again where it was.
            subscription.group.pending.drop()
        if subscription in self._owed:
            del self._owed[subscription]
            subscription.told_at = -math.inf
        elif subscription not in self._arriving:
            subscription.told_at = subscription.group.told_at

    def _dismiss(self) -> None:
        for subscription in self.members.values():
            self._part(cast(KeyedSubscription, subscription))
        self.members = {}
        self._arriving, self._owed = {}, {}
        self.groups.clear()
