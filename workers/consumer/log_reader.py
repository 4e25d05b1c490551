"""Reads ranges of a topic's log, with a Kafka client of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, Message, TopicPartition

from energyws.errors import EnergywsError
from energyws.settings import Kafka
from energyws.stream.history import Stored
from energyws.stream.record import BadRecord, Decoder, Reader, timestamp
from workers.consumer.librdkafka import assigned_settings

READ_SECONDS: Final = 5.0
POLL_SECONDS: Final = 0.1
RECORDS_PER_BATCH: Final = 500


class Unreadable(EnergywsError):
    """The log could not be read there, or not now."""


class Range(NamedTuple):
    """Offsets of a partition: from `begin`, required up to `needed`, welcome up to `stop`."""

    begin: int
    needed: int
    stop: int


@dataclass(slots=True)
class RecordsRead:
    """All good records of a partition from the start of its range to `reached` (exclusive).

    weight: about how much memory they take, in bytes.
    """

    reached: int
    records: list[Stored] = field(default_factory=list)
    weight: int = 0


def weight(record: Stored) -> int:
    """About how much memory a record takes, in bytes; its object weighs as much as short data."""
    return len(record.data or b"") + len(record.key or b"") + 200


class LogReader:
    """Reads ranges of offsets, several partitions at once. For one thread."""

    def __init__(
        self,
        client: Mapping[str, Any],
        kafka: Kafka,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._topics: set[str] = set()
        self._consumer = Consumer(
            {
                # Small fetches: records after a range are dropped. A larger batch is fetched all
                # the same (KIP-74). `client` has the last word.
                "fetch.message.max.bytes": 512 * 1024,
                "queued.min.messages": RECORDS_PER_BATCH,
                # Where the end of the log is reached, there is nothing to wait for.
                "fetch.wait.max.ms": 20,
                **client,
                **assigned_settings(kafka),
                # The source's consumer reports the broker's errors.
                "error_cb": lambda error: None,
            }
        )

    def read(
        self,
        topic: str,
        decoder: Decoder,
        ranges: Mapping[int, Range],
        share: int,
        limit: int,
        reader: Callable[[Message], Reader | None] = lambda message: None,
    ) -> dict[int, RecordsRead]:
        """The good records of each partition's range that clients may get.

        Raises Unreadable, and what `reader` raises.

        reader: gives what makes JSON of a message's value; None: it is JSON.
        share, limit: bytes. Reading stops for a partition that has reached its share, and for all
        once they have reached the limit together; the last record may exceed either.
        """
        if topic not in self._topics:
            # A topic that is new to the client's handle would delay the assignment by 0.5 s.
            self._consumer.list_topics(topic, timeout=READ_SECONDS)
            self._topics.add(topic)
        total = 0
        found = {partition: RecordsRead(range_.begin) for partition, range_ in ranges.items()}
        open_ranges = dict(ranges)
        heard_at = self._clock()
        self._consumer.assign([TopicPartition(topic, p, r.begin) for p, r in ranges.items()])
        try:
            while open_ranges:
                first = self._consumer.poll(POLL_SECONDS)
                if first is not None:
                    for message in [first, *self._consumer.consume(RECORDS_PER_BATCH, 0)]:
                        added = self._take(message, decoder, open_ranges, found, share, reader)
                        if added is not None:
                            heard_at = self._clock()
                            total += added
                        if total >= limit:
                            return found
                if open_ranges and self._clock() - heard_at > READ_SECONDS:
                    raise Unreadable(f"no answer within {READ_SECONDS:g} s")
        finally:
            self._consumer.unassign()
        return found

    def close(self) -> None:
        self._consumer.close()

    def _take(
        self,
        message: Message,
        decoder: Decoder,
        open_ranges: dict[int, Range],
        found: dict[int, RecordsRead],
        share: int,
        reader: Callable[[Message], Reader | None],
    ) -> int | None:
        """The bytes that a message adds; None: it is no record, or not of an open range."""
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
                data, key = decoder.decode(
                    message.value(), decoder.raw_key(message), reader(message)
                )
            except BadRecord:
                # The intake has counted and logged it when it was live.
                pass
            else:
                if key is not None or not decoder.withholds:
                    now_ms = time.time_ns() // 1_000_000
                    record = Stored(offset, timestamp(written_ms, now_ms), data, key)
                    taken.records.append(record)
                    taken.weight += weight(record)
        taken.reached = max(taken.reached, min(offset + 1, stop))
        if taken.reached == stop or taken.weight >= share:
            del open_ranges[partition]
        return taken.weight - before
