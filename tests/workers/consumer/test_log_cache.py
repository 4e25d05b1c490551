"""The log's blocks in bounded memory, whatever the records weigh, against a broker."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pytest

from energyws.process.board import Board
from energyws.protocol.position import Position, from_offsets
from energyws.settings import Kafka, Settings, Stream
from energyws.stream.bus_messages import ReadChunks, unpack_chunks, unpack_start
from energyws.stream.history import FindStart
from energyws.testing import FAST_FETCH, PARTITIONS, Broker, Records
from workers.consumer import history_server, log_cache
from workers.consumer.history_server import HistoryServer
from workers.consumer.librdkafka import client_settings
from workers.consumer.log_cache import StreamHead
from workers.consumer.metadata import describe

pytestmark = pytest.mark.e2e

EPOCH = "abcd0123"
COUNT = 240


class Asked:
    """A history thread that is not started: its answers, one after another."""

    def __init__(self, directory: Path, broker: Broker, topic: str) -> None:
        kafka = Kafka(brokers=broker.bootstrap, options=dict(FAST_FETCH))
        settings = Settings(kafka=kafka, streams={"energy": Stream(topic=topic)})
        board = Board.create()
        self.history = HistoryServer(
            directory, settings, client_settings(kafka), lambda stream: self.view, board.row(0)
        )
        self.archive = self.history._archive
        seen = describe(self.archive.admin, topic)
        self.head = from_offsets(EPOCH, [high for _, high in seen.ends])
        self.view = StreamHead(EPOCH, seen.epoch, self.head)
        self.most_cached = 0
        self.replies: list[int] = []

    def chain(self, begin: Position) -> Iterator[tuple[int, int]]:
        """(partition, number) of all records from a position on."""
        while self.head.beyond(begin):
            parts = self.history._answer(ReadChunks("energy", begin))
            assert parts is not None
            self.most_cached = max(self.most_cached, self.archive._cached)
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
    asked = Asked(tmp_path, broker, topic)
    try:
        found = list(asked.chain(from_offsets(EPOCH, [0] * PARTITIONS)))
        for partition in range(PARTITIONS):
            assert [number for part, number in found if part == partition] == list(
                range(partition, COUNT, PARTITIONS)
            )
        heaviest = max(map(weights, range(COUNT))) + 1000
        assert asked.most_cached <= limit + heaviest
        assert max(asked.replies) <= history_server.REPLY_BYTES + heaviest
        # The newest are found in the same memory, from behind.
        position = asked.newest(30)
        assert len(list(asked.chain(position))) == 30
    finally:
        asked.archive.close()


def test_newest_that_are_too_heavy_to_look_for_are_shared_out(
    broker: Broker,
    topic: str,
    records: Records,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history_server, "FIND_BYTES", 10_000)
    monkeypatch.setattr(log_cache, "CACHE_BYTES", 10_000)
    records.send(90, padding="x" * 1000)
    asked = Asked(tmp_path, broker, topic)
    try:
        assert asked.newest(60) == from_offsets(EPOCH, [10] * PARTITIONS)
    finally:
        asked.archive.close()
