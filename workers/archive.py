"""What a topic still holds: its ends, its times, and blocks of its records in a bounded cache.

For one thread. Its Kafka clients are made when they are first needed: a service that nobody asks
anything back does not pay for them.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from energyws.board import Field, Row
from energyws.errors import EnergywsError
from energyws.frame import DataFrames
from energyws.history import Block, block_records, first_since
from energyws.position import Position, start
from energyws.settings import Settings
from workers.blocks import BlockReader, Unreadable
from workers.metadata import Topic, describe, isolation, list_offsets

CACHE_BYTES: Final = 16 << 20
# How many blocks are read in one go: who asks for one will want the next.
BLOCKS_AHEAD: Final = 4
# How long a topic's low watermarks, and the offsets of an age, are taken to be what they were.
LOWS_SECONDS: Final = 1.0
AGE_SECONDS: Final = 10.0


class View(NamedTuple):
    """A stream as the live side sees it.

    epoch: of its positions; topic_epoch: of the topic, as discovery names it; head: everything
    before it has been published.
    """

    epoch: str
    topic_epoch: str
    head: Position


class NotYet(EnergywsError):
    """The topic was made anew, and the live side has yet to notice; or a partition is away."""


class Archive:
    """The logs of all streams. Whatever it does may raise KafkaException, Unreadable or Unknown."""

    def __init__(self, settings: Settings, client: Mapping[str, Any], row: Row) -> None:
        self.settings = settings
        self._client = client
        self._row = row
        self._pasts: dict[str, Past] = {}
        self._cached = 0
        self._admin: AdminClient | None = None
        self._reader: BlockReader | None = None

    def close(self) -> None:
        """Close the clients."""
        if self._reader is not None:
            self._reader.close()

    def past(self, stream: str, view: View) -> Past:
        """A stream's log, up to the head of `view`; raises NotYet."""
        now = time.monotonic()
        past = self._pasts.get(stream)
        if past is None or past.epoch != view.epoch or now - past.seen_at >= LOWS_SECONDS:
            level = isolation(self.settings.kafka)
            topic = describe(self.admin, self.topic(stream), level, view.topic_epoch)
            if topic.epoch != view.topic_epoch or len(topic.ends) < len(view.head.offsets):
                raise NotYet(stream)
            if past is None or past.epoch != view.epoch or past.size != _size(topic):
                if past is not None:
                    self._cached -= sum(map(_weight, past.blocks.values()))
                past = self._pasts[stream] = Past(self, stream, view.epoch, _size(topic))
            past.seen_at = now
            past.unreadable = frozenset(topic.waits)
            past.lows = start(
                view.epoch,
                (
                    view.head.next_offset(partition) if ends is None else ends[0]
                    for partition, ends in enumerate(topic.ends)
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

    def read(self, past: Past, ranges: Mapping[int, tuple[int, int]]) -> None:
        """Read these ranges, of whole blocks but at the log's ends, into the cache."""
        if self._reader is None:
            self._reader = BlockReader(self._client, self.settings.kafka)
        size = past.size
        for partition, records in self._reader.read(self.topic(past.stream), ranges).items():
            self._row.add(Field.READ_BACK, len(records))
            begin, stop = ranges[partition]
            for first in range(begin - begin % size, stop, size):
                block = Block(
                    max(begin, first),
                    min(stop, first + size),
                    [record for record in records if first <= record.offset < first + size],
                )
                key = partition, first // size
                if (old := past.blocks.pop(key, None)) is not None:
                    self._cached -= _weight(old)
                past.blocks[key] = block
                self._cached += _weight(block)
        self._evict(past)

    def _evict(self, current: Past) -> None:
        # Of other streams first, and never what has just been read: one merge needs it whole.
        fresh = len(current.lows.offsets) * BLOCKS_AHEAD
        others = [past for past in self._pasts.values() if past is not current]
        for past in (*others, current):
            while self._cached > CACHE_BYTES and len(past.blocks) > (
                fresh if past is current else 0
            ):
                _, block = past.blocks.popitem(last=False)
                self._cached -= _weight(block)


class Past:
    """One stream's log in one epoch.

    lows: the broker's low watermarks; head: nothing from there on is handed out; size: how many
    offsets a block spans; frames: builds the stream's frames.
    """

    def __init__(self, archive: Archive, stream: str, epoch: str, size: int) -> None:
        self.stream = stream
        self.epoch = epoch
        self.size = size
        self.frames = DataFrames(stream)
        self.lows = self.head = start(epoch, [])
        self.unreadable: frozenset[int] = frozenset()
        self.seen_at = 0.0
        self.blocks: OrderedDict[tuple[int, int], Block] = OrderedDict()
        self._archive = archive
        self._oldest: tuple[float, Position] | None = None

    def known(self, partition: int, offset: int) -> Block | None:
        """The block that holds an offset, if it is in the cache."""
        key = partition, offset // self.size
        block = self.blocks.get(key)
        if block is None or not block.start <= offset < block.stop:
            return None
        self.blocks.move_to_end(key)
        return block

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

    def load(self, places: Iterable[tuple[int, int]]) -> None:
        """Read the blocks that hold these (partition, offset), and some that follow."""
        ranges = {}
        for partition, offset in places:
            # Never beyond the head: what has been published can be read, whatever transaction is
            # still open behind it.
            low, head = self.lows.next_offset(partition), self.head.next_offset(partition)
            first = offset // self.size
            last = first + 1
            while last < first + BLOCKS_AHEAD and (partition, last) not in self.blocks:
                last += 1
            begin, stop = max(low, first * self.size), min(head, last * self.size)
            if not begin <= offset < stop:
                raise Unreadable(
                    f"partition {partition}: offset {offset} is not from {low} to {head}"
                )
            ranges[partition] = begin, stop
        self._archive.read(self, ranges)

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
                offsets[partition] = first_since(
                    since_ms, partition, low, head, self.size, self.block
                )
        return start(self.epoch, offsets)

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
    # The records' objects weigh about as much as short data.
    return sum(len(record.data) + 200 for record in block.records) + 200
