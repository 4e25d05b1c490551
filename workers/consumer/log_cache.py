"""What a topic still holds: its ends, its times, and blocks of its records in a bounded cache.

For one thread. Its Kafka clients are made when they are first needed: a service that nobody asks
anything back does not pay for them.

Memory is bounded by bytes, whatever the records weigh: a partition whose blocks are too heavy for
its share of the cache gets smaller ones, down to one record. Where even those do not fit side by
side, `StreamLog.load` reads some of them, and the partitions are merged as far as they are there.
"""

from __future__ import annotations

import sys
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import Any, Final, NamedTuple

from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from energyws.errors import EnergywsError
from energyws.process.board import Field, Row
from energyws.protocol.frame import DataFrames
from energyws.protocol.position import Position, from_offsets
from energyws.settings import Settings
from energyws.stream.history import Block, block_records, first_since
from workers.consumer.log_reader import LogReader, Range, RecordsRead, Unreadable, weight
from workers.consumer.metadata import Topic, describe, list_offsets

CACHE_BYTES: Final = 16 << 20
# The cache is larger for topics of many partitions: one merge holds a block of each.
PARTITION_BYTES: Final = 64 << 10
# How many blocks are read in one go where one follows another that was read.
BLOCKS_AHEAD: Final = 4
# How long a topic's low watermarks, and the offsets of an age, are taken to be what they were.
LOWS_SECONDS: Final = 1.0
AGE_SECONDS: Final = 10.0
_BY_OFFSET: Final = attrgetter("offset")

# A partition, and an offset of it.
_Key = tuple[int, int]


class StreamHead(NamedTuple):
    """A stream as the live side sees it.

    epoch: of its positions; topic_epoch: of the topic, as discovery names it; head: everything
    before it has been published.
    """

    epoch: str
    topic_epoch: str
    head: Position


class NotYet(EnergywsError):
    """The topic was made anew, and the live side has yet to notice; or a partition is away."""


class LogCache:
    """The logs of all streams. Whatever it does may raise KafkaException, Unreadable or Unknown."""

    def __init__(self, settings: Settings, client: Mapping[str, Any], row: Row) -> None:
        self.settings = settings
        self._client = client
        self._row = row
        self._pasts: dict[str, StreamLog] = {}
        self._cached = 0
        # How many bytes of records have been read, ever.
        self.bytes_read = 0
        self._admin: AdminClient | None = None
        self._reader: LogReader | None = None

    def close(self) -> None:
        """Close the clients."""
        if self._reader is not None:
            self._reader.close()

    def past(self, stream: str, view: StreamHead) -> StreamLog:
        """A stream's log, up to the head of `view`; raises NotYet."""
        now = time.monotonic()
        past = self._pasts.get(stream)
        if past is None or past.epoch != view.epoch or now - past.seen_at >= LOWS_SECONDS:
            # Of a topic that has outgrown positions, those are read that the live side reads.
            topic = describe(
                self.admin, self.topic(stream), known_epoch=view.topic_epoch, most=sys.maxsize
            )
            if topic.epoch != view.topic_epoch or len(topic.ends) < len(view.head.offsets):
                raise NotYet(stream)
            if past is None or past.epoch != view.epoch or past.size != _size(topic):
                if past is not None:
                    self._cached -= sum(map(_weight, past.blocks.values()))
                past = self._pasts[stream] = StreamLog(self, stream, view.epoch, _size(topic))
            past.seen_at = now
            past.unreadable = frozenset(topic.waits)
            past.lows = from_offsets(
                view.epoch,
                (
                    view.head.next_offset(partition) if ends is None else ends[0]
                    for partition, ends in enumerate(topic.ends[: len(view.head.offsets)])
                ),
            )
        past.head = view.head
        return past

    def doubt(self, stream: str) -> None:
        """Something was not where it should be: look at the log anew."""
        if (past := self._pasts.get(stream)) is not None:
            past.seen_at = 0.0

    def topic(self, stream: str) -> str:
        """The name of a stream's topic."""
        return self.settings.streams[stream].topic

    @property
    def admin(self) -> AdminClient:
        """The client for everything but records."""
        if self._admin is None:
            self._admin = AdminClient(dict(self._client))
        return self._admin

    def read(self, past: StreamLog, ranges: Mapping[int, Range]) -> dict[int, RecordsRead]:
        """Read these ranges into the cache: whole blocks but at the log's ends, as many as fit."""
        if self._reader is None:
            self._reader = LogReader(self._client, self.settings.kafka)
        limit = past.cache_bytes
        found = self._reader.read(self.topic(past.stream), ranges, past.share_bytes, limit)
        fresh: set[_Key] = set()
        for partition, taken in found.items():
            self.bytes_read += taken.weight
            self._row.add(Field.READ_BACK, len(taken.records))
            for block in past.cut(partition, ranges[partition].begin, taken):
                key = past.key(partition, block.start)
                if (old := past.blocks.pop(key, None)) is not None:
                    self._cached -= _weight(old)
                past.blocks[key] = block
                self._cached += _weight(block)
                fresh.add(key)
        self._evict(past, limit, fresh)
        return found

    def _evict(self, current: StreamLog, limit: int, fresh: set[_Key]) -> None:
        # Of other streams first, and never what has just been read.
        others = [past for past in self._pasts.values() if past is not current]
        for past in (*others, current):
            for key in list(past.blocks):
                if self._cached <= limit:
                    return
                if past is not current or key not in fresh:
                    self._cached -= _weight(past.blocks.pop(key))


class StreamLog:
    """One stream's log in one epoch.

    lows: the broker's low watermarks; head: nothing from there on is handed out; size: how many
    offsets a block spans at most; frames: builds the stream's frames.
    """

    def __init__(self, archive: LogCache, stream: str, epoch: str, size: int) -> None:
        self.stream = stream
        self.epoch = epoch
        self.size = size
        self.frames = DataFrames(stream)
        self.lows = self.head = from_offsets(epoch, [])
        self.unreadable: frozenset[int] = frozenset()
        self.seen_at = 0.0
        # By partition and the multiple of its size where a block begins, or would but for the log.
        self.blocks: OrderedDict[_Key, Block] = OrderedDict()
        # Of partitions with heavy records: how many offsets their blocks span.
        self._sizes: dict[int, int] = {}
        self._archive = archive
        self._oldest: tuple[float, Position] | None = None

    @property
    def cache_bytes(self) -> int:
        """What the blocks in memory may weigh."""
        return max(CACHE_BYTES, PARTITION_BYTES * len(self.lows.offsets))

    @property
    def share_bytes(self) -> int:
        """What one partition may add to them at a time: all together, half of it."""
        return self.cache_bytes // (2 * len(self.lows.offsets))

    def known(self, partition: int, offset: int) -> Block | None:
        """The block that holds an offset, if it is in the cache."""
        # What was just read may be from before they grew; what is larger, from before they shrank.
        size = max(1, self._sizes.get(partition, 2 * self.size) // 2)
        while size <= self.size:
            key = partition, offset - offset % size
            block = self.blocks.get(key)
            if block is not None and block.start <= offset < block.stop:
                self.blocks.move_to_end(key)
                return block
            size *= 2
        return None

    def key(self, partition: int, offset: int) -> _Key:
        """Where a block that begins at an offset is kept, at the partition's present size."""
        return partition, offset - offset % self._sizes.get(partition, self.size)

    def require(self, position: Position) -> None:
        """Raises NotYet where what follows a position lies in a partition that is away."""
        for partition in self.unreadable:
            if position.next_offset(partition) < self.head.next_offset(partition):
                raise NotYet(self.stream)

    def block(self, partition: int, offset: int) -> Block:
        """The block that holds an offset, read now if need be."""
        block = self.known(partition, offset)
        if block is None:
            self.load([(partition, offset)])
            block = self.known(partition, offset)
            assert block is not None, "what has just been read is in the cache"
        return block

    def load(self, places: Iterable[tuple[int, int]]) -> bool:
        """Read the blocks that hold these (partition, offset), and maybe some that follow.

        False: not all of them fit into memory. One of them at least is there then.
        """
        while True:
            ranges = {partition: self._range(partition, offset) for partition, offset in places}
            heavy = False
            for partition, taken in self._archive.read(self, ranges).items():
                heavy |= self._weigh(partition, ranges[partition], taken)
            places = [place for place in places if self.known(*place) is None]
            if not (places and heavy):
                return not places

    def cut(self, partition: int, begin: int, taken: RecordsRead) -> Iterator[Block]:
        """The whole blocks among the records that were read from `begin` on."""
        size = self._sizes.get(partition, self.size)
        end = min(taken.reached, self.head.next_offset(partition))
        at = 0
        while begin < end:
            stop = begin - begin % size + size
            if stop > end and taken.reached < self.head.next_offset(partition):
                return
            stop = min(stop, end)
            last = bisect_left(taken.records, stop, at, key=_BY_OFFSET)
            yield Block(begin, stop, taken.records[at:last])
            begin, at = stop, last

    def _range(self, partition: int, offset: int) -> Range:
        size = self._sizes.get(partition, self.size)
        # Never beyond the head: what has been published can be read, whatever transaction is still
        # open behind it.
        low, head = self.lows.next_offset(partition), self.head.next_offset(partition)
        first = offset - offset % size
        last = first + size
        # Ahead only where somebody has come from before: a question about any place reads one.
        ahead = BLOCKS_AHEAD if self.known(partition, first - 1) else 1
        while last < first + size * ahead and (partition, last) not in self.blocks:
            last += size
        begin, needed, stop = max(low, first), min(head, first + size), min(head, last)
        if not begin <= offset < stop:
            raise Unreadable(f"partition {partition}: offset {offset} is not from {low} to {head}")
        return Range(begin, needed, stop)

    def _weigh(self, partition: int, range_: Range, taken: RecordsRead) -> bool:
        """Fit the partition's blocks to its records; whether they are smaller now."""
        size, share = self._sizes.get(partition, self.size), self.share_bytes
        if taken.reached < range_.needed and taken.weight >= share:
            fitting = share * len(taken.records) // taken.weight
            self._sizes[partition] = min(size // 2, 1 << max(fitting, 1).bit_length() - 1)
            return True
        if size < self.size and taken.reached == range_.stop and 8 * taken.weight <= share:
            self._sizes[partition] = 2 * size
        return False

    def since(self, since_ms: int) -> Position:
        """The position before the first record of each partition that is not older."""
        readable = [p for p in range(len(self.head.offsets)) if p not in self.unreadable]
        name = self._archive.topic(self.stream)
        spec = OffsetSpec.for_timestamp(since_ms)
        offsets = list(self.head.offsets)
        answers = list_offsets(self._archive.admin, name, readable, spec) if readable else []
        for partition, offset in zip(readable, answers, strict=True):
            low, head = self.lows.next_offset(partition), self.head.offsets[partition]
            if 0 <= offset < head:
                offsets[partition] = offset
                continue
            # None: so it is, or the broker does not look it up (the embedded one does not).
            offsets[partition] = head
            if low < head:
                offsets[partition] = first_since(since_ms, partition, low, head, self.block)
        return from_offsets(self.epoch, offsets)

    def oldest(self) -> Position:
        """The earliest position that history.max_record_age_seconds allows."""
        age = self._archive.settings.history.max_record_age_seconds
        if age is None:
            return self.lows
        now = time.monotonic()
        if self._oldest is None or now - self._oldest[0] > min(AGE_SECONDS, age / 10):
            self._oldest = now, self.since(max(0, int((time.time() - age) * 1000)))
        return self._oldest[1]


def _size(topic: Topic) -> int:
    return block_records(len(topic.ends))


def _weight(block: Block) -> int:
    return sum(map(weight, block.records)) + 200
