"""Reading back from the log: where a replay begins, and how stored records become frames again.

Rules of this file:

1. A replay is a chain of chunks: each leads from one position to the next, and the position says
   all there is to know of it. Nobody has to be remembered who reads slowly.
2. Partitions are merged by the time of their records, so a chain does not depend on how any
   consumer happened to interleave them. A chunk ends where a partition's block ends: so chains
   that began at different positions soon run through the same ones, and share their chunks.
3. What is handed out is true for ever: later records never change what lies between two positions.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final, NamedTuple

from energyws.errors import EnergywsError
from energyws.protocol.frame import DataFrames
from energyws.protocol.messages import Unrecovered
from energyws.protocol.position import Position, from_offsets

# One merge holds a block of every partition: together about so many records, whatever their number.
RECORDS_AT_ONCE: Final = 2048
MIN_BLOCK_RECORDS: Final = 16
MAX_BLOCK_RECORDS: Final = 512
# The newest so many are found by reading them; of more, each partition gives its share.
EXACTLY: Final = 20_000
_BY_OFFSET: Final = attrgetter("offset")


@dataclass(frozen=True, slots=True)
class FindStart:
    """Where a subscription wants to begin; exactly one of the last three is set.

    after: everything after this position; since_ms: everything since this time, milliseconds
    since the Unix epoch; last: so many of the newest records.
    """

    stream: str
    epoch: str
    after: Position | None = None
    since_ms: int | None = None
    last: int | None = None


@dataclass(frozen=True, slots=True)
class StartPoint:
    """Where it can begin. A reason: not all that was asked for is there.

    earliest: nothing before it can be had. missing: how many records of each partition at most
    lie between what was asked for and `position`; None where nobody can tell.
    """

    position: Position
    earliest: Position
    reason: Unrecovered | None = None
    missing: tuple[int, ...] | None = None


class Chunk(NamedTuple):
    """The frames between two positions, joined; `frames` may be 0 where the log has holes."""

    start: Position
    end: Position
    frames: int
    data: bytes


class Stored(NamedTuple):
    """One good record as it lies in the log; data is a JSON object."""

    offset: int
    timestamp_ms: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """All good records of a partition from offset `start` up to, not with, `stop`."""

    start: int
    stop: int
    records: Sequence[Stored]


class BlocksNeeded(EnergywsError):
    """These (partition, offset) must be read from the log first."""

    def __init__(self, places: Iterable[tuple[int, int]]) -> None:
        self.places = list(places)
        super().__init__(f"to be read: {self.places}")


# The block that holds an offset of a partition, or None where it has not been read yet.
Known = Callable[[int, int], Block | None]
# The same, read now where need be.
Blocks = Callable[[int, int], Block]


def block_records(partitions: int) -> int:
    """How many offsets a block of this topic spans: a power of two."""
    share = RECORDS_AT_ONCE // partitions
    return max(MIN_BLOCK_RECORDS, min(MAX_BLOCK_RECORDS, 1 << max(share, 1).bit_length() - 1))


def resume_after(
    after: Position, lows: Position, oldest: Position, head: Position, max_messages: int
) -> StartPoint:
    """Where a replay after a position can begin.

    lows: the broker's low watermarks; oldest: what may be asked back by age, at most `head`.
    """
    kept = after.merge(lows)
    earliest = lows.merge(oldest)
    begin = _newest_share(after.merge(earliest), head, max_messages)
    if begin.beyond(kept):
        reason = Unrecovered.HISTORY_EXCEEDED
    elif kept.beyond(after):
        reason = Unrecovered.RETENTION
    else:
        return StartPoint(after, earliest)
    missing = tuple(
        max(0, offset - after.next_offset(partition))
        for partition, offset in enumerate(begin.offsets)
    )
    return StartPoint(begin, earliest, reason, missing)


def _newest_share(position: Position, head: Position, most: int) -> Position:
    """The position, moved up where more than `most` records lie before the head."""
    waiting = [
        max(0, offset - position.next_offset(partition))
        for partition, offset in enumerate(head.offsets)
    ]
    total = sum(waiting)
    if total <= most:
        return position
    offsets = [
        end - count * most // total for end, count in zip(head.offsets, waiting, strict=True)
    ]
    return position.merge(from_offsets(position.epoch, offsets))


def newest(count: int, lows: Position, head: Position, blocks: Blocks) -> tuple[Position, int]:
    """The position before the newest `count` records by time, and how many there are, at most."""
    if count > EXACTLY:
        return newest_about(count, lows, head)
    at = list(head.offsets)
    # Times and places only: the records of all partitions together may be larger than memory.
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
    """The same without reading: each partition gives its share of the count, by its length."""
    position = _newest_share(lows, head, count)
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
    """The first offset of [low, high) whose block has reached a time; `high` if none has.

    By bisection: right where a partition's times rise. For brokers that do not look it up
    themselves.
    """
    offset, last = low, high
    while offset < last:
        block = blocks(partition, (offset + last) // 2)
        # A block without records says nothing: what is looked for may lie before it.
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
    """One partition's place in a merge."""

    __slots__ = ("at", "block", "head", "index", "partition")

    def __init__(self, partition: int, at: int, head: int) -> None:
        self.partition = partition
        self.at = at
        self.head = head
        self.block: Block | None = None
        self.index = 0

    def enter(self, known: Known) -> tuple[int, int] | None:
        """Go to the next record, over as many blocks as that takes; the place that is missing."""
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
        """After a step: whether the block ends here, with more of the partition behind it."""
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
    """The next chunk after `begin`, none of it beyond `head`; raises BlocksNeeded.

    It ends at about max_bytes, at the end of a block, or at the head. whole: of all partitions;
    else those whose block is missing are left for a later chunk, as long as there are others.
    """
    readers = [_Reader(p, begin.next_offset(p), end) for p, end in enumerate(head.offsets)]
    missing = {place[0]: place for reader in readers if (place := reader.enter(known)) is not None}
    heap = [
        (reader.record().timestamp_ms, reader.partition)
        for reader in readers
        if reader.at < reader.head and reader.partition not in missing
    ]
    # Where it stands behind holes, it has got somewhere as well.
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
        frame = frames.build(record.timestamp_ms, record.data, f"{begin.epoch}-{'.'.join(texts)}")
        built.append(frame)
        size += len(frame)
        ended = reader.settle()
        # Holes behind the last record are passed here, so that the end is where the next begins.
        at[partition] = reader.at
        texts[partition] = str(reader.at)
        if ended:
            break
        if reader.at < reader.head:
            heapq.heapreplace(heap, (reader.record().timestamp_ms, partition))
        else:
            heapq.heappop(heap)
    return Chunk(begin, from_offsets(begin.epoch, at), len(built), b"".join(built))
