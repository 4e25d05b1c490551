"""The broker of a test: the embedded one, or one that is already running."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, Protocol

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]

from energyws.testing.broker_process import PARTITIONS, BrokerProcess
from energyws.testing.waiting import eventually

_ANSWER_SECONDS: Final = 30.0


class Broker(Protocol):
    """A running broker. pid: of a broker on this machine, else None."""

    @property
    def bootstrap(self) -> str:
        """`HOST:PORT`, one or several with commas."""

    @property
    def pid(self) -> int | None: ...

    @property
    def consumer_options(self) -> dict[str, Any]:
        """`kafka.options` of a service that reads from it."""

    def create_topic(self, name: str, partitions: int = PARTITIONS) -> None:
        """Make a topic; returns when it can be used."""

    def delete_topic(self, name: str) -> None:
        """Delete a topic; returns when it is gone."""

    def trim(self, name: str, partition: int, low_offset: int) -> None:
        """Remove the records of a partition below an offset, as retention does."""


class ExternalBroker:
    """A Kafka or Redpanda that is already running."""

    consumer_options: Final[dict[str, Any]] = {}

    def __init__(self, bootstrap: str, pid: int | None = None) -> None:
        self.bootstrap = bootstrap
        self.pid = pid
        self._admin = AdminClient({"bootstrap.servers": bootstrap})

    def create_topic(
        self, name: str, partitions: int = PARTITIONS, options: Mapping[str, str] | None = None
    ) -> None:
        """Make a topic; `options` are the topic's configuration."""
        # A broker's default is 1 MiB for a batch; the embedded one has no such bound.
        chosen = {"max.message.bytes": "20000000", **(options or {})}
        topic = NewTopic(name, partitions, 1, config=chosen)
        self._admin.create_topics([topic])[name].result(_ANSWER_SECONDS)
        eventually(lambda: self.partitions(name) == partitions, f"topic {name} exists")

    def delete_topic(self, name: str) -> None:
        """Delete a topic; returns when it is gone."""
        self._admin.delete_topics([name])[name].result(_ANSWER_SECONDS)
        eventually(
            lambda: self._admin.list_topics(name, timeout=5).topics[name].error is not None,
            f"topic {name} is gone",
        )

    def trim(self, name: str, partition: int, low_offset: int) -> None:
        """Remove the records of a partition below an offset, as retention does."""
        place = TopicPartition(name, partition, low_offset)
        self._admin.delete_records([place])[place].result(_ANSWER_SECONDS)

    def partitions(self, name: str) -> int:
        """The number of partitions that a topic has."""
        return len(self._admin.list_topics(name, timeout=5).topics[name].partitions)

    def add_partitions(self, name: str, partitions: int) -> None:
        """Grow a topic to this number of partitions."""
        added = self._admin.create_partitions([NewPartitions(name, partitions)])
        added[name].result(_ANSWER_SECONDS)


@contextmanager
def any_broker() -> Iterator[Broker]:
    """The broker that REDPANDA_BROKERS names, else an embedded one."""
    if bootstrap := os.environ.get("REDPANDA_BROKERS"):
        yield ExternalBroker(bootstrap)
        return
    with BrokerProcess({}) as process:
        yield process
