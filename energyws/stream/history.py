"""Reading history from the log: where a replay starts, and how stored records become frames.

Rules of this file:

1. A replay is a chain of chunks. Each chunk leads from one position to the next, and the position
   is the replay's only state, so a slow client costs no more than a fast one.
2. Partitions are merged by the time of their records, so a chain does not depend on how any
   consumer happened to interleave them. A chunk ends where a partition's block ends: so chains that
   started at different positions soon reach the same positions, and share their chunks.
3. A chunk never changes: later records do not alter what lies between two positions.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, NamedTuple

from energyws.errors import EnergywsError
from energyws.protocol.frame import DataFrames
from energyws.protocol.messages import Unrecovered
from energyws.protocol.position import Position, from_offsets
from energyws.stream.key_index import ChunkKeys, Selection

# One merge holds a block of every partition: about this many records together.
RECORDS_AT_ONCE: Final = 2048
MIN_BLOCK_RECORDS: Final = 16
MAX_BLOCK_RECORDS: Final = 512
# Up to this many, the newest records are found by reading; beyond it, by partitions' lengths.
MAX_EXACT: Final = 20_000
_BY_OFFSET: Final = attrgetter("offset")


@dataclass(frozen=True, slots=True)
class FindStart:
    """The history request for where a subscription can start; one of the last three is set.

    after: everything after this position; since_ms: everything since this time, milliseconds
    since the Unix epoch; last: the newest `last` records.
    """

    stream: str
    epoch: str
    after: Position | None = None
    since_ms: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class ReadChunks:
    """The history request for the chunks that follow a position."""

    stream: str
    after: Position


HistoryRequest = FindStart | ReadChunks


@dataclass(frozen=True, slots=True)
class StartPoint:
    """Where a subscription can start. reason: why that is not all that was requested.

    earliest: the first position from which records are available. missing: of each partition, at
    most how many records lie between what was requested and `position`; None if unknown.
    """

    position: Position
    earliest: Position
    reason: Unrecovered | None = None
    missing: tuple[int, ...] | None = None


@dataclass(slots=True)
class Chunk:
    """The frames between two positions, joined; `frames` may be 0 where the log has holes.

    keys: of the frames, once somebody has asked for those of some keys.
    """

    start: Position
    end: Position
    frames: int
    data: bytes
    keys: ChunkKeys | None = field(default=None, compare=False, repr=False)

    def of_keys(self, selection: Selection) -> tuple[list[bytes], int]:
        """The frames that are for it, in order, and how many newer ones supersede."""
        if self.keys is None:
            self.keys = ChunkKeys(self.data)
        return self.keys.find(selection, self.data)


class Stored(NamedTuple):
    """One good record of the log; data and key: see energyws.stream.record.Decoded."""

    offset: int
    timestamp_ms: int
    data: bytes | None
    key: bytes | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """All good records of a partition from offset `start` to `stop` (exclusive)."""

    start: int
    stop: int
    records: Sequence[Stored]


class BlocksNeeded(EnergywsError):
    """The blocks that hold these (partition, offset) must be read from the log first."""

    def __init__(self, offsets: Iterable[tuple[int, int]]) -> None:
        self.offsets = list(offsets)
        super().__init__(f"to be read: {self.offsets}")


# Returns the block that holds an offset of a partition, or None if it has not been read yet.
Known = Callable[[int, int], Block | None]
# The same, but reads the block if necessary.
Blocks = Callable[[int, int], Block]


def block_records(partitions: int) -> int:
    """How many offsets a block of this topic spans: a power of two."""
    share = RECORDS_AT_ONCE // partitions
    return max(MIN_BLOCK_RECORDS, min(MAX_BLOCK_RECORDS, 1 << max(share, 1).bit_length() - 1))


def resume_after(
    after: Position, lows: Position, oldest: Position, head: Position, max_messages: int
) -> StartPoint:
    """Where a replay after a position can start.

    lows: the broker's low watermarks; oldest: the earliest position that the age limit allows, at
    most `head`.
    """
    kept = after.merge(lows)
    earliest = lows.merge(oldest)
    start = newest_share(after.merge(earliest), head, max_messages)
    if start.beyond(kept):
        reason = Unrecovered.HISTORY_EXCEEDED
    elif kept.beyond(after):
        reason = Unrecovered.RETENTION
    else:
        return StartPoint(after, earliest)
    missing = tuple(
        max(0, offset - after.next_offset(partition))
        for partition, offset in enumerate(start.offsets)
    )
    return StartPoint(start, earliest, reason, missing)


def newest_share(position: Position, head: Position, max_records: int) -> Position:
    """The position, moved forward if more than max_records lie between it and the head."""
    behind = [
        max(0, offset - position.next_offset(partition))
        for partition, offset in enumerate(head.offsets)
    ]
    total = sum(behind)
    if total <= max_records:
        return position
    offsets = [
        end - count * max_records // total for end, count in zip(head.offsets, behind, strict=True)
    ]
    return position.merge(from_offsets(position.epoch, offsets))


def newest(count: int, lows: Position, head: Position, blocks: Blocks) -> tuple[Position, int]:
    """The position before the newest `count` records by time, and how many follow it at most."""
    if count > MAX_EXACT:
        return newest_about(count, lows, head)
    at = list(head.offsets)
    # Times and offsets only: the records of all partitions together may be larger than memory.
    heap: list[tuple[int, int, int]] = []
    for partition, end in enumerate(at):
        _push_last_before(heap, partition, end, lows, blocks)
    found = 0
    while heap and found < count:
        _, negative, offset = heapq.heappop(heap)
        at[-negative] = offset
        found += 1
        _push_last_before(heap, -negative, offset, lows, blocks)
    return from_offsets(head.epoch, at), found


def newest_about(count: int, lows: Position, head: Position) -> tuple[Position, int]:
    """The same without reading: each partition contributes in proportion to its length."""
    position = newest_share(lows, head, count)
    pairs = zip(head.offsets, position.offsets, strict=True)
    return position, sum(max(0, end - begin) for end, begin in pairs)


def _push_last_before(
    heap: list[tuple[int, int, int]], partition: int, offset: int, lows: Position, blocks: Blocks
) -> None:
    record = _last_before(partition, offset, lows, blocks)
    if record is not None:
        heapq.heappush(heap, (-record.timestamp_ms, -partition, record.offset))


def _last_before(partition: int, offset: int, lows: Position, blocks: Blocks) -> Stored | None:
    low = lows.next_offset(partition)
    while offset > low:
        block = blocks(partition, offset - 1)
        at = bisect_left(block.records, offset, key=_BY_OFFSET)
        if at and block.records[at - 1].offset >= low:
            return block.records[at - 1]
        offset = block.start
    return None


def first_since(timestamp_ms: int, partition: int, low: int, high: int, blocks: Blocks) -> int:
    """The first offset in [low, high) of a record that is not older; `high` if there is none.

    By bisection, so exact only where a partition's times rise. For brokers that do not look up
    offsets by time.
    """
    offset, last = low, high
    while offset < last:
        block = blocks(partition, (offset + last) // 2)
        # A block without records proves nothing: the offset may lie before it.
        if not block.records or block.records[-1].timestamp_ms >= timestamp_ms:
            last = block.start
        else:
            offset = block.stop
    while offset < high:
        block = blocks(partition, offset)
        for record in block.records:
            if record.timestamp_ms >= timestamp_ms:
                return record.offset
        offset = block.stop
    return high


class _Reader:
    """One partition's progress in a merge."""

    __slots__ = ("at", "block", "head", "index", "partition")

    def __init__(self, partition: int, at: int, head: int) -> None:
        self.partition = partition
        self.at = at
        self.head = head
        self.block: Block | None = None
        self.index = 0

    def enter(self, known: Known) -> tuple[int, int] | None:
        """Go to the next record, across blocks; returns the (partition, offset) that is missing."""
        while self.at < self.head:
            block = known(self.partition, self.at)
            if block is None:
                return self.partition, self.at
            self.block = block
            self.index = bisect_left(block.records, self.at, key=_BY_OFFSET)
            if not self.settle():
                break
        return None

    def settle(self) -> bool:
        """Call this after a step; True if the block ends here, and the partition continues."""
        assert self.block is not None
        if self.index < len(self.block.records):
            if self.block.records[self.index].offset >= self.head:
                self.at = self.head
            return False
        self.at = max(self.at, min(self.block.stop, self.head))
        return self.at < self.head

    def record(self) -> Stored:
        assert self.block is not None
        return self.block.records[self.index]


def assemble(
    frames: DataFrames,
    begin: Position,
    head: Position,
    known: Known,
    max_bytes: int,
    *,
    whole: bool = True,
) -> Chunk:
    """The next chunk after `begin`, not beyond `head`; raises BlocksNeeded.

    It ends at about max_bytes, at the end of a block, or at the head. whole: of all partitions;
    otherwise partitions whose block is missing are left for a later chunk, if there are others.
    """
    readers = [_Reader(p, begin.next_offset(p), end) for p, end in enumerate(head.offsets)]
    missing = {
        needed[0]: needed for reader in readers if (needed := reader.enter(known)) is not None
    }
    heap = [
        (reader.record().timestamp_ms, reader.partition)
        for reader in readers
        if reader.at < reader.head and reader.partition not in missing
    ]
    # Passing holes without a record is progress too.
    moved = any(reader.at > begin.next_offset(reader.partition) for reader in readers)
    if missing and (whole or not (heap or moved)):
        raise BlocksNeeded(missing.values())
    heapq.heapify(heap)
    # A forged position may name more partitions than there are.
    at = [*(reader.at for reader in readers), *begin.offsets[len(readers) :]]
    texts = [str(offset) for offset in at]
    built: list[bytes] = []
    size = 0
    while heap and size < max_bytes:
        _, partition = heap[0]
        reader = readers[partition]
        record = reader.record()
        reader.at = record.offset + 1
        reader.index += 1
        texts[partition] = str(reader.at)
        frame = frames.build(
            record.timestamp_ms, record.data, f"{begin.epoch}-{'.'.join(texts)}", record.key
        )
        built.append(frame)
        size += len(frame)
        ended = reader.settle()
        # Pass the holes after the last record, so that the chunk ends where the next one starts.
        at[partition] = reader.at
        texts[partition] = str(reader.at)
        if ended:
            break
        if reader.at < reader.head:
            heapq.heapreplace(heap, (reader.record().timestamp_ms, partition))
        else:
            heapq.heappop(heap)
    return Chunk(begin, from_offsets(begin.epoch, at), len(built), b"".join(built))
