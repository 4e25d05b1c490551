"""Blocks of the log in bounded memory for records of any weight; in memory and on a broker."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import orjson
import pytest

from energyws.process.board import Board, Field
from energyws.process.stalls import Stall
from energyws.protocol.position import Position, from_offsets
from energyws.settings import History, Kafka, Settings, Stream
from energyws.stream.bus_messages import unpack_chunks, unpack_start
from energyws.stream.history import FindStart, ReadChunks
from energyws.testing import FAST_FETCH, PARTITIONS, Broker, Records
from tests.workers.consumer.memory_log import EPOCH, MemoryLog
from workers.consumer import history_server, log_cache
from workers.consumer.history_server import HistoryServer
from workers.consumer.librdkafka import client_settings
from workers.consumer.log_cache import LOWS_SECONDS, LogCache, NotYet, StreamHead, StreamLog
from workers.consumer.log_reader import Unreadable
from workers.consumer.metadata import describe
from workers.consumer.schemas.store import Schemas

COUNT = 240


class HistoryReader:
    """A history server that is not started, and its replies."""

    def __init__(self, directory: Path, broker: Broker, topic: str) -> None:
        kafka = Kafka(brokers=broker.bootstrap, options=dict(FAST_FETCH))
        settings = Settings(kafka=kafka, streams={"energy": Stream(topic=topic)})
        board = Board.create()
        self.history = HistoryServer(
            directory,
            settings,
            client_settings(kafka),
            lambda stream: self.view,
            board.row(0),
            Schemas(settings, board.row(0)),
        )
        self.cache = self.history._cache
        seen = describe(self.cache.admin, topic)
        self.head = from_offsets(EPOCH, [high for _, high in seen.ends])
        self.view = StreamHead(EPOCH, seen.epoch, self.head)
        self.most_cached = 0
        self.replies: list[int] = []

    def chain(self, begin: Position) -> Iterator[tuple[int, int]]:
        """(partition, number) of all records from a position on."""
        while self.head.beyond(begin):
            parts = self.history._answer(ReadChunks("energy", begin))
            assert parts is not None
            self.most_cached = max(self.most_cached, self.cache._cached)
            self.replies.append(sum(map(len, parts)))
            for chunk in unpack_chunks(begin, parts):
                yield from numbers(chunk.data)
                begin = chunk.end

    def newest(self, count: int) -> Position:
        parts = self.history._answer(FindStart("energy", EPOCH, last=count))
        assert parts is not None
        return unpack_start(parts).position


def numbers(data: bytes) -> Iterator[tuple[int, int]]:
    while data:
        size, begin = data[1], 2
        if size >= 126:
            begin += 2 if size == 126 else 8
            size = int.from_bytes(data[2:begin], "big")
        number = orjson.loads(data[begin : begin + size])["data"]["n"]
        yield number % PARTITIONS, number
        data = data[begin + size :]


LIGHT, HEAVY = 100, 60_000
WEIGHTS: dict[str, Callable[[int], int]] = {
    "light": lambda number: LIGHT,
    "heavy": lambda number: HEAVY,
    "heavier than the cache": lambda number: 300_000 if number % 40 == 0 else LIGHT,
    "one partition is heavy": lambda number: HEAVY if number % PARTITIONS == 1 else LIGHT,
    "light, then heavy, then light": lambda number: HEAVY if 80 < number < 160 else LIGHT,
    "mixed": lambda number: random.Random(number).choice([LIGHT, HEAVY, 2_000]),
}


@pytest.mark.e2e
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS.keys())
def test_everything_is_read_back_in_bounded_memory(
    broker: Broker,
    topic: str,
    records: Records,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    weights: Callable[[int], int],
) -> None:
    limit = 200_000
    monkeypatch.setattr(log_cache, "CACHE_BYTES", limit)
    monkeypatch.setattr(log_cache, "PARTITION_BYTES", 0)
    for number in range(COUNT):
        records.raw(orjson.dumps({"n": number, "x": "x" * weights(number)}), number % PARTITIONS)
    records.flush()
    reader = HistoryReader(tmp_path, broker, topic)
    try:
        found = list(reader.chain(from_offsets(EPOCH, [0] * PARTITIONS)))
        for partition in range(PARTITIONS):
            assert [number for part, number in found if part == partition] == list(
                range(partition, COUNT, PARTITIONS)
            )
        heaviest = max(map(weights, range(COUNT))) + 1000
        assert reader.most_cached <= limit + heaviest
        assert max(reader.replies) <= history_server.REPLY_BYTES + heaviest
        # Finding the newest records, backwards, needs no more memory.
        position = reader.newest(30)
        assert len(list(reader.chain(position))) == 30
    finally:
        reader.cache.close()


@pytest.mark.e2e
def test_newest_records_too_heavy_to_read_are_taken_evenly_from_partitions(
    broker: Broker,
    topic: str,
    records: Records,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history_server, "FIND_BYTES", 10_000)
    monkeypatch.setattr(log_cache, "CACHE_BYTES", 10_000)
    records.send(90, padding="x" * 1000)
    reader = HistoryReader(tmp_path, broker, topic)
    try:
        assert reader.newest(60) == from_offsets(EPOCH, [10] * PARTITIONS)
    finally:
        reader.cache.close()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[MemoryLog, LogCache]]:
    """`made(counts)`: a log with counts[n] records in partition n, and its cache."""

    def make(counts: list[int], **history: int) -> tuple[MemoryLog, LogCache]:
        memory = MemoryLog(counts, History(**history))  # type: ignore[arg-type]
        memory.serve(monkeypatch)
        return memory, LogCache(memory.settings, {}, memory.row, memory.schemas, lambda: memory.now)

    return make


Made = Callable[..., tuple[MemoryLog, LogCache]]


def walk(log: StreamLog, partition: int, count: int) -> list[int]:
    """The offsets of all records, block after block."""
    found: list[int] = []
    offset = log.lows.next_offset(partition)
    while offset < count:
        block = log.block(partition, offset)
        found += [record.offset for record in block.records]
        offset = block.stop
    return found


def test_block_is_read_once(made: Made) -> None:
    memory, cache = made([100, 100])
    log = cache.stream_log("s", memory.live)
    assert log.block(0, 7) is log.block(0, 8)
    assert len(memory.reads) == 1
    assert memory.row[Field.READ_BACK] == 100


def test_blocks_are_read_ahead_when_a_log_is_read_in_order(made: Made) -> None:
    memory, cache = made([5_000])
    log = cache.stream_log("s", memory.live)
    size = log.size
    assert walk(log, 0, 5_000) == list(range(5_000))
    spans = [(each[0].stop - each[0].begin) // size for each in memory.reads]
    assert spans[0] == 1
    assert spans[1] == log_cache.BLOCKS_AHEAD


def test_nothing_is_read_from_the_head_onwards(made: Made) -> None:
    memory, cache = made([100])
    live = memory.live
    memory.records[0].append(memory.record(0, 100))
    log = cache.stream_log("s", live)
    assert log.block(0, 99).stop == 100
    with pytest.raises(Unreadable, match="offset 100 is not from 0 to 100"):
        log.block(0, 100)


def test_blocks_get_smaller_with_heavy_records_and_larger_again(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_cache, "CACHE_BYTES", 40_000)
    monkeypatch.setattr(log_cache, "PARTITION_BYTES", 0)
    memory, cache = made([2_000])
    for number in range(500, 600):
        memory.records[0][number] = memory.record(0, number, size=15_000)
    log = cache.stream_log("s", memory.live)
    sizes = []
    offset = 0
    while offset < 2_000:
        block = log.block(0, offset)
        sizes.append(block.stop - block.start)
        assert [each.offset for each in block.records] == list(range(offset, block.stop))
        assert cache._cached <= 40_000 + 16_000
        offset = block.stop
    assert min(sizes) <= 2
    assert sizes[-2] > min(sizes)


def test_blocks_of_other_streams_are_evicted_first(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_cache, "CACHE_BYTES", 150_000)
    monkeypatch.setattr(log_cache, "PARTITION_BYTES", 0)
    memory, cache = made([1_000])
    other = cache.stream_log("other", memory.live)
    other.block(0, 0)
    own = cache.stream_log("s", memory.live)
    walk(own, 0, 1_000)
    assert other.known(0, 0) is None
    assert own.known(0, 999) is not None
    assert cache._cached <= 150_000


def test_topic_is_described_again_after_a_while_or_after_a_failure(made: Made) -> None:
    memory, cache = made([10])
    log = cache.stream_log("s", memory.live)
    memory.lows[0] = 4
    assert cache.stream_log("s", memory.live).lows.offsets == (0,)
    cache.refresh("s")
    assert cache.stream_log("s", memory.live).lows.offsets == (4,)
    memory.lows[0] = 5
    memory.now += LOWS_SECONDS
    assert cache.stream_log("s", memory.live) is log
    assert log.lows.offsets == (5,)
    assert memory.described == ["t"] * 3


def test_recreated_topic_is_not_read_until_the_source_notices(made: Made) -> None:
    memory, cache = made([10])
    memory.topic_epoch = "bbbb0000"
    with pytest.raises(NotYet):
        cache.stream_log("s", memory.live)


def test_topic_with_fewer_partitions_than_its_positions_is_not_read(made: Made) -> None:
    memory, cache = made([10])
    live = memory.live._replace(head=from_offsets(EPOCH, [10, 3]))
    with pytest.raises(NotYet):
        cache.stream_log("s", live)


def test_another_epoch_drops_the_blocks_of_the_old_one(made: Made) -> None:
    memory, cache = made([100])
    cache.stream_log("s", memory.live).block(0, 0)
    assert cache._cached > 0
    live = StreamHead("ffff0000", memory.topic_epoch, from_offsets("ffff0000", [100]))
    assert cache.stream_log("s", live).known(0, 0) is None
    assert cache._cached == 0


def test_unreadable_partition_matters_only_if_it_has_records(made: Made) -> None:
    memory, cache = made([10, 10])
    memory.stalls = {1: Stall.NO_LEADER}
    log = cache.stream_log("s", memory.live)
    log.require(from_offsets(EPOCH, [0, 10]))
    with pytest.raises(NotYet):
        log.require(from_offsets(EPOCH, [10, 9]))


@pytest.mark.parametrize("looks_up", [True, False], ids=["by the broker", "by bisection"])
@pytest.mark.parametrize(("since_ms", "offsets"), [(0, (4, 0)), (7_000, (7, 7)), (99_000, (50, 9))])
def test_position_of_a_time(
    made: Made, looks_up: bool, since_ms: int, offsets: tuple[int, ...]
) -> None:
    memory, cache = made([50, 9])
    memory.lows[0] = 4
    memory.looks_up = looks_up
    assert cache.stream_log("s", memory.live).since(since_ms) == from_offsets(EPOCH, offsets)


def test_position_of_a_time_is_the_head_in_an_unreadable_partition(made: Made) -> None:
    memory, cache = made([50, 9])
    memory.stalls = {1: Stall.NO_LEADER}
    assert cache.stream_log("s", memory.live).since(7_000) == from_offsets(EPOCH, (7, 9))


def test_oldest_position_without_an_age_limit_is_at_the_low_watermarks(made: Made) -> None:
    memory, cache = made([50])
    memory.lows[0] = 4
    assert cache.stream_log("s", memory.live).oldest().offsets == (4,)


def test_oldest_position_follows_the_age_limit_and_is_cached_for_a_while(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, cache = made([50], max_record_age_seconds=20)
    monkeypatch.setattr(log_cache, "time", SimpleNamespace(time=lambda: 50.0))
    log = cache.stream_log("s", memory.live)
    assert log.oldest().offsets == (30,)
    monkeypatch.setattr(log_cache, "time", SimpleNamespace(time=lambda: 60.0))
    memory.now += 1.0
    assert log.oldest().offsets == (30,)
    memory.now += 1.1
    assert log.oldest().offsets == (40,)
