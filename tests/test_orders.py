"""Orders arrive as they were given."""

from __future__ import annotations

import pytest

from energyws.orders import Adopt, Departure, Leave, Order, Shed, pack, unpack
from energyws.settings import Kafka, Server, Settings, Stream, Tls

SETTINGS = Settings(
    kafka=Kafka(brokers="b", topic="t"),
    streams={"energy": Stream(topic="t")},
    server=Server(tls=Tls(cert="c", key="k")),
)


@pytest.mark.parametrize(
    "order", [*(Leave(how) for how in Departure), Shed(7), Adopt(SETTINGS)], ids=str
)
def test_what_is_packed_is_unpacked(order: Order) -> None:
    assert unpack(pack(order)) == order
