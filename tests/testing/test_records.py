from __future__ import annotations

import orjson

from energyws.testing import Records, Traffic
from energyws.testing.embedded_broker import EmbeddedBroker
from tests.testing.readers import Readers


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
