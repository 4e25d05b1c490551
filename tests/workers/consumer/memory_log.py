"""Topics in memory that a log cache reads instead of a broker's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pytest

from energyws.process.board import Board
from energyws.process.stalls import Stall
from energyws.protocol.position import Position, from_offsets
from energyws.settings import History, Kafka, Settings, Stream
from energyws.stream.history import Stored
from energyws.stream.record import Decoder
from workers.consumer import log_cache
from workers.consumer.log_cache import StreamHead
from workers.consumer.log_reader import Range, RecordsRead, Unreadable, weight
from workers.consumer.metadata import Topic
from workers.consumer.schemas.store import Schemas

EPOCH = "abcd0123"
TOPIC_EPOCH = "aaaa0000"


class MemoryLog:
    """The topics of the streams `s` and `other`; record n of a partition was written at n seconds.

    stalls: partitions that cannot be read. looks_up: whether the broker finds offsets by time.
    """

    def __init__(self, counts: Sequence[int], history: History | None = None) -> None:
        self.now = 1_000.0
        self.topic_epoch = TOPIC_EPOCH
        self.lows = [0] * len(counts)
        self.stalls: dict[int, Stall] = {}
        self.looks_up = True
        self.failure: Exception | None = None
        # Requests that a broker would have received.
        self.described: list[str] = []
        self.reads: list[dict[int, Range]] = []
        self.records = [[self.record(p, n) for n in range(count)] for p, count in enumerate(counts)]
        self.settings = Settings(
            kafka=Kafka(brokers="b"),
            streams={"s": Stream(topic="t"), "other": Stream(topic="o")},
            history=history or History(),
        )
        self.row = Board.create().row(0)
        self.schemas = Schemas(self.settings, self.row)

    @staticmethod
    def record(partition: int, number: int, size: int = 1) -> Stored:
        data = orjson.dumps({"p": partition, "n": number, "x": "x" * size})
        return Stored(number, 1_000 * number, data)

    @property
    def head(self) -> Position:
        return from_offsets(EPOCH, map(len, self.records))

    @property
    def live(self) -> StreamHead:
        """Everything in the log has been published."""
        return StreamHead(EPOCH, TOPIC_EPOCH, self.head)

    def serve(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make log caches read from this log."""
        monkeypatch.setattr(log_cache, "AdminClient", lambda settings: None)
        monkeypatch.setattr(log_cache, "LogReader", lambda client, kafka: self)
        monkeypatch.setattr(log_cache, "describe", self.describe)
        monkeypatch.setattr(log_cache, "list_offsets", self.list_offsets)

    def describe(self, admin: object, name: str, *, known_epoch: str, max_partitions: int) -> Topic:
        self.described.append(name)
        ends = tuple(
            None if partition in self.stalls else (low, len(records))
            for partition, (low, records) in enumerate(zip(self.lows, self.records, strict=True))
        )
        return Topic(self.topic_epoch, ends, dict(self.stalls))

    def list_offsets(
        self, admin: object, name: str, partitions: Sequence[int], spec: Any
    ) -> list[int]:
        if not self.looks_up:
            return [-1] * len(partitions)
        since_ms = spec.timestamp
        found = []
        for partition in partitions:
            kept = self.records[partition][self.lows[partition] :]
            found.append(next((r.offset for r in kept if r.timestamp_ms >= since_ms), -1))
        return found

    def read(
        self,
        topic: str,
        decoder: Decoder,
        ranges: Mapping[int, Range],
        share: int,
        limit: int,
        reader: object,
    ) -> dict[int, RecordsRead]:
        self.reads.append(dict(ranges))
        if self.failure is not None:
            raise self.failure
        total = 0
        found = {partition: RecordsRead(range_.begin) for partition, range_ in ranges.items()}
        for partition, (begin, _, stop) in ranges.items():
            read = found[partition]
            if begin < self.lows[partition]:
                raise Unreadable(f"partition {partition} has no offset {begin} any more")
            for record in self.records[partition][begin:stop]:
                if read.weight >= share or total >= limit:
                    break
                read.records.append(record)
                read.weight += weight(record)
                total += weight(record)
                read.reached = record.offset + 1
        return found

    def close(self) -> None:
        pass
