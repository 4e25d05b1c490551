"""What is on its way to live subscriptions to keys: the frames of a round, and those that wait.

Frames wait for clients that take them at most so often (energyws.stream.conflation).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

from energyws.protocol.position import Position
from energyws.stream.conflation import Alarms
from workers.websocket.fanout.batch import Batch
from workers.websocket.fanout.groups import Group, KeyedSubscription
from workers.websocket.fanout.subscription import FanoutClient, Subscription


class Round:
    """Frames on their way to the groups that want them. end, reached: as in Batch.

    groups: how many want some; touched: those that are yet to get them. oldest_ms: the timestamp
    of its oldest record. batch: that to the crowd of `group`.
    """

    __slots__ = ("batch", "end", "group", "groups", "oldest_ms", "reached", "touched")

    def __init__(self, end: int, reached: Position, oldest_ms: int, touched: list[Group]) -> None:
        self.end = end
        self.reached = reached
        self.oldest_ms = oldest_ms
        self.groups = len(touched)
        self.touched = deque(touched)
        self.group: Group | None = None
        self.batch: Batch | None = None

    def waits(self, subscription: KeyedSubscription) -> bool:
        """Whether a member of its group is yet to get its part."""
        group = subscription.group
        if self.batch is not None and self.group is group:
            return self.batch.waits(subscription)
        return group.frames is not None


class Waiting:
    """Live subscriptions of clients that take records at most so often, while some wait for them.

    members: all live subscriptions.
    """

    def __init__(self) -> None:
        self._alarms: Alarms[KeyedSubscription] = Alarms()

    @property
    def wake_at(self) -> float:
        """When the first of them is due (monotonic)."""
        return self._alarms.next_at

    def hold(self, group: Group, frames: list[bytes], start: tuple[int, Position]) -> None:
        """Keep frames for the member of such a group. start: the place before them."""
        pending, (member,) = group.pending, group.members
        assert pending is not None
        if pending.start is None:
            pending.start = start
            self._alarms.add(pending.due_at, member)
        pending.add(frames)
        if pending.is_full:
            self._alarms.add(-math.inf, member)

    def due(
        self, now: float, most: int, members: Mapping[FanoutClient, Subscription]
    ) -> list[KeyedSubscription]:
        """Those whose turn it is, `most` at most."""
        found = []
        for member in dict.fromkeys(self._alarms.take(now, most)):
            pending = member.group.pending
            # It may have left, or has had its turn when too much waited for it.
            if (
                members.get(member.client) is member
                and pending is not None
                and pending.start is not None
                and (pending.due_at <= now or pending.is_full)
            ):
                found.append(member)
        return found
