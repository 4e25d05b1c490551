"""The ring: the newest frames of one stream, and cursors that read them at their own pace.

Rules of this file:

1. Entries have a dense index that never restarts: 0 for the first ever appended. `first` is the
   oldest one still here, `end` the one that comes next.
2. Within a partition offsets only rise. Between partitions there is no order, and another replica
   may have interleaved them differently; so what a position covers is judged per partition.
3. Kafka's offsets have holes (compaction, transactions, bad records): loss is never judged by
   "offset + 1", only by the floor: what lies below it has left the ring, or was never in it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import Final, NamedTuple

from energyws.protocol import frame
from energyws.protocol.messages import OnLag, Unrecovered
from energyws.protocol.position import Position, from_offsets
from energyws.settings import History

# Two workers, or two replicas, are milliseconds apart; a client that knows more than this one
# after so long claims a position that no log of ours has.
AHEAD_SECONDS: Final = 5.0
LAGGED: Final = "LAGGED"


class Entry(NamedTuple):
    """One frame and the record it was made from."""

    partition: int
    offset: int
    timestamp_ms: int
    frame: bytes


class Located(NamedTuple):
    """Where a position lies: from index `start` on there are `replayed` frames after it.

    complete: nothing after the position has left the ring.
    """

    start: int
    replayed: int
    complete: bool


class Ring:
    """Bounded by count, bytes and age; the oldest goes first. Times are monotonic seconds."""

    def __init__(self, limits: History, floor: Position) -> None:
        self.epoch: Final = floor.epoch
        self.first = 0
        self._limits = limits
        self._bytes = 0
        self._entries: deque[Entry] = deque()
        self._added: deque[float] = deque()
        self._floor = list(floor.offsets)
        self._head = list(floor.offsets)
        # Per partition, aligned: the offsets here, and the index of each.
        self._offsets: list[deque[int]] = [deque() for _ in floor.offsets]
        self._indexes: list[deque[int]] = [deque() for _ in floor.offsets]

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """The size of all frames."""
        return self._bytes

    @property
    def partitions(self) -> int:
        """How many partitions are known."""
        return len(self._head)

    @property
    def oldest_ms(self) -> int:
        """The timestamp of the oldest frame; 0 where there is none."""
        return self._entries[0].timestamp_ms if self._entries else 0

    @property
    def end(self) -> int:
        """The index that the next entry gets."""
        return self.first + len(self._entries)

    @property
    def floor(self) -> Position:
        """The earliest position that can be resumed from completely."""
        return from_offsets(self.epoch, self._floor)

    @property
    def head(self) -> Position:
        """The position after everything known, bad records included."""
        return from_offsets(self.epoch, self._head)

    def covers(self, partition: int, offset: int) -> bool:
        """Whether a record lies before the head."""
        return partition < len(self._head) and offset < self._head[partition]

    def append(self, entry: Entry, now: float) -> None:
        """Add the next entry; its offset must not be covered yet."""
        partition, offset, _, frame_bytes = entry
        if partition >= len(self._head):
            self._grow(partition + 1)
        if offset < self._head[partition]:
            raise ValueError(
                f"partition {partition}: offset {offset} after {self._head[partition] - 1}"
            )
        self._head[partition] = offset + 1
        self._offsets[partition].append(offset)
        self._indexes[partition].append(self.end)
        self._entries.append(entry)
        self._added.append(now)
        self._bytes += len(frame_bytes)
        self.trim(now)

    def advance(self, head: Position) -> None:
        """Note that the log was read up to `head`, though it held no further frame."""
        self._grow(len(head.offsets))
        for partition, offset in enumerate(head.offsets):
            self._head[partition] = max(self._head[partition], offset)

    def trim(self, now: float) -> None:
        """Let go of what is over the limits; the newest entry always stays."""
        limits = self._limits
        oldest = now - limits.max_age_seconds
        while len(self._entries) > 1 and (
            len(self._entries) > limits.max_frames
            or self._bytes > limits.max_bytes
            or self._added[0] < oldest
        ):
            gone = self._entries.popleft()
            self._added.popleft()
            self._offsets[gone.partition].popleft()
            self._indexes[gone.partition].popleft()
            self._floor[gone.partition] = gone.offset + 1
            self._bytes -= len(gone.frame)
            self.first += 1

    def locate(self, position: Position) -> Located:
        """Where to go on from a position of this epoch."""
        begin, replayed = self.end, 0
        for partition, offsets in enumerate(self._offsets):
            at = bisect_left(offsets, position.next_offset(partition))
            if at < len(offsets):
                begin = min(begin, self._indexes[partition][at])
                replayed += len(offsets) - at
        complete = not any(
            floor > position.next_offset(partition) for partition, floor in enumerate(self._floor)
        )
        return Located(begin, replayed, complete)

    def position_at(self, index: int) -> Position:
        """The position before the entry at `index`, first <= index <= end."""
        # Where a partition has nothing more, all that is known of it lies before.
        offsets = list(self._head)
        for partition, indexes in enumerate(self._indexes):
            at = bisect_left(indexes, index)
            if at < len(indexes):
                before = self._offsets[partition][at - 1] + 1 if at else self._floor[partition]
                offsets[partition] = before
        return from_offsets(self.epoch, offsets)

    def read(
        self, index: int, stop: int, max_bytes: int, skip: Position | None = None
    ) -> tuple[list[Entry], int]:
        """Entries from `index` up to `stop`, and the index after them.

        At least one is taken, then no more than fit into max_bytes of frames; those that `skip`
        covers are left out.
        """
        taken: list[Entry] = []
        size = 0
        while index < stop:
            entry = self._entries[index - self.first]
            if skip is None or not skip.covers(entry.partition, entry.offset):
                size += len(entry.frame)
                if size > max_bytes and taken:
                    break
                taken.append(entry)
            index += 1
        return taken, index

    def _grow(self, partitions: int) -> None:
        while len(self._head) < partitions:
            # A partition that was added later is read from its start.
            self._floor.append(0)
            self._head.append(0)
            self._offsets.append(deque())
            self._indexes.append(deque())


def gap_entries(stream: str, known: Position, floor: Position, reason: str) -> list[Entry]:
    """Markers for what is missing between two positions: a `lagged` message per partition.

    Each takes the place of the last missing record, so that whoever resumes from before the gap
    is told of it too, once, and whoever resumes from behind it is not.
    """
    markers = []
    for partition, offset in enumerate(floor.offsets):
        before = known.next_offset(partition)
        if offset <= before:
            continue
        after = known.after(partition, offset - 1)
        message = frame.lagged(stream, offset - before, str(known), str(after), reason)
        markers.append(Entry(partition, offset - 1, 0, message))
        known = after
    return markers


class TooSlow(Exception):
    """The cursor fell off the ring, and its owner asked to be disconnected then."""


class Cursor:
    """One subscription's place in the ring while it is not live.

    skip: what the client has already; frames below it are left out.
    """

    __slots__ = ("_ahead_until", "_position", "index", "on_lag", "skip")

    def __init__(self, index: int, position: Position, on_lag: OnLag) -> None:
        self.index = index
        self.on_lag = on_lag
        self.skip: Position | None = None
        self._position = position
        self._ahead_until: float | None = None

    def skip_to(self, skip: Position, now: float) -> None:
        """Leave out what `skip` covers; the ring is given a while to reach it."""
        self.skip = skip
        self._ahead_until = now + AHEAD_SECONDS

    def place(self, ring: Ring) -> Position:
        """What its client has."""
        position = ring.position_at(self.index) if self.index >= ring.first else self._position
        return position if self.skip is None else position.merge(self.skip)

    def take(
        self, stream: str, ring: Ring, stop: int, max_bytes: int, now: float
    ) -> tuple[list[bytes], int]:
        """The next frames up to index `stop`, and how many were skipped; raises TooSlow."""
        if self.index < ring.first:
            if self.on_lag is OnLag.DISCONNECT:
                raise TooSlow
            if self.on_lag is OnLag.LATEST:
                return self.jump_to_newest(stream, ring, stop)
            return self._jump(stream, ring, max(stop, ring.first))
        entries, self.index = ring.read(self.index, stop, max_bytes, self.skip)
        frames = [entry.frame for entry in entries]
        self._position = ring.position_at(self.index)
        if self.skip is not None and self.index == stop:
            frames += self._settle(stream, ring, now)
        return frames, 0

    def jump_to_newest(self, stream: str, ring: Ring, stop: int) -> tuple[list[bytes], int]:
        """What OnLag.LATEST wants after a pause: own up to the rest, keep the newest frame."""
        newest = max(stop - 1, ring.first)
        if newest <= self.index:
            return [], 0
        return self._jump(stream, ring, newest)

    def _jump(self, stream: str, ring: Ring, index: int) -> tuple[list[bytes], int]:
        missed = index - self.index
        target = ring.position_at(index)
        message = frame.lagged(stream, missed, str(self._position), str(target), LAGGED)
        self.index, self._position = index, target
        return [message], missed

    def _settle(self, stream: str, ring: Ring, now: float) -> list[bytes]:
        assert self.skip is not None
        if not self.skip.beyond(self._position):
            self.skip = None
            return []
        assert self._ahead_until is not None
        if now < self._ahead_until:
            return []
        reason = Unrecovered.POSITION_AHEAD.value
        message = frame.lagged(stream, None, str(self.skip), str(self._position), reason)
        self.skip = None
        return [message]
