"""Ranges read from a broker, against what was written."""

from __future__ import annotations

import random
from collections.abc import Iterator

import orjson
import pytest

from energyws.settings import Kafka
from energyws.testing import FAST_FETCH, PARTITIONS, Broker, Records
from workers.consumer.librdkafka import client_settings
from workers.consumer.log_reader import LogReader, Range, RecordsRead, Unreadable

pytestmark = pytest.mark.e2e

COUNT = 200
MUCH = 1 << 30


def whole(begin: int, stop: int) -> Range:
    """All of it is wanted."""
    return Range(begin, stop, stop)


def offsets(taken: RecordsRead) -> list[int]:
    return [record.offset for record in taken.records]


@pytest.fixture
def reader(broker: Broker) -> Iterator[LogReader]:
    kafka = Kafka(brokers=broker.bootstrap, options=dict(FAST_FETCH))
    made = LogReader(client_settings(kafka), kafka)
    yield made
    made.close()


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
        found = reader.read(topic, ranges, MUCH, MUCH)
        for partition, (begin, _, stop) in ranges.items():
            assert found[partition].reached == stop
            assert offsets(found[partition]) == list(range(begin, stop))
            assert [orjson.loads(record.data)["n"] for record in found[partition].records] == [
                partition + PARTITIONS * offset for offset in range(begin, stop)
            ]


def test_bad_records_are_left_out(reader: LogReader, records: Records, topic: str) -> None:
    for value in (b"{}", b"not json", None, b'{"n":1}', b"\xff", b'{"n":2}', b"[]"):
        records.raw(value, 1)
    records.flush()
    found = reader.read(topic, {1: whole(0, 7)}, MUCH, MUCH)
    assert [(record.offset, record.data) for record in found[1].records] == [
        (0, b"{}"),
        (3, b'{"n":1}'),
        (5, b'{"n":2}'),
    ]
    assert reader.read(topic, {1: whole(1, 3)}, MUCH, MUCH) == {1: RecordsRead(3)}


def test_range_that_retention_has_taken_is_unreadable(
    reader: LogReader, records: Records, topic: str, broker: Broker
) -> None:
    records.send(90)
    broker.trim(topic, 0, 20)
    with pytest.raises(Unreadable, match="partition 0 has no offset 5"):
        reader.read(topic, {0: whole(5, 25), 1: whole(5, 25)}, MUCH, MUCH)
    # The next reading begins afresh.
    found = reader.read(topic, {0: whole(20, 25), 1: whole(5, 25)}, MUCH, MUCH)
    assert offsets(found[0]) == list(range(20, 25))
    assert offsets(found[1]) == list(range(5, 25))


def test_range_beyond_the_end_is_unreadable(
    reader: LogReader, records: Records, topic: str
) -> None:
    records.send(30)
    with pytest.raises(Unreadable, match="partition 2 ends at 10, before 11"):
        reader.read(topic, {2: whole(0, 11)}, MUCH, MUCH)


def test_partition_is_read_no_further_than_its_share_and_all_than_the_limit(
    reader: LogReader, records: Records, topic: str
) -> None:
    records.send(90, padding="x" * 1000)
    ranges = {partition: whole(0, 30) for partition in range(PARTITIONS)}
    found = reader.read(topic, ranges, 5_000, MUCH)
    for partition in range(PARTITIONS):
        # So many that the last of them exceeds the share.
        assert offsets(found[partition]) == list(range(5))
        assert found[partition].reached == 5
    found = reader.read(topic, ranges, MUCH, 5_000)
    assert sum(len(taken.records) for taken in found.values()) == 5
    assert all(taken.reached == len(taken.records) for taken in found.values())
    # One record is read, however heavy it is.
    found = reader.read(topic, {0: whole(7, 30)}, 1, 1)
    assert offsets(found[0]) == [7]
