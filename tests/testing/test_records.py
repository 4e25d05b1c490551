from __future__ import annotations

import orjson

from energyws.testing import Records, Traffic
from energyws.testing.embedded_broker import EmbeddedBroker
from tests.testing.readers import Readers

# Kafka's api key and error code.
PRODUCE, NOT_LEADER = 0, 6


def test_records_are_numbered_across_all_partitions(
    embedded: EmbeddedBroker, readers: Readers
) -> None:
    records = Records(embedded.bootstrap, "energy")
    assert records.partitions() == 3
    assert records.send(4, watts=7) == [0, 1, 2, 3]
    assert records.send() == [4]
    found = readers.read(embedded.bootstrap, "energy", 3, 5)
    values = [orjson.loads(message.value() or b"") for message in found]
    assert sorted(value["n"] for value in values) == [0, 1, 2, 3, 4]
    assert [value["n"] % 3 for value in values] == [message.partition() for message in found]
    assert values[0]["watts"] == 7


def test_traffic_ends_with_its_block(embedded: EmbeddedBroker) -> None:
    records = Records(embedded.bootstrap, "energy")
    with Traffic(records) as traffic:
        traffic.more(5)
    sent = records.sent
    assert sent >= 5
    records.flush()
    assert records.sent == sent


def test_refusal_of_the_first_batch_does_not_change_the_order(
    embedded: EmbeddedBroker, readers: Readers
) -> None:
    embedded.push_request_errors(PRODUCE, [NOT_LEADER] * 3)
    records = Records(embedded.bootstrap, "energy")
    # Several batches for each partition.
    records.send(120, pad="x" * 60_000)
    found = readers.read(embedded.bootstrap, "energy", 3, 120)
    for partition in range(3):
        mine = [message for message in found if message.partition() == partition]
        numbers = [orjson.loads(message.value() or b"")["n"] for message in mine]
        assert numbers == list(range(partition, 120, 3))
