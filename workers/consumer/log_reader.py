"""Ranges of a topic's log, read by a Kafka client that does nothing else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, Message, TopicPartition

from energyws.errors import EnergywsError
from energyws.settings import Kafka
from energyws.stream.history import Stored
from energyws.stream.record import BadRecord, decode, timestamp
from workers.consumer.librdkafka import assigned_settings

READ_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.1
RECORDS_PER_BATCH: Final = 500


class Unreadable(EnergywsError):
    """The log could not be read there and then."""


class Range(NamedTuple):
    """What is wanted of a partition: from `begin` to `needed`, and gladly on to `stop`."""

    begin: int
    needed: int
    stop: int


@dataclass(slots=True)
class RecordsRead:
    """All good records of a partition from where its range begins up to, not with, `reached`.

    weight: about what they take of memory, in bytes.
    """

    reached: int
    records: list[Stored] = field(default_factory=list)
    weight: int = 0


def weight(record: Stored) -> int:
    """About what a record takes of memory, in bytes: its object weighs as much as short data."""
    return len(record.data) + 200


class LogReader:
    """Reads ranges of offsets, several partitions at once. Not for more than one thread."""

    def __init__(self, client: Mapping[str, Any], kafka: Kafka) -> None:
        self._max_record_bytes = kafka.max_record_bytes
        self._topics: set[str] = set()
        self._consumer = Consumer(
            {
                # What is fetched beyond a range is thrown away; `client` has the last word. A batch
                # that is larger comes all the same (KIP-74).
                "fetch.message.max.bytes": 512 * 1024,
                "queued.min.messages": RECORDS_PER_BATCH,
                # The end of the log is reached now and then; there is nothing to wait for.
                "fetch.wait.max.ms": 20,
                **client,
                **assigned_settings(kafka),
                # The live client says what there is to say of the broker.
                "error_cb": lambda error: None,
            }
        )

    def read(
        self, topic: str, ranges: Mapping[int, Range], share: int, limit: int
    ) -> dict[int, RecordsRead]:
        """The good records of each partition's range; raises Unreadable.

        share, limit: bytes. A partition is read no further once it has its share, nor any once all
        together have as much as the limit; the last record may exceed either.
        """
        if topic not in self._topics:
            # A topic that the handle has not heard of yet would cost half a second.
            self._consumer.list_topics(topic, timeout=READ_SECONDS)
            self._topics.add(topic)
        weighs = 0
        found = {partition: RecordsRead(range_.begin) for partition, range_ in ranges.items()}
        open_ranges = dict(ranges)
        heard_at = time.monotonic()
        self._consumer.assign([TopicPartition(topic, p, r.begin) for p, r in ranges.items()])
        try:
            while open_ranges:
                first = self._consumer.poll(POLL_SECONDS)
                if first is not None:
                    for message in [first, *self._consumer.consume(RECORDS_PER_BATCH, 0)]:
                        added = self._take(message, open_ranges, found, share)
                        if added is not None:
                            heard_at = time.monotonic()
                            weighs += added
                        if weighs >= limit:
                            return found
                if open_ranges and time.monotonic() - heard_at > READ_SECONDS:
                    raise Unreadable(f"no answer within {READ_SECONDS:g} s")
        finally:
            self._consumer.unassign()
        return found

    def close(self) -> None:
        """Close the client."""
        self._consumer.close()

    def _take(
        self,
        message: Message,
        open_ranges: dict[int, Range],
        found: dict[int, RecordsRead],
        share: int,
    ) -> int | None:
        """How much it adds; None: it is none of those that are waited for."""
        partition, offset = message.partition(), message.offset()
        if partition is None or partition not in open_ranges:
            return None
        begin, _, stop = open_ranges[partition]
        taken = found[partition]
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise Unreadable(f"partition {partition} has no offset {begin} any more")
            if error.code() == KafkaError._PARTITION_EOF and offset is not None:
                if offset < stop:
                    raise Unreadable(f"partition {partition} ends at {offset}, before {stop}")
                taken.reached = stop
                del open_ranges[partition]
            return None
        if offset is None:
            return None
        before = taken.weight
        if begin <= offset < stop:
            kind, written = message.timestamp()
            written_ms = None if kind == TIMESTAMP_NOT_AVAILABLE else written
            try:
                data = decode(message.value(), max_bytes=self._max_record_bytes)
            except BadRecord:
                # Counted and logged where it was first read.
                pass
            else:
                now_ms = time.time_ns() // 1_000_000
                record = Stored(offset, timestamp(written_ms, now_ms), data)
                taken.records.append(record)
                taken.weight += weight(record)
        taken.reached = max(taken.reached, min(offset + 1, stop))
        if taken.reached == stop or taken.weight >= share:
            del open_ranges[partition]
        return taken.weight - before
