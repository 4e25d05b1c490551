"""The ring: the newest frames of one stream, and cursors that read them at their own pace.

Rules of this file:

1. Entries have a dense index that never restarts: 0 for the first ever appended. `first` is the
   oldest one that is still in the ring, `end` the one that the next entry gets.
2. Within a partition offsets only rise. Between partitions there is no order, and another replica
   may have interleaved them differently; so what a position covers is judged per partition.
3. Kafka's offsets have holes (compaction, transactions, bad records). So loss is never judged by
   "offset + 1", only by the floor: records below it have left the ring, or were never in it.
"""

from __future__ import annotations

from array import array
from typing import Final, NamedTuple

from energyws.protocol import frame
from energyws.protocol.frame_position import position_of
from energyws.protocol.keys import key_of
from energyws.protocol.messages import OnLag, Unrecovered
from energyws.protocol.position import Position, from_offsets
from energyws.settings import History
from energyws.stream.key_index import KeyIndex
from energyws.stream.ring_partition import SPARE, RingPartition

# Two workers, or two replicas, are milliseconds apart. A client whose position is still ahead of
# the ring after this time claims one that the log does not have.
AHEAD_SECONDS: Final = 5.0
LAGGED: Final = "LAGGED"


class Entry(NamedTuple):
    """One frame and the record it was made from."""

    partition: int
    offset: int
    timestamp_ms: int
    frame: bytes


class Located(NamedTuple):
    """Where a position is in the ring: `replayed` frames, from index `start` on, come after it.

    complete: no frame after the position has left the ring.
    """

    start: int
    replayed: int
    complete: bool


_GONE: Final = Entry(0, 0, 0, b"")


class Ring:
    """Bounded by count, bytes and age; the oldest goes first. Times are monotonic seconds.

    keys: of the entries, where the stream has keys, or somebody has asked for them.
    """

    def __init__(self, limits: History, floor: Position, *, keyed: bool = False) -> None:
        self.epoch: Final = floor.epoch
        self.first = 0
        self.keys = KeyIndex() if keyed else None
        self._limits = limits
        self._bytes = 0
        # The oldest entry is at `_begin`, as in RingPartition, and so is the time when it came.
        self._begin = 0
        self._entries: list[Entry] = []
        self._added = array("d")
        self._partitions = [RingPartition(offset) for offset in floor.offsets]

    def __len__(self) -> int:
        return len(self._entries) - self._begin

    @property
    def bytes(self) -> int:
        return self._bytes

    @property
    def partitions(self) -> int:
        return len(self._partitions)

    @property
    def oldest_ms(self) -> int:
        """The timestamp of the oldest frame; 0 where there is none."""
        return self._entries[self._begin].timestamp_ms if len(self) else 0

    @property
    def end(self) -> int:
        """The index of the next entry."""
        return self.first + len(self._entries) - self._begin

    @property
    def floor(self) -> Position:
        """The earliest position that can be resumed from completely."""
        return from_offsets(self.epoch, [each.floor for each in self._partitions])

    @property
    def head(self) -> Position:
        """The position after all records that were read, including bad ones."""
        return from_offsets(self.epoch, [each.head for each in self._partitions])

    def covers(self, partition: int, offset: int) -> bool:
        """Whether a record is below the head."""
        partitions = self._partitions
        return partition < len(partitions) and offset < partitions[partition].head

    def append(self, entry: Entry, now: float) -> None:
        """Add the next entry; raises ValueError if its offset is below the head."""
        number, offset, _, frame_bytes = entry
        if number >= len(self._partitions):
            self._grow(number + 1)
        partition = self._partitions[number]
        if offset < partition.head:
            raise ValueError(f"partition {number}: offset {offset} after {partition.head - 1}")
        partition.append(offset, self.first + len(self._entries) - self._begin)
        self._entries.append(entry)
        self._added.append(now)
        self._bytes += len(frame_bytes)
        if self.keys is not None:
            self.keys.append(key_of(frame.payload(frame_bytes)))
        self.trim(now)

    def advance(self, head: Position) -> bool:
        """The log was read up to `head`, without a further frame. Whether the head has moved."""
        moved = len(head.offsets) > len(self._partitions)
        self._grow(len(head.offsets))
        for partition, offset in zip(self._partitions, head.offsets, strict=False):
            if offset > partition.head:
                partition.head = offset
                moved = True
        return moved

    def trim(self, now: float) -> None:
        """Drop the oldest entries until the limits hold; the newest entry always stays."""
        limits = self._limits
        oldest = now - limits.max_age_seconds
        while (count := len(self._entries) - self._begin) > 1 and (
            count > limits.max_frames
            or self._bytes > limits.max_bytes
            or self._added[self._begin] < oldest
        ):
            begin, entries = self._begin, self._entries
            dropped, entries[begin] = entries[begin], _GONE
            self._begin = begin = begin + 1
            self.first += 1
            self._bytes -= len(dropped.frame)
            if begin >= SPARE and 2 * begin >= len(entries):
                del entries[:begin], self._added[:begin]
                self._begin = 0
            self._partitions[dropped.partition].drop()
            if self.keys is not None:
                self.keys.drop()

    def locate(self, position: Position) -> Located:
        """Where to continue from a position of this epoch."""
        start, replayed, complete = self.end, 0, True
        for number, partition in enumerate(self._partitions):
            offset = position.next_offset(number)
            complete = complete and offset >= partition.floor
            first, count = partition.after(offset)
            if first is not None:
                start = min(start, first)
                replayed += count
        return Located(start, replayed, complete)

    def position_at(self, index: int) -> Position:
        """The position before the entry at `index`, first <= index <= end.

        As time goes by, that before the same index never goes back. Where the ring has keys, it is
        not before that of any frame either: what has no frame may have been read before it.
        """
        if index == self.end:
            position = self.head
        else:
            heads = [each.head_at(index) for each in self._partitions]
            position = from_offsets(self.epoch, heads)
        if self.keys is None or index == self.first:
            return position
        return position.merge(position_of(self[index - 1].frame))

    def index_keys(self) -> None:
        """Know the keys of the entries from now on, if there are none."""
        if self.keys is None:
            self.keys = KeyIndex(self.first)
            for entry in self._entries[self._begin :]:
                self.keys.append(key_of(frame.payload(entry.frame)))

    def __getitem__(self, index: int) -> Entry:
        """The entry at `index`, first <= index < end."""
        return self._entries[index - self.first + self._begin]

    def added_at(self, index: int) -> float:
        """When the entry at `index` came; first <= index < end."""
        return self._added[index - self.first + self._begin]

    def read(
        self, index: int, stop: int, max_bytes: int, skip: Position | None = None
    ) -> tuple[list[Entry], int]:
        """Entries from `index` up to `stop`, and the index after them.

        At least one is taken, then as many as fit into max_bytes of frames; entries that `skip`
        covers are left out.
        """
        taken: list[Entry] = []
        size = 0
        entries, shift = self._entries, self._begin - self.first
        while index < stop:
            entry = entries[index + shift]
            if skip is None or not skip.covers(entry.partition, entry.offset):
                size += len(entry.frame)
                if size > max_bytes and taken:
                    break
                taken.append(entry)
            index += 1
        return taken, index

    def _grow(self, partitions: int) -> None:
        while len(self._partitions) < partitions:
            # A partition that was added later is read from its start.
            self._partitions.append(RingPartition(0))


def gap_entries(stream: str, known: Position, floor: Position, reason: str) -> list[Entry]:
    """Entries that report a gap between two positions: a `lagged` message per partition.

    Each has the offset of the last missing record. So a client that resumes from before the gap
    receives it exactly once, and one that resumes from after the gap does not.
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
    """The ring has dropped the cursor's next entry, and the client chose OnLag.DISCONNECT."""


class Cursor:
    """The next index of one subscription while it is not live.

    skip: the position that the client has; frames that it covers are left out.
    """

    __slots__ = ("_ahead_until", "_position", "index", "on_lag", "skip")

    def __init__(self, index: int, position: Position, on_lag: OnLag) -> None:
        self.index = index
        self.on_lag = on_lag
        self.skip: Position | None = None
        self._position = position
        self._ahead_until: float | None = None

    def skip_to(self, skip: Position, now: float) -> None:
        """Leave out frames that `skip` covers; the ring has AHEAD_SECONDS to reach it."""
        self.skip = skip
        self._ahead_until = now + AHEAD_SECONDS

    def position(self, ring: Ring) -> Position:
        """The position of its client."""
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
        frames, self.index = self._read(ring, stop, max_bytes)
        self._position = ring.position_at(self.index)
        if self.skip is not None and self.index == stop:
            frames += self._settle(stream, ring, now)
        return frames, 0

    def _read(self, ring: Ring, stop: int, max_bytes: int) -> tuple[list[bytes], int]:
        """The next frames, as in Ring.read, and the index after them."""
        entries, index = ring.read(self.index, stop, max_bytes, self.skip)
        return [entry.frame for entry in entries], index

    def jump_to_newest(self, stream: str, ring: Ring, stop: int) -> tuple[list[bytes], int]:
        """OnLag.LATEST after a pause: report the skipped frames, and keep the newest one."""
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
