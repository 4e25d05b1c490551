"""Log lines and readiness when a broker cannot be reached or the controller is missing."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Producer

from energyws.control.policy.readiness import NO_BROKER
from energyws.testing import Service, config, eventually
from energyws.testing.embedded_broker import EmbeddedBroker
from tests.clients import open_peer

pytestmark = pytest.mark.e2e

TOPIC = "readings"


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        running.create_topic(TOPIC, 1)
        yield running


def settings_for(brokers: str, **sections: dict[str, Any]) -> dict[str, Any]:
    return config(brokers, TOPIC, server={"workers": 1}, **sections)


def reasons(service: Service) -> list[str]:
    """The reasons in the answer of /ready."""
    found: list[str] = service.admin("/ready")[1]["reasons"]
    return found


def warnings(service: Service) -> list[str]:
    """The consumer's log lines, except those at INFO."""
    return [line for line in service.logged(" consumer ") if " INFO " not in line]


def test_without_a_controller_reading_continues(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    producer = Producer({"bootstrap.servers": embedded.bootstrap, "linger.ms": 0})
    with Service(tmp_path, settings_for(embedded.bootstrap)) as service:
        service.ready()
        embedded.set_controller(9)
        with open_peer(service) as peer:
            peer.subscribe()
            # Long enough for several checks of the topic's id, none of which gets an answer.
            for number in range(70):
                producer.produce(TOPIC, orjson.dumps({"n": number}))
                producer.flush(10)
                assert peer.numbers(1) == [number]
                with pytest.raises(TimeoutError):
                    peer.receive(0.1)
            assert reasons(service) == []
    assert warnings(service) == []


def test_a_start_without_a_controller_waits_for_the_topics_id_and_says_so(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    embedded.set_controller(9)
    with Service(tmp_path, settings_for(embedded.bootstrap)) as service:
        named = "stream energy: the broker does not tell the topic's id"
        eventually(lambda: named in reasons(service), "/ready names the stream")
        line = service.wait_logged("topic cannot be read: waiting for it")
        assert "controller" in line
        embedded.set_controller(1)
        service.ready()
        assert warnings(service) == [line]


def test_a_broker_that_refuses_connections_is_one_line_with_the_reason(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with Service(tmp_path, settings_for(address)) as service:
        service.wait_logged("broker is not reachable: trying again")
        # Long enough for other lines about it to appear.
        eventually(lambda: _tries(service) >= 2, "the consumer has had time to try again")
        (line,) = warnings(service)
        assert "Connection refused" in line


def _tries(service: Service) -> int:
    """The consumer's uptime in units of six seconds, each long enough for another attempt."""
    url = service.admin("/workers")
    return int(url[0] == 200) * next(
        int(child["uptime_seconds"] // 6) for child in url[1] if child["name"] == "consumer"
    )


def test_a_broker_that_goes_away_is_one_line_with_the_reason(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    with Service(tmp_path, settings_for(embedded.bootstrap)) as service:
        service.ready()
        embedded.set_down(True)
        line = service.wait_logged("broker is not reachable: trying again")
        assert "Disconnected" in line or "Connect to" in line
        eventually(lambda: reasons(service) == [NO_BROKER], "/ready names the broker only")
        embedded.set_down(False)
        service.ready()
        eventually(
            lambda: len(service.logged("broker is reachable")) == 2, "the return is logged too"
        )
        assert warnings(service) == [line]


def test_a_wrong_password_is_one_line_with_the_brokers_reason(tmp_path: Path) -> None:
    address = sasl_brokers()
    options = {
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "reader",
        "sasl.password": "not-the-password",
    }
    settings = settings_for(address, kafka={"options": options})
    with Service(tmp_path, settings) as service:
        line = service.wait_logged("broker is not reachable: trying again")
        assert "uthentication" in line
        eventually(lambda: _tries(service) >= 2, "the consumer has had time to try again")
        assert warnings(service) == [line]
        assert not service.logged("not-the-password")


def sasl_brokers() -> str:
    """The address on which the broker of energyws/testing/kafka_broker.py wants a password."""
    if address := os.environ.get("REDPANDA_SASL_BROKERS"):
        return address
    pytest.skip("needs the broker of energyws/testing/kafka_broker.py")
