"""A partition whose only broker is down (needs a real Kafka, and starts a second broker)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from energyws.testing import Service, config, eventually
from energyws.testing.kafka_broker import KafkaBroker
from tests.clients import open_peer

pytestmark = pytest.mark.e2e

LEADERLESS = "stream energy, partition 1: no broker leads it"


class TwoBrokers:
    """A topic with partition 0 on the first broker and partition 1 on the second."""

    def __init__(self, first: str, second: KafkaBroker, admin: AdminClient) -> None:
        self.first = first
        self.second = second
        self.topic = f"two-{os.getpid()}"
        eventually(lambda: 2 in admin.list_topics(timeout=5).brokers, "the second has joined")
        made = NewTopic(self.topic, num_partitions=2, replica_assignment=[[1], [2]])
        admin.create_topics([made])[self.topic].result(30)
        eventually(
            lambda: len(admin.list_topics(self.topic, timeout=5).topics[self.topic].partitions),
            "the topic is there",
        )
        self._producer = Producer({"bootstrap.servers": first, "linger.ms": 0, "log_level": 0})

    def send(self, partition: int, number: int) -> None:
        self._producer.produce(self.topic, orjson.dumps({"n": number}), partition=partition)
        assert self._producer.flush(30) == 0

    def committed(self, group: str) -> list[int]:
        reader = Consumer({"bootstrap.servers": self.second.bootstrap, "group.id": group})
        places = [TopicPartition(self.topic, partition) for partition in range(2)]
        try:
            return [place.offset for place in reader.committed(places, timeout=10)]
        finally:
            reader.close()


def keeps_offsets(bootstrap: str) -> bool:
    """Whether the topic of committed offsets has been made."""
    reader = Consumer({"bootstrap.servers": bootstrap, "group.id": "any", "log_level": 0})
    try:
        reader.committed([TopicPartition("any", 0)], timeout=10)
    except KafkaException:  # a new broker does not coordinate groups immediately
        return False
    finally:
        reader.close()
    return True


@pytest.fixture
def two() -> Iterator[TwoBrokers]:
    if "REDPANDA_SASL_BROKERS" not in os.environ:
        pytest.skip("needs the broker of energyws/testing/kafka_broker.py")
    # A cluster of its own: in a shared one, Kafka could place another test's topic on the broker
    # that goes down.
    with KafkaBroker() as first:
        admin = AdminClient({"bootstrap.servers": first.bootstrap, "log_level": 0})
        # Kafka must not place the topic of committed offsets on that broker either.
        eventually(lambda: keeps_offsets(first.bootstrap), "the first broker keeps offsets")
        cluster = admin.list_topics(timeout=10).cluster_id
        assert cluster is not None
        with KafkaBroker((first.controller, cluster)) as second:
            yield TwoBrokers(first.bootstrap, second, admin)


def reasons(service: Service) -> list[str]:
    """The reasons in the answer of /ready."""
    found: list[str] = service.admin("/ready")[1]["reasons"]
    return found


def test_leaderless_partition_is_named_and_does_not_hold_up_others(
    two: TwoBrokers, tmp_path: Path
) -> None:
    kafka: dict[str, Any] = {"group_id": two.topic, "commit_interval_seconds": 0.2}
    settings = config(two.first, two.topic, server={"workers": 1}, kafka=kafka)
    with Service(tmp_path / "one", settings) as service:
        service.ready()
        with open_peer(service) as peer:
            peer.subscribe()
            two.send(0, 0)
            two.send(1, 1)
            assert sorted(peer.numbers(2)) == [0, 1]
            position = peer.subscribe()["position"]
            eventually(
                lambda: two.committed(two.topic) == [1, 1], "published offsets are committed"
            )
            two.second.stop()
            eventually(lambda: reasons(service) == [LEADERLESS], "/ready names the partition")
            service.children()["consumer"].kill()
            eventually(
                lambda: len(service.logged("consumer ready")) == 2, "the new consumer is ready"
            )
            two.send(0, 2)
            assert peer.numbers(1) == [2]
        assert service.stop() == 0
    with Service(tmp_path / "two", settings) as service:
        eventually(lambda: reasons(service) == [LEADERLESS], "/ready names the partition only")
        with open_peer(service) as peer:
            reply = peer.subscribe(resume={"energy": position})
            assert (reply["recovered"], reply["replayed"]) == (True, 1)
            assert peer.numbers(1) == [2]
            two.second.start()
            service.ready()
            two.send(1, 3)
            two.send(0, 4)
            assert sorted(peer.numbers(2)) == [3, 4]
