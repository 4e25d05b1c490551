"""Topics as an embedded broker describes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from energyws.process.stalls import Stall
from energyws.settings import Kafka
from energyws.testing.embedded_broker import EmbeddedBroker
from workers.consumer import metadata
from workers.consumer.librdkafka import open_admin
from workers.consumer.metadata import BrokersUnavailable, TopicUnavailable, describe, isolation

LEVEL = IsolationLevel.READ_COMMITTED


@pytest.fixture
def cluster() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(2) as running:
        running.create_topic("t", 3)
        yield running


@pytest.fixture
def admin(cluster: EmbeddedBroker) -> AdminClient:
    return open_admin(Kafka(brokers=cluster.bootstrap))


def test_ends_of_every_partition(cluster: EmbeddedBroker, admin: AdminClient) -> None:
    producer = Producer({"bootstrap.servers": cluster.bootstrap})
    for _ in range(4):
        producer.produce("t", b"{}", partition=1)
    producer.flush(10)
    cluster.trim("t", 1, 3)
    topic = describe(admin, "t", LEVEL)
    assert (topic.ends, topic.stalls) == (((0, 0), (3, 4), (0, 0)), {})


def test_unavailable_broker_hides_only_its_own_partitions(
    cluster: EmbeddedBroker, admin: AdminClient
) -> None:
    before = describe(admin, "t", LEVEL)
    cluster.set_down(True, 2)
    topic = describe(admin, "t", LEVEL)
    assert topic.ends == ((0, 0), None, (0, 0))
    assert topic.stalls == {1: Stall.NO_ANSWER}
    assert topic.epoch == before.epoch


def test_without_any_broker_describing_a_topic_fails(
    cluster: EmbeddedBroker, admin: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    describe(admin, "t", LEVEL)
    monkeypatch.setattr(metadata, "ASK_SECONDS", 1.0)
    for broker in (1, 2):
        cluster.set_down(True, broker)
    with pytest.raises(BrokersUnavailable, match=r"roker|imed out"):
        describe(admin, "t", LEVEL)


def test_missing_topic_is_unavailable_and_not_created(
    cluster: EmbeddedBroker, admin: AdminClient
) -> None:
    with pytest.raises(TopicUnavailable) as unavailable:
        describe(admin, "other", LEVEL)
    assert unavailable.value.stall is Stall.NO_TOPIC
    assert "other" not in admin.list_topics(timeout=5).topics


def test_topic_with_more_partitions_than_a_position_can_hold_is_unavailable(
    cluster: EmbeddedBroker, admin: AdminClient
) -> None:
    cluster.create_topic("wide", 1025)
    with pytest.raises(TopicUnavailable, match="1025 partitions, more than 1024") as unavailable:
        describe(admin, "wide", LEVEL)
    assert unavailable.value.stall is Stall.TOO_MANY_PARTITIONS


def test_without_a_controller_the_known_epoch_is_used(
    cluster: EmbeddedBroker, admin: AdminClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = describe(admin, "t", LEVEL)
    monkeypatch.setattr(metadata, "ASK_SECONDS", 2.0)
    monkeypatch.setattr(metadata, "ASK_AGAIN_SECONDS", 0.5)
    cluster.set_controller(9)
    assert describe(admin, "t", LEVEL, known.epoch) == known
    with pytest.raises(TopicUnavailable) as unavailable:
        describe(admin, "t", LEVEL)
    assert unavailable.value.stall is Stall.NO_TOPIC_ID


def offsets(partitions: Mapping[TopicPartition, object], **_: object) -> dict[Any, Future[Any]]:
    """Returns offset 7 for every partition."""
    futures: dict[Any, Future[Any]] = {each: Future() for each in partitions}
    for future in futures.values():
        future.set_result(SimpleNamespace(offset=7))
    return futures


def test_ends_of_a_partition_without_a_leader_are_not_requested() -> None:
    # The embedded broker cannot remove a leader, so this test uses fakes.
    partitions = {0: SimpleNamespace(leader=1), 1: SimpleNamespace(leader=-1)}
    topic = SimpleNamespace(error=None, partitions=partitions)
    described: Future[Any] = Future()
    described.set_result(SimpleNamespace(topic_id="an-id"))
    requested: list[TopicPartition] = []
    admin: Any = SimpleNamespace(
        list_topics=lambda name, timeout: SimpleNamespace(topics={"t": topic}, cluster_id="c"),
        list_offsets=lambda wanted, **more: requested.extend(wanted) or offsets(wanted, **more),
        describe_topics=lambda topics, request_timeout: {"t": described},
    )
    found = describe(admin, "t", LEVEL)
    assert (found.ends, found.stalls) == (((7, 7), None), {1: Stall.NO_LEADER})
    assert {each.partition for each in requested} == {0}
    # A topic without a readable partition is unavailable.
    partitions[0].leader = -1
    with pytest.raises(TopicUnavailable, match="no broker leads it") as unavailable:
        describe(admin, "t", LEVEL)
    assert unavailable.value.stall is Stall.NO_LEADER
    # But not if it is being read already.
    assert describe(admin, "t", LEVEL, found.epoch).ends == (None, None)


@pytest.mark.parametrize(
    ("options", "level"),
    [
        ({}, IsolationLevel.READ_COMMITTED),
        ({"isolation.level": "read_committed"}, IsolationLevel.READ_COMMITTED),
        ({"isolation.level": "read_uncommitted"}, IsolationLevel.READ_UNCOMMITTED),
    ],
)
def test_ends_have_the_isolation_level_of_records(
    options: dict[str, str | int | float | bool], level: IsolationLevel
) -> None:
    assert isolation(Kafka(brokers="b", options=options)) is level
