"""Orders arrive as they were given."""

from __future__ import annotations

import pytest

from energyws.orders import Adopt, Departure, Leave, Order, Shed, Write, pack, unpack
from energyws.settings import Kafka, Log, Server, Settings, Stream, Tls

SETTINGS = Settings(
    kafka=Kafka(brokers="b", topic="t"),
    streams={"energy": Stream(topic="t")},
    server=Server(tls=Tls(cert="c", key="k")),
)


@pytest.mark.parametrize(
    "order",
    [*map(Leave, Departure), Shed(7), Adopt(SETTINGS), Write(Log(level="DEBUG", format="json"))],
    ids=str,
)
def test_what_is_packed_is_unpacked(order: Order) -> None:
    assert unpack(pack(order)) == order
