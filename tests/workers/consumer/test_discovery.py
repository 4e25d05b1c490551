"""What the brokers tell of topics, by an embedded one; and what becomes of a thread that fails."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

import workers
from energyws.errors import ExitCode
from energyws.process.stalls import Stall
from energyws.settings import Kafka
from energyws.testing.embedded_broker import EmbeddedBroker
from workers.consumer.librdkafka import open_admin
from workers.consumer.metadata import Unanswered, Unknown, describe, isolation

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
    assert (topic.ends, topic.waits) == (((0, 0), (3, 4), (0, 0)), {})


def test_a_broker_that_is_away_takes_its_partitions_only(
    cluster: EmbeddedBroker, admin: AdminClient
) -> None:
    before = describe(admin, "t", LEVEL)
    cluster.set_down(True, 2)
    topic = describe(admin, "t", LEVEL)
    assert topic.ends == ((0, 0), None, (0, 0))
    assert topic.waits == {1: Stall.NO_ANSWER}
    assert topic.epoch == before.epoch


def test_no_broker_at_all(cluster: EmbeddedBroker, admin: AdminClient) -> None:
    describe(admin, "t", LEVEL)
    for broker in (1, 2):
        cluster.set_down(True, broker)
    with pytest.raises(Unanswered, match=r"roker|imed out"):
        describe(admin, "t", LEVEL)


def test_a_topic_that_is_not_there(cluster: EmbeddedBroker, admin: AdminClient) -> None:
    with pytest.raises(Unknown) as unknown:
        describe(admin, "other", LEVEL)
    assert unknown.value.wait is Stall.NO_TOPIC
    # Asking has not made it.
    assert "other" not in admin.list_topics(timeout=5).topics


def test_more_partitions_than_a_position_can_hold(
    cluster: EmbeddedBroker, admin: AdminClient
) -> None:
    cluster.create_topic("wide", 1025)
    with pytest.raises(Unknown, match="1025 partitions, more than 1024") as unknown:
        describe(admin, "wide", LEVEL)
    assert unknown.value.wait is Stall.TOO_MANY_PARTITIONS


def test_without_a_controller_the_id_that_is_known_counts(
    cluster: EmbeddedBroker, admin: AdminClient
) -> None:
    known = describe(admin, "t", LEVEL)
    cluster.set_controller(9)
    assert describe(admin, "t", LEVEL, known.epoch) == known
    with pytest.raises(Unknown) as unknown:
        describe(admin, "t", LEVEL)
    assert unknown.value.wait is Stall.NO_TOPIC_ID


def offsets(partitions: Mapping[TopicPartition, object], **_: object) -> dict[Any, Future[Any]]:
    """Every partition's answer is offset 7."""
    answers: dict[Any, Future[Any]] = {each: Future() for each in partitions}
    for answer in answers.values():
        answer.set_result(SimpleNamespace(offset=7))
    return answers


def test_a_partition_without_a_leader_is_not_even_asked() -> None:
    # The embedded broker cannot take a leader away.
    partitions = {0: SimpleNamespace(leader=1), 1: SimpleNamespace(leader=-1)}
    topic = SimpleNamespace(error=None, partitions=partitions)
    told: Future[Any] = Future()
    told.set_result(SimpleNamespace(topic_id="an-id"))
    asked: list[TopicPartition] = []
    admin: Any = SimpleNamespace(
        list_topics=lambda name, timeout: SimpleNamespace(topics={"t": topic}, cluster_id="c"),
        list_offsets=lambda wanted, **more: asked.extend(wanted) or offsets(wanted, **more),
        describe_topics=lambda topics, request_timeout: {"t": told},
    )
    found = describe(admin, "t", LEVEL)
    assert (found.ends, found.waits) == (((7, 7), None), {1: Stall.NO_LEADER})
    assert {each.partition for each in asked} == {0}
    # Of which nothing can be read, the topic cannot.
    partitions[0].leader = -1
    with pytest.raises(Unknown, match="no broker leads it") as unknown:
        describe(admin, "t", LEVEL)
    assert unknown.value.wait is Stall.NO_LEADER
    # Unless it is read already.
    assert describe(admin, "t", LEVEL, found.epoch).ends == (None, None)


@pytest.mark.parametrize(
    ("options", "level"),
    [
        ({}, IsolationLevel.READ_COMMITTED),
        ({"isolation.level": "read_committed"}, IsolationLevel.READ_COMMITTED),
        ({"isolation.level": "read_uncommitted"}, IsolationLevel.READ_UNCOMMITTED),
    ],
)
def test_ends_are_asked_for_as_records_are_read(
    options: dict[str, str | int | float | bool], level: IsolationLevel
) -> None:
    assert isolation(Kafka(brokers="b", options=options)) is level


def test_a_look_that_fails_ends_the_process_and_is_told_once() -> None:
    # An exception that nobody thought of, in a thread that the process cannot do without.
    script = (
        "import threading\n"
        "from energyws.logs import writer\n"
        "from energyws.settings import Kafka, Logging\n"
        "from workers.consumer.discovery import Discovery\n"
        "writer.configure(Logging(), 'consumer')\n"
        "class Admin:\n"
        "    def list_topics(self, name, timeout): raise ZeroDivisionError('by whom?')\n"
        "nothing = lambda *_: None\n"
        "Discovery(Admin(), Kafka(brokers='b'), {'s': 't'}, *[nothing] * 4).start()\n"
        "threading.Event().wait(30)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert ended.returncode == ExitCode.FAILURE
    assert ended.stderr.count("ZeroDivisionError: by whom?") == 1
    assert " ERROR consumer failed" in ended.stderr


def test_no_thread_of_ours_can_end_unseen() -> None:
    for each in pkgutil.walk_packages(workers.__path__, "workers."):
        if not each.name.endswith("__main__"):
            importlib.import_module(each.name)
    ours = [each for each in threading.Thread.__subclasses__() if "workers" in each.__module__]
    assert {each.__name__ for each in ours} >= {"Source", "Discovery", "HistoryServer"}
    # `crash_on_error` has wrapped it.
    assert [each for each in ours if not hasattr(each.run, "__wrapped__")] == []
