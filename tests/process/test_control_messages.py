"""Control messages survive their datagram."""

from __future__ import annotations

import pytest

from energyws.process.control_messages import (
    ControlMessage,
    Shed,
    ShutDown,
    ShutdownMode,
    UseLog,
    UseSettings,
    UseTicketKeys,
    pack,
    unpack,
)
from energyws.settings import Kafka, Logging, Server, Settings, Stream, Tls

SETTINGS = Settings(
    kafka=Kafka(brokers="b", topic="t"),
    streams={"energy": Stream(topic="t")},
    server=Server(tls=Tls(cert="c", key="k")),
)


@pytest.mark.parametrize(
    "message",
    [
        *map(ShutDown, ShutdownMode),
        Shed(7),
        UseSettings(SETTINGS),
        UseLog(Logging(level="DEBUG", format="json")),
        UseTicketKeys(bytes(range(80)).hex()),
    ],
    ids=str,
)
def test_message_survives_packing(message: ControlMessage) -> None:
    assert unpack(pack(message)) == message


def test_ticket_keys_are_not_shown() -> None:
    assert "c0ffee" not in repr(UseTicketKeys("c0ffee" * 10))
