"""Writes numbered records to a topic."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Final, Self

import orjson
from confluent_kafka import Producer

from energyws.testing.broker_process import PARTITIONS
from energyws.testing.waiting import PATIENCE_SECONDS, eventually

_INTERVAL_SECONDS: Final = 0.005
# A partition that takes longer is one that the test keeps from its leader.
_OPEN_SECONDS: Final = 2.0


class Records:
    """Writes records `{"n": 0}`, `{"n": 1}`, …, one partition after the other.

    sent: how many there are so far.
    """

    def __init__(self, bootstrap: str, topic: str) -> None:
        self.topic = topic
        self.sent = 0
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                "linger.ms": 0,
                "message.max.bytes": 20_000_000,
                "max.in.flight.requests.per.connection": 1,
            }
        )
        # The partitions that have taken a record.
        self._open: set[int] = set()

    def send(self, count: int = 1, **fields: object) -> list[int]:
        """Write `count` records with these fields; their numbers, once all are in the log."""
        numbers = list(range(self.sent, self.sent + count))
        for number in numbers:
            self.raw(orjson.dumps({"n": number, **fields}), number % PARTITIONS)
        self.sent += count
        self.flush()
        return numbers

    def raw(
        self,
        value: bytes | None,
        partition: int = 0,
        *,
        key: bytes | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> None:
        """Write any value at all; `flush` waits until it is in the log."""
        self._producer.produce(
            self.topic, value, key=key, headers=list(headers), partition=partition
        )
        if partition not in self._open:
            # A new topic may refuse a partition's first batch. Were there a second one by then,
            # librdkafka might send that one first, also with one request in flight.
            self._producer.flush(_OPEN_SECONDS)
            self._open.add(partition)

    def partitions(self) -> int:
        """The number of partitions that the producer knows of."""
        return len(self._producer.list_topics(self.topic, timeout=5).topics[self.topic].partitions)

    def flush(self) -> None:
        """Wait until everything is in the log."""
        left = self._producer.flush(PATIENCE_SECONDS)
        assert left == 0, f"{left} records were not acknowledged"


class Traffic:
    """Writes records at a steady rate from a thread until the block ends; `fields` go into each."""

    def __init__(self, records: Records, **fields: object) -> None:
        self._records = records
        self._fields = fields
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS)

    def more(self, count: int) -> None:
        """Wait until `count` further records are in the log."""
        target = self._records.sent + count
        eventually(lambda: self._records.sent >= target, f"{count} more records")

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_SECONDS):
            self._records.send(1, **self._fields)
