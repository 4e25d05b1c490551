"""Live subscriptions to some keys, grouped by these, and an index from each key to its groups.

Most groups have one member, so they are small; one with many has a crowd, and its frames go out as
those of a stream without keys. For a frame that nobody wants, nothing is done but looking up its
key.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from energyws.protocol.frame import uncounted
from energyws.protocol.keys import EVERYBODY, KeyFilter, shortest
from energyws.protocol.messages import OnLag
from energyws.stream.conflation import Pending
from energyws.stream.history import Chunk
from energyws.stream.key_index import Selection
from energyws.stream.keyed_cursor import KeyedCursor
from energyws.stream.prefixes import Prefixes
from workers.websocket.fanout.crowd import Crowd
from workers.websocket.fanout.subscription import FanoutClient, Subscription
from workers.websocket.io_uring.send_queue import SendQueue

# A group of so many gets a crowd. For fewer, its batch costs more than it saves.
LEAST_CROWD: Final = 8
# Those that were told together are told again over this share of the longest silence.
SPREAD: Final = 0.25

_Name = tuple[object, ...]


class Group:
    """The live subscriptions to the same keys, `exact` ones and those that begin with a prefix.

    members: unless they are a crowd. frames: what this round has for them; None: nothing, or it is
    being written. told_at: a time (monotonic) when its members had heard of all that had come.
    """

    __slots__ = ("crowd", "exact", "frames", "members", "prefixes", "size", "told_at")

    # Only in a group of one client that takes records at most so often.
    pending: Pending | None = None

    def __init__(self, keys: KeyFilter) -> None:
        # Tuples, since a set of one key takes four times as much memory.
        self.exact = tuple(sorted(keys.exact))
        self.prefixes = shortest(keys.prefixes)
        self.told_at = 0.0
        self.disband()

    def disband(self) -> None:
        """Be without members, as it begins."""
        self.members: tuple[KeyedSubscription, ...] = ()
        self.crowd: Crowd | None = None
        self.size = 0
        self.frames: list[bytes] | None = None

    @property
    def conflates(self) -> bool:
        """As in Selection."""
        return self.pending is not None

    @property
    def name(self) -> _Name:
        """What tells it apart from the others."""
        return (self.exact, self.prefixes) if self.prefixes else self.exact

    def everyone(self) -> Iterable[KeyedSubscription]:
        """All members. Not while a batch is on its way to them."""
        crowd = self.crowd
        if crowd is None:
            return self.members
        crowd.settle()
        return [member for member in crowd.members if isinstance(member, KeyedSubscription)]


class SlowGroup(Group):
    """A client that takes records at most so often: nobody shares what it gets.

    interval: in seconds.
    """

    __slots__ = ("pending",)

    def __init__(self, keys: KeyFilter, interval: float) -> None:
        super().__init__(keys)
        self.pending = Pending(interval)

    @property
    def name(self) -> _Name:
        return (self.exact, self.prefixes, id(self))


class KeyedSubscription(Subscription):
    """A subscription to the keys of a group, of which it is a member while it is live.

    told_at: while it is not live, a time when its client had heard of all that had come.
    """

    __slots__ = ("group", "told_at")

    def __init__(self, client: FanoutClient, on_lag: OnLag, group: Group) -> None:
        super().__init__(client, on_lag)
        self.group = group
        self.told_at = -math.inf

    @property
    def selection(self) -> Selection:
        return self.group

    @property
    def holds(self) -> bool:
        return self.group.pending is not None and self.group.pending.start is not None

    def part(self, chunk: Chunk, now: float) -> tuple[Sequence[bytes], int]:
        found, superseded = chunk.of_keys(self.group)
        frames: Sequence[bytes] = found
        if self.group.pending is not None:
            frames = self.group.pending.add_of_log(found, superseded, chunk.start, now)
        return frames, len(frames)

    def release(self, frames: list[bytes], now: float) -> tuple[list[bytes], int | None]:
        assert isinstance(self.cursor, KeyedCursor)
        conflated, self.cursor.conflated = self.cursor.conflated, 0
        pending = self.group.pending
        if pending is None or (pending.start is None and not frames):
            return frames, conflated or None
        held = self.holds
        pending.add(frames)
        frames, superseded = pending.take(now)
        conflated += superseded
        return frames, conflated if held or conflated else None


# Where a key leads to more than one group.
_Several = dict[Group, None]
_Found = Group | _Several
_Index = dict[bytes, _Found] | Prefixes[_Found]


class Groups:
    """Of one fan-out. queue: as in Crowd. Times are monotonic seconds."""

    def __init__(self, queue: SendQueue | None) -> None:
        self._queue = queue
        # In the order in which they were told last, but for members that came from further back.
        self._groups: dict[_Name, Group] = {}
        self._exact: dict[bytes, _Found] = {}
        self._prefixes: Prefixes[_Found] = Prefixes()

    @property
    def keys(self) -> int:
        """The number of keys and prefixes that somebody wants."""
        return len(self._exact) + len(self._prefixes)

    def group(self, keys: KeyFilter) -> Group:
        """The group of those who want these; a new one is not in the index before it is joined."""
        made = Group(keys)
        return self._groups.get(made.name, made)

    def join(self, subscription: KeyedSubscription) -> None:
        """Not while a batch is on its way to its group."""
        group = self._groups.get(subscription.group.name, subscription.group)
        subscription.group = group
        if not group.size:
            group.told_at = math.inf
            self._groups[group.name] = group
            self._enter(group)
        group.size += 1
        group.told_at = min(group.told_at, subscription.told_at)
        if group.crowd is None and group.size >= LEAST_CROWD:
            group.crowd = Crowd(self._queue)
            for member in group.members:
                group.crowd.join(member)
            group.members = ()
        if group.crowd is None:
            group.members += (subscription,)
        else:
            group.crowd.join(subscription)

    def leave(self, subscription: KeyedSubscription) -> None:
        group = subscription.group
        group.size -= 1
        if group.crowd is None:
            group.members = tuple(each for each in group.members if each is not subscription)
        else:
            group.crowd.leave(subscription)
        if not group.size:
            del self._groups[group.name]
            self._exit(group)
            group.disband()

    def clear(self) -> None:
        """Be without groups."""
        for group in self._groups.values():
            group.disband()
        self._groups, self._exact, self._prefixes = {}, {}, Prefixes()

    def touch(self, frames: Sequence[bytes], keys: Sequence[bytes | None]) -> list[Group]:
        """Give these frames, whose keys are known, to the groups that want them; returns those."""
        touched: list[Group] = []
        look_up, prefixes = self._exact.get, self._prefixes
        for frame, key in zip(frames, keys, strict=True):
            if not key:
                if key == EVERYBODY:
                    _give(uncounted(frame), dict.fromkeys(self._groups.values()), touched)
                elif (found := prefixes.get(b"")) is not None:
                    # Those that want everything, also what has no key.
                    _give(frame, found, touched)
                continue
            found = look_up(key)
            if found is not None:
                _give(frame, found, touched)
            if prefixes:
                for found in prefixes.find(key):
                    _give(frame, found, touched)
        return touched

    def told(self, group: Group, now: float) -> None:
        """All members of a group hear where they are."""
        group.told_at = now
        name = group.name
        del self._groups[name]
        self._groups[name] = group

    def due(self, now: float, seconds: float, half: float) -> list[Group]:
        """The groups that are to be told now, to be asked about once a second.

        Those told longer ago than `seconds`, or before `half`: what came then is about to leave the
        ring; but nobody is told again that soon because of `half` that it costs more than it saves.
        Of those that will be next, a share comes early, so that they will not be due together.
        """
        limit = max(now - seconds, min(half, now - SPREAD * seconds))
        early = now - (1 - SPREAD) * seconds
        room = math.ceil(len(self._groups) / (SPREAD * seconds))
        found: list[Group] = []
        for group in self._groups.values():
            if group.told_at > limit and (group.told_at > early or len(found) >= room):
                break
            found.append(group)
        return found

    def _enter(self, group: Group) -> None:
        for key in group.exact:
            _enter(self._exact, key, group)
        for prefix in group.prefixes:
            _enter(self._prefixes, prefix, group)

    def _exit(self, group: Group) -> None:
        for key in group.exact:
            _exit(self._exact, key, group)
        for prefix in group.prefixes:
            _exit(self._prefixes, prefix, group)


def _give(frame: bytes, found: _Found, touched: list[Group]) -> None:
    for group in (found,) if isinstance(found, Group) else found:
        if group.frames is None:
            group.frames = [frame]
            touched.append(group)
        elif group.frames[-1] is not frame:
            # It may want a frame for more than one reason.
            group.frames.append(frame)


def _enter(index: _Index, key: bytes, group: Group) -> None:
    found = index.get(key)
    if found is None:
        index[key] = group
    elif isinstance(found, Group):
        index[key] = {found: None, group: None}
    else:
        found[group] = None


def _exit(index: _Index, key: bytes, group: Group) -> None:
    found = index[key]
    if isinstance(found, Group):
        del index[key]
        return
    del found[group]
    if len(found) == 1:
        (index[key],) = found
