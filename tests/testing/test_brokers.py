from __future__ import annotations

import pytest

from energyws.testing import Broker, BrokerProcess, ExternalBroker, any_broker


def test_external_broker_from_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", "127.0.0.1:1")
    with any_broker() as broker:
        assert isinstance(broker, ExternalBroker)
        assert (broker.bootstrap, broker.pid, broker.consumer_options) == ("127.0.0.1:1", None, {})


def test_embedded_broker_is_used_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDPANDA_BROKERS", raising=False)
    with any_broker() as broker:
        assert isinstance(broker, BrokerProcess)
        # A longer wait would delay every record.
        assert broker.consumer_options["fetch.wait.max.ms"] < 10


@pytest.mark.e2e
def test_topics_of_any_broker_can_be_created_and_deleted(broker: Broker, topic: str) -> None:
    other = f"{topic}-other"
    broker.create_topic(other, 2)
    broker.delete_topic(other)
    broker.create_topic(other, 1)
    broker.delete_topic(other)
