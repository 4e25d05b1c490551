"""Ranges read from a broker, against what was written."""

from __future__ import annotations

import random
from collections.abc import Iterator

import orjson
import pytest

from energyws.settings import Kafka
from tests.service import FAST_FETCH, PARTITIONS, Broker, Records
from workers.blocks import BlockReader, Unreadable
from workers.librdkafka import client_settings

pytestmark = pytest.mark.e2e

COUNT = 200


@pytest.fixture
def reader(broker: Broker) -> Iterator[BlockReader]:
    kafka = Kafka(brokers=broker.bootstrap, options=dict(FAST_FETCH))
    made = BlockReader(client_settings(kafka), kafka)
    yield made
    made.close()


def test_ranges_hold_exactly_what_was_written(
    reader: BlockReader, records: Records, topic: str
) -> None:
    records.send(COUNT * PARTITIONS)
    rng = random.Random(20261123)
    for _ in range(80):
        ranges = {}
        for partition in rng.sample(range(PARTITIONS), rng.randint(1, PARTITIONS)):
            begin = rng.randrange(COUNT)
            ranges[partition] = begin, rng.randint(begin + 1, COUNT)
        found = reader.read(topic, ranges)
        for partition, (begin, stop) in ranges.items():
            assert [record.offset for record in found[partition]] == list(range(begin, stop))
            assert [orjson.loads(record.data)["n"] for record in found[partition]] == [
                partition + PARTITIONS * offset for offset in range(begin, stop)
            ]


def test_bad_records_are_left_out(reader: BlockReader, records: Records, topic: str) -> None:
    for value in (b"{}", b"not json", None, b'{"n":1}', b"\xff", b'{"n":2}', b"[]"):
        records.raw(value, 1)
    records.flush()
    found = reader.read(topic, {1: (0, 7)})
    assert [(record.offset, record.data) for record in found[1]] == [
        (0, b"{}"),
        (3, b'{"n":1}'),
        (5, b'{"n":2}'),
    ]
    assert reader.read(topic, {1: (1, 3)}) == {1: []}


def test_range_that_retention_has_taken_is_unreadable(
    reader: BlockReader, records: Records, topic: str, broker: Broker
) -> None:
    records.send(90)
    broker.trim(topic, 0, 20)
    with pytest.raises(Unreadable, match="partition 0 has no offset 5"):
        reader.read(topic, {0: (5, 25), 1: (5, 25)})
    # The next reading begins afresh.
    found = reader.read(topic, {0: (20, 25), 1: (5, 25)})
    assert [record.offset for record in found[0]] == list(range(20, 25))
    assert [record.offset for record in found[1]] == list(range(5, 25))


def test_range_beyond_the_end_is_unreadable(
    reader: BlockReader, records: Records, topic: str
) -> None:
    records.send(30)
    with pytest.raises(Unreadable, match="partition 2 ends at 10, before 11"):
        reader.read(topic, {2: (0, 11)})
