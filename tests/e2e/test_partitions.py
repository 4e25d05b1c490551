"""A partition that cannot be read delays only the clients that wait for its records."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from energyws.testing import Service, config, eventually
from energyws.testing.embedded_broker import EmbeddedBroker
from tests.clients import open_peer

pytestmark = pytest.mark.e2e

TOPIC = "readings"
GROUP = "readers"
AWAY = "stream energy, partition 1: its broker does not answer"


class Cluster:
    """Two brokers: `far` leads partition 1 and is not the group's coordinator, `near` the rest."""

    def __init__(self) -> None:
        self.broker = EmbeddedBroker(2)
        self._admin = AdminClient({"bootstrap.servers": self.broker.bootstrap, "log_level": 0})
        self.broker.create_topic(TOPIC, 2)
        self.far = 2
        self.broker.set_coordinator(GROUP, 1)
        self.settings = {"bootstrap.servers": self.broker.bootstrap, "linger.ms": 0}
        self._producer = Producer({**self.settings, "log_level": 0})

    def send(self, partition: int, *numbers: int) -> None:
        for number in numbers:
            self._producer.produce(TOPIC, orjson.dumps({"n": number}), partition=partition)
        assert self._producer.flush(30) == 0

    def committed(self) -> list[int]:
        places = [TopicPartition(TOPIC, partition) for partition in range(2)]
        wanted = [ConsumerGroupTopicPartitions(GROUP, places)]
        try:
            found = self._admin.list_consumer_group_offsets(wanted)[GROUP].result(10)
        except KafkaException:
            return []
        return [each.offset for each in found.topic_partitions]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    running = Cluster()
    with running.broker:
        yield running


@pytest.fixture
def settings(cluster: Cluster) -> dict[str, Any]:
    kafka = {"group_id": GROUP, "commit_interval_seconds": 0.2}
    return config(cluster.broker.bootstrap, TOPIC, server={"workers": 1}, kafka=kafka)


def reasons(service: Service) -> list[str]:
    """The reasons in the answer of /ready."""
    found: list[str] = service.admin("/ready")[1]["reasons"]
    return found


def test_service_starts_without_a_partition_and_reads_it_once_it_returns(
    cluster: Cluster, settings: dict[str, Any], tmp_path: Path
) -> None:
    cluster.send(0, 0)
    cluster.send(1, 1, 2, 3)
    cluster.broker.set_down(True, cluster.far)
    with Service(tmp_path, settings) as service:
        eventually(lambda: reasons(service) == [AWAY], "/ready names that partition only")
        with open_peer(service) as peer:
            peer.subscribe()
            cluster.send(0, 10)
            assert peer.numbers(1) == [10]
            cluster.broker.set_down(False, cluster.far)
            service.ready()
            # No offset was committed: the partition's records are reported missing, not sent live.
            gap = peer.until("lagged")
            assert (gap["reason"], gap["missed"]) == ("HISTORY_EXCEEDED", 3)
            cluster.send(1, 11)
            cluster.send(0, 12)
            assert sorted(peer.numbers(2)) == [11, 12]


def test_records_from_before_the_partition_was_readable_are_delivered_once(
    cluster: Cluster, settings: dict[str, Any], tmp_path: Path
) -> None:
    with Service(tmp_path / "one", settings) as service:
        service.ready()
        with open_peer(service) as peer:
            peer.subscribe()
            cluster.send(0, 0)
            cluster.send(1, 1)
            assert sorted(peer.numbers(2)) == [0, 1]
            position = peer.subscribe()["position"]
        assert service.stop() == 0
    assert cluster.committed() == [1, 1]
    cluster.send(1, 2, 3)
    cluster.broker.set_down(True, cluster.far)
    with Service(tmp_path / "two", settings) as service:
        eventually(lambda: reasons(service) == [AWAY], "/ready names that partition only")
        with open_peer(service) as old, open_peer(service) as new:
            reply = old.subscribe(resume={"energy": position})
            assert (reply["recovered"], reply["replayed"]) == (True, 0)
            assert new.subscribe()["position"] == position
            cluster.broker.set_down(False, cluster.far)
            service.ready()
            for peer in (old, new):
                assert peer.numbers(2) == [2, 3]
            cluster.send(0, 4)
            for peer in (old, new):
                assert peer.numbers(1) == [4]


def test_a_replay_that_needs_the_partition_waits_and_delays_no_other_client(
    cluster: Cluster, settings: dict[str, Any], tmp_path: Path
) -> None:
    with Service(tmp_path / "one", settings) as service:
        service.ready()
        with open_peer(service) as peer:
            position = peer.subscribe()["position"]
            cluster.send(1, 1, 2)
            assert peer.numbers(2) == [1, 2]
        assert service.stop() == 0
    cluster.broker.set_down(True, cluster.far)
    with Service(tmp_path / "two", settings) as service:
        eventually(lambda: reasons(service) == [AWAY], "/ready names that partition only")
        with open_peer(service) as old, open_peer(service) as new:
            new.subscribe()
            resume = {"type": "subscribe", "streams": ["energy"], "resume": {"energy": position}}
            old.send(resume)
            cluster.send(0, 3)
            assert new.numbers(1) == [3]
            # History of the other partitions is available meanwhile.
            with open_peer(service) as third:
                assert third.subscribe(last=10)["replayed"] == 1
                assert third.numbers(1) == [3]
            cluster.broker.set_down(False, cluster.far)
            reply = old.until("subscribed")["positions"]["energy"]
            assert (reply["recovered"], reply["replayed"]) == (True, 3)
            assert sorted(old.numbers(3)) == [1, 2, 3]


def test_a_topic_with_too_many_partitions_is_refused_and_the_other_stream_is_served(
    cluster: Cluster, settings: dict[str, Any], tmp_path: Path
) -> None:
    cluster.broker.create_topic("wide", 1025)
    del settings["kafka"]["topic"]
    settings["streams"] = {"energy": {"topic": TOPIC}, "wide": {"topic": "wide"}}
    with Service(tmp_path, settings) as service:
        named = "stream wide: the topic has too many partitions"
        eventually(lambda: named in reasons(service), "/ready names the stream")
        line = service.wait_logged("topic cannot be read")
        assert "1025 partitions, more than 1024" in line
        with open_peer(service) as peer:
            peer.subscribe()
            cluster.send(0, 1)
            assert peer.numbers(1) == [1]
        assert service.logged(" ERROR ") == []


def test_new_consumer_without_the_partition_serves_the_others(
    cluster: Cluster, settings: dict[str, Any], tmp_path: Path
) -> None:
    with Service(tmp_path, settings) as service:
        service.ready()
        with open_peer(service) as peer:
            peer.subscribe()
            cluster.send(0, 0)
            cluster.send(1, 1)
            assert sorted(peer.numbers(2)) == [0, 1]
            eventually(lambda: cluster.committed() == [1, 1], "published offsets are committed")
            cluster.broker.set_down(True, cluster.far)
            eventually(lambda: reasons(service) == [AWAY], "/ready names the partition")
            service.children()["consumer"].kill()
            eventually(
                lambda: len(service.logged("consumer ready")) == 2, "the new consumer is ready"
            )
            cluster.send(0, 2)
            assert peer.numbers(1) == [2]
        service.signal(signal.SIGUSR2)
        for child in ("consumer", "worker-0"):
            service.wait_logged("child replaced", f"child={child}")
        # The new worker has none of the former clients.
        with open_peer(service) as peer:
            peer.subscribe()
            cluster.send(0, 3)
            assert peer.numbers(1) == [3]
            cluster.broker.set_down(False, cluster.far)
            eventually(lambda: reasons(service) == [], "the service is ready again")
            cluster.send(1, 4)
            assert peer.numbers(1) == [4]
