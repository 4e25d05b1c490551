"""What a topic's log still holds: its ends, offsets by time, and a bounded cache of its records.

For one thread. Its Kafka clients are created when they are first needed: a service without history
requests does not pay for them.

Memory is bounded by bytes, however heavy the records are: a partition whose blocks are too heavy
for its share of the cache gets smaller ones, down to one record. Where even those do not fit
together, `StreamLog.load` reads some of them, and the partitions are merged as far as possible.
"""

from __future__ import annotations

import sys
import time
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, Final, NamedTuple

from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from energyws.errors import EnergywsError
from energyws.process.board import Field, Row
from energyws.protocol.frame import DataFrames
from energyws.protocol.position import Position, from_offsets
from energyws.settings import Settings
from energyws.stream.history import Block, block_records, first_since
from energyws.stream.record import Decoder
from workers.consumer.log_reader import LogReader, Range, RecordsRead, Unreadable, weight
from workers.consumer.metadata import Topic, describe, list_offsets
from workers.consumer.schemas.store import Schemas

CACHE_BYTES: Final = 16 << 20
# The cache is larger for topics of many partitions: one merge holds a block of each.
PARTITION_BYTES: Final = 64 << 10
# How many blocks are read at once when a log is read in order.
BLOCKS_AHEAD: Final = 4
# How long a topic's low watermarks, and the offsets of an age, are taken to be unchanged.
LOWS_SECONDS: Final = 1.0
AGE_SECONDS: Final = 10.0
_BY_OFFSET: Final = attrgetter("offset")

# A partition, and an offset of it.
_Key = tuple[int, int]


class StreamHead(NamedTuple):
    """How far a stream has been published.

    epoch: of its positions; topic_epoch: of the topic, as discovery names it; head: everything
    before it has been published.
    """

    epoch: str
    topic_epoch: str
    head: Position


class NotYet(EnergywsError):
    """The topic was created anew and the source has yet to notice, or a partition stalls."""


class LogCache:
    """The logs of all streams.

    Every method may raise KafkaException, Unreadable, Awaited, BrokersUnavailable or
    TopicUnavailable.
    """

    def __init__(
        self,
        settings: Settings,
        client: Mapping[str, Any],
        row: Row,
        schemas: Schemas,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self._schemas = schemas
        self.clock = clock
        self._client = client
        self._row = row
        self._logs: dict[str, StreamLog] = {}
        self._cached = 0
        # How many bytes of records have been read since the start.
        self.bytes_read = 0
        self._admin: AdminClient | None = None
        self._reader: LogReader | None = None

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()

    def stream_log(self, stream: str, live: StreamHead) -> StreamLog:
        """A stream's log, up to the head of `live`; raises NotYet."""
        now = self.clock()
        log = self._logs.get(stream)
        if log is None or log.epoch != live.epoch or now - log.described_at >= LOWS_SECONDS:
            # A topic may have grown beyond what a position can hold: read what the source reads.
            topic = describe(
                self.admin,
                self.topic(stream),
                known_epoch=live.topic_epoch,
                max_partitions=sys.maxsize,
            )
            if topic.epoch != live.topic_epoch or len(topic.ends) < len(live.head.offsets):
                raise NotYet(stream)
            if log is None or log.epoch != live.epoch or log.size != _size(topic):
                if log is not None:
                    self._cached -= sum(map(_weight, log.blocks.values()))
                log = self._logs[stream] = StreamLog(self, stream, live.epoch, _size(topic))
            log.described_at = now
            log.unreadable = frozenset(topic.stalls)
            log.lows = from_offsets(
                live.epoch,
                (
                    live.head.next_offset(partition) if ends is None else ends[0]
                    for partition, ends in enumerate(topic.ends[: len(live.head.offsets)])
                ),
            )
        log.head = live.head
        return log

    def refresh(self, stream: str) -> None:
        """A read has failed: describe the topic again before the next one."""
        if (log := self._logs.get(stream)) is not None:
            log.described_at = 0.0

    def topic(self, stream: str) -> str:
        return self.settings.streams[stream].topic

    @property
    def admin(self) -> AdminClient:
        """The client for everything except records."""
        if self._admin is None:
            self._admin = AdminClient(dict(self._client))
        return self._admin

    def read(self, log: StreamLog, ranges: Mapping[int, Range]) -> dict[int, RecordsRead]:
        """Read these ranges into the cache: as many blocks as fit, whole unless the log ends."""
        if self._reader is None:
            self._reader = LogReader(self._client, self.settings.kafka)
        limit = log.cache_bytes
        found = self._reader.read(
            self.topic(log.stream),
            log.decoder,
            ranges,
            log.share_bytes,
            limit,
            partial(self._schemas.reader, log.stream),
        )
        fresh: set[_Key] = set()
        for partition, taken in found.items():
            self.bytes_read += taken.weight
            self._row.add(Field.READ_BACK, len(taken.records))
            for block in log.cut(partition, ranges[partition].begin, taken):
                key = log.key(partition, block.start)
                if (old := log.blocks.pop(key, None)) is not None:
                    self._cached -= _weight(old)
                log.blocks[key] = block
                self._cached += _weight(block)
                fresh.add(key)
        self._evict(log, limit, fresh)
        return found

    def _evict(self, current: StreamLog, limit: int, fresh: set[_Key]) -> None:
        # Other streams first, and never what has just been read.
        others = [log for log in self._logs.values() if log is not current]
        for log in (*others, current):
            for key in list(log.blocks):
                if self._cached <= limit:
                    return
                if log is not current or key not in fresh:
                    self._cached -= _weight(log.blocks.pop(key))


class StreamLog:
    """One stream's log in one epoch.

    lows: the broker's low watermarks. head: records from there on are not served. size: how many
    offsets a block spans at most. decoder, frames: read the stream's records, and make its frames.
    """

    def __init__(self, cache: LogCache, stream: str, epoch: str, size: int) -> None:
        self.stream = stream
        self.epoch = epoch
        self.size = size
        self.frames = DataFrames(stream)
        settings = cache.settings
        self.decoder = Decoder(settings.streams[stream], settings.kafka.max_record_bytes)
        self.lows = self.head = from_offsets(epoch, [])
        self.unreadable: frozenset[int] = frozenset()
        self.described_at = 0.0
        # By partition and block's start, rounded down to a multiple of the block's size.
        self.blocks: OrderedDict[_Key, Block] = OrderedDict()
        # How many offsets a block spans, of partitions with heavy records.
        self._sizes: dict[int, int] = {}
        self._cache = cache
        self._oldest: tuple[float, Position] | None = None

    @property
    def cache_bytes(self) -> int:
        """The most that the blocks in memory may weigh."""
        return max(CACHE_BYTES, PARTITION_BYTES * len(self.lows.offsets))

    @property
    def share_bytes(self) -> int:
        """The most that one partition may read at a time: half of the cache for all together."""
        return self.cache_bytes // (2 * len(self.lows.offsets))

    def known(self, partition: int, offset: int) -> Block | None:
        """The block that holds an offset, if it is in the cache."""
        # Blocks may be half as large, from before they grew, or larger, from before they shrank.
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
        """The key of the block that holds an offset, at the partition's present block size."""
        return partition, offset - offset % self._sizes.get(partition, self.size)

    def require(self, position: Position) -> None:
        """Raises NotYet if a partition that cannot be read has records after a position."""
        for partition in self.unreadable:
            if position.next_offset(partition) < self.head.next_offset(partition):
                raise NotYet(self.stream)

    def block(self, partition: int, offset: int) -> Block:
        """The block that holds an offset; reads it if necessary."""
        block = self.known(partition, offset)
        if block is None:
            self.load([(partition, offset)])
            block = self.known(partition, offset)
            assert block is not None, "a block that was just read is in the cache"
        return block

    def load(self, offsets: Iterable[tuple[int, int]]) -> bool:
        """Read the blocks that hold these (partition, offset), and maybe some that follow.

        False: not all of them fit into memory; at least one of them does.
        """
        while True:
            ranges = {partition: self._range(partition, offset) for partition, offset in offsets}
            heavy = False
            for partition, taken in self._cache.read(self, ranges).items():
                heavy |= self._weigh(partition, ranges[partition], taken)
            offsets = [key for key in offsets if self.known(*key) is None]
            if not (offsets and heavy):
                return not offsets

    def cut(self, partition: int, begin: int, taken: RecordsRead) -> Iterator[Block]:
        """The complete blocks among the records that were read from `begin` on."""
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
        # Never beyond the head: records before it can be read, even if a transaction after them is
        # still open.
        low, head = self.lows.next_offset(partition), self.head.next_offset(partition)
        first = offset - offset % size
        last = first + size
        # Several blocks only where the one before was read too: a search reads single ones.
        ahead = BLOCKS_AHEAD if self.known(partition, first - 1) else 1
        while last < first + size * ahead and (partition, last) not in self.blocks:
            last += size
        begin, needed, stop = max(low, first), min(head, first + size), min(head, last)
        if not begin <= offset < stop:
            raise Unreadable(f"partition {partition}: offset {offset} is not from {low} to {head}")
        return Range(begin, needed, stop)

    def _weigh(self, partition: int, range_: Range, taken: RecordsRead) -> bool:
        """Fit the partition's block size to its records; True if it is smaller now."""
        size, share = self._sizes.get(partition, self.size), self.share_bytes
        if taken.reached < range_.needed and taken.weight >= share:
            fitting = share * len(taken.records) // taken.weight
            self._sizes[partition] = min(size // 2, 1 << max(fitting, 1).bit_length() - 1)
            return True
        if size < self.size and taken.reached == range_.stop and 8 * taken.weight <= share:
            self._sizes[partition] = 2 * size
        return False

    def since(self, since_ms: int) -> Position:
        """The position before each partition's first record that is not older."""
        readable = [p for p in range(len(self.head.offsets)) if p not in self.unreadable]
        name = self._cache.topic(self.stream)
        spec = OffsetSpec.for_timestamp(since_ms)
        offsets = list(self.head.offsets)
        answers = list_offsets(self._cache.admin, name, readable, spec) if readable else []
        for partition, offset in zip(readable, answers, strict=True):
            low, head = self.lows.next_offset(partition), self.head.offsets[partition]
            if 0 <= offset < head:
                offsets[partition] = offset
                continue
            # There is none, or the broker does not look it up (the embedded one does not).
            offsets[partition] = head
            if low < head:
                offsets[partition] = first_since(since_ms, partition, low, head, self.block)
        return from_offsets(self.epoch, offsets)

    def oldest(self) -> Position:
        """The earliest position that history.max_record_age_seconds allows."""
        age = self._cache.settings.history.max_record_age_seconds
        if age is None:
            return self.lows
        now = self._cache.clock()
        if self._oldest is None or now - self._oldest[0] > min(AGE_SECONDS, age / 10):
            self._oldest = now, self.since(max(0, int((time.time() - age) * 1000)))
        return self._oldest[1]


def _size(topic: Topic) -> int:
    return block_records(len(topic.ends))


def _weight(block: Block) -> int:
    return sum(map(weight, block.records)) + 200
