"""A service without some of its rights in Kafka (needs a real Kafka with ACLs)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from energyws.testing import FAST_FETCH, PARTITIONS, Broker, Records, Service, eventually
from energyws.testing.kafka_broker import READER, READER_PASSWORD
from tests.clients import open_peer

pytestmark = pytest.mark.e2e
Serve = Callable[..., Service]

NOT_ALLOWED = "the service may not read the topic"
NOT_COMMITTED = "offsets cannot be committed"


class Access:
    """READER's rights on one topic, and on the group of the same name."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self._topic = topic
        self.admin = AdminClient({"bootstrap.servers": broker.bootstrap})

    def allow(self, kind: ResourceType, *operations: AclOperation) -> None:
        """Grant rights; the broker may apply them a moment after this returns."""
        bindings = [self._binding(AclBinding, kind, operation) for operation in operations]
        for answer in self.admin.create_acls(bindings).values():
            answer.result(30)

    def forbid(self, kind: ResourceType, *operations: AclOperation) -> None:
        """Withdraw rights."""
        filters = [self._binding(AclBindingFilter, kind, operation) for operation in operations]
        for answer in self.admin.delete_acls(filters).values():
            answer.result(30)

    def _binding(self, make: Any, kind: ResourceType, operation: AclOperation) -> Any:
        return make(
            kind,
            self._topic,
            ResourcePatternType.LITERAL,
            f"User:{READER}",
            "*",
            operation,
            AclPermissionType.ALLOW,
        )


@pytest.fixture
def access(broker: Broker, topic: str) -> Access:
    if "REDPANDA_SASL_BROKERS" not in os.environ:
        pytest.skip("needs the broker of energyws/testing/kafka_broker.py")
    return Access(broker, topic)


def as_reader(topic: str, **more: Any) -> dict[str, Any]:
    return {
        "brokers": os.environ.get("REDPANDA_SASL_BROKERS"),
        "group_id": topic,
        "commit_interval_seconds": 0.2,
        "options": {
            **FAST_FETCH,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": READER,
            "sasl.password": READER_PASSWORD,
            **more,
        },
    }


def reasons(service: Service) -> list[str]:
    """The reasons in the answer of /ready."""
    found: list[str] = service.admin("/ready")[1]["reasons"]
    return found


def test_without_rights_on_the_group_only_offset_commits_fail(
    serve: Serve, records: Records, access: Access, topic: str
) -> None:
    access.allow(ResourceType.TOPIC, AclOperation.READ, AclOperation.DESCRIBE)
    service = serve(server={"workers": 1}, kafka=as_reader(topic)).ready()
    with open_peer(service) as peer:
        peer.subscribe()
        numbers = records.send(9)
        assert sorted(peer.numbers(9)) == numbers
        line = service.wait_logged(NOT_COMMITTED)
        assert "Group authorization failed" in line
        assert "allow the service READ on this group" in line
        # A consumer that is being replaced ends just as quickly.
        service.signal(signal.SIGUSR2)
        service.wait_logged("child replaced", "child=consumer")
        began = time.monotonic()
        service.wait_logged("child ended", "child=consumer", "exit code 0")
        assert time.monotonic() - began < 3
        service.wait_logged("child replaced", "child=worker-0")
        numbers = records.send(9)
    eventually(lambda: len(service.logged(NOT_COMMITTED)) == 2, "the new consumer reports it too")
    service.caught_up(records, 9)
    began = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - began < 3
    # One line per process for one fact, and no process was killed.
    assert len(service.logged(NOT_COMMITTED)) == 2
    for other in ("Kafka client reports", "librdkafka reports", "killing child"):
        assert service.logged(other) == []


def test_with_rights_on_the_group_published_offsets_are_committed(
    serve: Serve, records: Records, access: Access, topic: str
) -> None:
    access.allow(ResourceType.TOPIC, AclOperation.READ, AclOperation.DESCRIBE)
    access.allow(ResourceType.GROUP, AclOperation.READ)
    service = serve(server={"workers": 1}, kafka=as_reader(topic)).ready()
    records.send(9)
    places = [TopicPartition(topic, partition) for partition in range(PARTITIONS)]

    def committed() -> list[int]:
        wanted = [ConsumerGroupTopicPartitions(topic, places)]
        found = access.admin.list_consumer_group_offsets(wanted)[topic].result(30)
        return [each.offset for each in found.topic_partitions]

    eventually(lambda: committed() == [3, 3, 3], "published offsets are committed")
    described = access.admin.describe_consumer_groups([topic])[topic].result(30)
    assert (described.state.name, described.members) == ("EMPTY", [])
    assert service.logged(NOT_COMMITTED) == []


def test_topic_without_read_permission_is_named_until_it_is_granted(
    serve: Serve, records: Records, access: Access, topic: str
) -> None:
    service = serve(server={"workers": 1}, kafka=as_reader(topic))
    named = f"stream energy: {NOT_ALLOWED}"
    eventually(lambda: named in reasons(service), "the topic may not be described")
    line = service.wait_logged("topic cannot be read")
    assert "Topic authorization failed" in line
    access.allow(ResourceType.TOPIC, AclOperation.DESCRIBE)
    some = f"stream energy, partitions 0, 1, 2: {NOT_ALLOWED}"
    # The topic is known now, but every fetch is refused: the service is still not ready.
    eventually(lambda: some in reasons(service), "the topic may not be read")
    assert service.admin("/ready")[0] == 503
    access.allow(ResourceType.TOPIC, AclOperation.READ)
    service.ready()
    assert len(service.logged("topic cannot be read")) == 1


def test_withdrawn_right_is_named_and_its_return_is_noticed_without_a_record(
    serve: Serve, records: Records, access: Access, topic: str
) -> None:
    access.allow(ResourceType.TOPIC, AclOperation.READ, AclOperation.DESCRIBE)
    service = serve(server={"workers": 1}, kafka=as_reader(topic)).ready()
    access.forbid(ResourceType.TOPIC, AclOperation.READ)
    some = f"stream energy, partitions 0, 1, 2: {NOT_ALLOWED}"
    eventually(lambda: reasons(service) == [some], "every partition is named")
    access.allow(ResourceType.TOPIC, AclOperation.READ)
    service.ready()
    with open_peer(service) as peer:
        peer.subscribe()
        numbers = records.send(3)
        assert sorted(peer.numbers(3)) == numbers
