"""Ranges read from a broker, and from a scripted consumer."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import pytest
from confluent_kafka import KafkaError, TopicPartition

from energyws.settings import Kafka, Stream
from energyws.stream.record import Decoder
from energyws.testing import FAST_FETCH, PARTITIONS, Broker, Records
from tests.workers.consumer.fake_consumer import OUT_OF_RANGE, Message
from workers.consumer import log_reader
from workers.consumer.librdkafka import client_settings
from workers.consumer.log_reader import READ_SECONDS, LogReader, Range, RecordsRead, Unreadable

COUNT = 200
UNLIMITED = 1 << 30
PLAIN = Decoder(Stream(topic="t"), 1 << 20)


def whole(begin: int, stop: int) -> Range:
    """A range in which every offset is required."""
    return Range(begin, stop, stop)


def offsets(taken: RecordsRead) -> list[int]:
    return [record.offset for record in taken.records]


@pytest.fixture
def reader(broker: Broker) -> Iterator[LogReader]:
    kafka = Kafka(brokers=broker.bootstrap, options=dict(FAST_FETCH))
    made = LogReader(client_settings(kafka), kafka)
    yield made
    made.close()


@pytest.mark.e2e
def test_ranges_hold_exactly_what_was_written(
    reader: LogReader, records: Records, topic: str
) -> None:
    records.send(COUNT * PARTITIONS)
    rng = random.Random(20261123)
    for _ in range(80):
        ranges = {}
        for partition in rng.sample(range(PARTITIONS), rng.randint(1, PARTITIONS)):
            begin = rng.randrange(COUNT)
            ranges[partition] = whole(begin, rng.randint(begin + 1, COUNT))
        found = reader.read(topic, PLAIN, ranges, UNLIMITED, UNLIMITED)
        for partition, (begin, _, stop) in ranges.items():
            assert found[partition].reached == stop
            assert offsets(found[partition]) == list(range(begin, stop))
            assert [orjson.loads(record.data)["n"] for record in found[partition].records] == [
                partition + PARTITIONS * offset for offset in range(begin, stop)
            ]


@pytest.mark.e2e
def test_bad_records_are_skipped(reader: LogReader, records: Records, topic: str) -> None:
    for value in (b"{}", b"not json", None, b'{"n":1}', b"\xff", b'{"n":2}', b"[]"):
        records.raw(value, 1)
    records.flush()
    found = reader.read(topic, PLAIN, {1: whole(0, 7)}, UNLIMITED, UNLIMITED)
    assert [(record.offset, record.data) for record in found[1].records] == [
        (0, b"{}"),
        (3, b'{"n":1}'),
        (5, b'{"n":2}'),
    ]
    assert reader.read(topic, PLAIN, {1: whole(1, 3)}, UNLIMITED, UNLIMITED) == {1: RecordsRead(3)}


@pytest.mark.e2e
def test_range_removed_by_retention_is_unreadable(
    reader: LogReader, records: Records, topic: str, broker: Broker
) -> None:
    records.send(90)
    broker.trim(topic, 0, 20)
    with pytest.raises(Unreadable, match="partition 0 has no offset 5"):
        reader.read(topic, PLAIN, {0: whole(5, 25), 1: whole(5, 25)}, UNLIMITED, UNLIMITED)
    # The next read is not affected.
    found = reader.read(topic, PLAIN, {0: whole(20, 25), 1: whole(5, 25)}, UNLIMITED, UNLIMITED)
    assert offsets(found[0]) == list(range(20, 25))
    assert offsets(found[1]) == list(range(5, 25))


@pytest.mark.e2e
def test_range_beyond_the_end_is_unreadable(
    reader: LogReader, records: Records, topic: str
) -> None:
    records.send(30)
    with pytest.raises(Unreadable, match="partition 2 ends at 10, before 11"):
        reader.read(topic, PLAIN, {2: whole(0, 11)}, UNLIMITED, UNLIMITED)


@pytest.mark.e2e
def test_reading_stops_at_the_share_of_a_partition_and_at_the_total_limit(
    reader: LogReader, records: Records, topic: str
) -> None:
    records.send(90, padding="x" * 1000)
    ranges = {partition: whole(0, 30) for partition in range(PARTITIONS)}
    found = reader.read(topic, PLAIN, ranges, 5_000, UNLIMITED)
    for partition in range(PARTITIONS):
        # The last record exceeds the share.
        assert offsets(found[partition]) == list(range(5))
        assert found[partition].reached == 5
    found = reader.read(topic, PLAIN, ranges, UNLIMITED, 5_000)
    assert sum(len(taken.records) for taken in found.values()) == 5
    assert all(taken.reached == len(taken.records) for taken in found.values())
    # At least one record is read, however heavy it is.
    found = reader.read(topic, PLAIN, {0: whole(7, 30)}, 1, 1)
    assert offsets(found[0]) == [7]


class ScriptedConsumer:
    """Returns the messages of a script; a poll without one takes a second."""

    def __init__(self, script: Sequence[Message]) -> None:
        self.now = 100.0
        self.script = list(script)
        self.assigned: list[list[tuple[int, int]]] = []
        self.topics: list[str] = []
        self.unassigned = 0
        self.closed = False

    def list_topics(self, topic: str, timeout: float) -> None:
        self.topics.append(topic)

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self.assigned.append([(each.partition, each.offset) for each in partitions])

    def unassign(self) -> None:
        self.unassigned += 1

    def poll(self, seconds: float) -> Message | None:
        if self.script:
            return self.script.pop(0)
        self.now += 1.0
        return None

    def consume(self, most: int, seconds: float) -> list[Message]:
        return []

    def close(self) -> None:
        self.closed = True


def scripted(
    monkeypatch: pytest.MonkeyPatch, script: Sequence[Message]
) -> tuple[LogReader, ScriptedConsumer]:
    consumer = ScriptedConsumer(script)
    monkeypatch.setattr(log_reader, "Consumer", lambda settings: consumer)
    return LogReader({}, Kafka(brokers="b"), lambda: consumer.now), consumer


def end(partition: int, offset: int) -> Message:
    return Message(partition, offset, KafkaError(KafkaError._PARTITION_EOF))


def test_silence_becomes_an_error_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, consumer = scripted(monkeypatch, [Message(0, 0)])
    with pytest.raises(Unreadable, match="no answer within 5 s"):
        reader.read("t", PLAIN, {0: whole(0, 2)}, UNLIMITED, UNLIMITED)
    assert consumer.now == 100.0 + READ_SECONDS + 1.0
    # Nothing is assigned when the next read starts.
    assert consumer.unassigned == 1


def test_range_without_records_at_its_last_offsets_ends_with_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, _ = scripted(monkeypatch, [Message(0, 3), end(0, 9)])
    read = reader.read("t", PLAIN, {0: whole(2, 8)}, UNLIMITED, UNLIMITED)[0]
    assert (offsets(read), read.reached) == ([3], 8)


def test_record_after_the_range_completes_it_and_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, _ = scripted(monkeypatch, [Message(0, 3), Message(0, 12)])
    read = reader.read("t", PLAIN, {0: whole(2, 8)}, UNLIMITED, UNLIMITED)[0]
    assert (offsets(read), read.reached) == ([3], 8)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message(0, 5, OUT_OF_RANGE), "partition 0 has no offset 0 any more"),
        (end(0, 3), "partition 0 ends at 3, before 4"),
    ],
)
def test_log_without_the_range_is_unreadable(
    monkeypatch: pytest.MonkeyPatch, message: Message, reason: str
) -> None:
    reader, consumer = scripted(monkeypatch, [message])
    with pytest.raises(Unreadable, match=reason):
        reader.read("t", PLAIN, {0: whole(0, 4)}, UNLIMITED, UNLIMITED)
    assert consumer.unassigned == 1


def test_unexpected_messages_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)
    script = [
        Message(7, 0),
        Message(0, None, fault, name=None),
        Message(0, 0, fault),
        Message(0, 0),
        Message(0, 0),
        Message(1, 0),
    ]
    reader, consumer = scripted(monkeypatch, script)
    found = reader.read("t", PLAIN, {0: whole(0, 1), 1: whole(0, 1)}, UNLIMITED, UNLIMITED)
    assert {partition: offsets(read) for partition, read in found.items()} == {0: [0], 1: [0]}
    assert consumer.assigned == [[(0, 0), (1, 0)]]


def test_metadata_of_a_topic_are_fetched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, consumer = scripted(monkeypatch, [Message(0, 0), Message(0, 1)])
    for offset in range(2):
        reader.read("t", PLAIN, {0: whole(offset, offset + 1)}, UNLIMITED, UNLIMITED)
    reader.close()
    assert (consumer.topics, consumer.closed) == (["t"], True)


def test_client_does_not_repeat_errors_that_the_source_reports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings: dict[str, Any] = {}
    monkeypatch.setattr(log_reader, "Consumer", settings.update)
    LogReader({"bootstrap.servers": "b"}, Kafka(brokers="b", group_id="g"))
    assert settings["error_cb"](OUT_OF_RANGE) is None
    assert (settings["bootstrap.servers"], settings["group.id"]) == ("b", "g")
