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


def test_broker_that_is_away_hides_only_its_own_partitions(
    cluster: EmbeddedBroker, admin: AdminClient
) -> None:
    before = describe(admin, "t", LEVEL)
    cluster.set_down(True, 2)
    topic = describe(admin, "t", LEVEL)
    assert topic.ends == ((0, 0), None, (0, 0))
    assert topic.stalls == {1: Stall.NO_ANSWER}
    assert topic.epoch == before.epoch


def test_without_any_broker_nothing_is_answered(
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
    """Answers offset 7 for every partition."""
    answers: dict[Any, Future[Any]] = {each: Future() for each in partitions}
    for answer in answers.values():
        answer.set_result(SimpleNamespace(offset=7))
    return answers


def test_partition_without_a_leader_is_not_asked_for_its_ends() -> None:
    # The embedded broker cannot take a leader away.
    partitions = {0: SimpleNamespace(leader=1), 1: SimpleNamespace(leader=-1)}
    topic = SimpleNamespace(error=None, partitions=partitions)
    answer: Future[Any] = Future()
    answer.set_result(SimpleNamespace(topic_id="an-id"))
    asked: list[TopicPartition] = []
    admin: Any = SimpleNamespace(
        list_topics=lambda name, timeout: SimpleNamespace(topics={"t": topic}, cluster_id="c"),
        list_offsets=lambda wanted, **more: asked.extend(wanted) or offsets(wanted, **more),
        describe_topics=lambda topics, request_timeout: {"t": answer},
    )
    found = describe(admin, "t", LEVEL)
    assert (found.ends, found.stalls) == (((7, 7), None), {1: Stall.NO_LEADER})
    assert {each.partition for each in asked} == {0}
    # Without any partition that can be read, the topic is unavailable.
    partitions[0].leader = -1
    with pytest.raises(TopicUnavailable, match="no broker leads it") as unavailable:
        describe(admin, "t", LEVEL)
    assert unavailable.value.stall is Stall.NO_LEADER
    # Unless it is being read already.
    assert describe(admin, "t", LEVEL, found.epoch).ends == (None, None)


@pytest.mark.parametrize(
    ("options", "level"),
    [
        ({}, IsolationLevel.READ_COMMITTED),
        ({"isolation.level": "read_committed"}, IsolationLevel.READ_COMMITTED),
        ({"isolation.level": "read_uncommitted"}, IsolationLevel.READ_UNCOMMITTED),
    ],
)
def test_isolation_level_of_ends_is_that_of_records(
    options: dict[str, str | int | float | bool], level: IsolationLevel
) -> None:
    assert isolation(Kafka(brokers="b", options=options)) is level
