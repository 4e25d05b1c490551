"""The broker of a measurement: embedded, or a real Kafka.

A real one is the one that REDPANDA_BROKERS names, else an Apache Kafka that is started here, which
needs a JDK and Maven (energyws/testing/kafka_broker.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from energyws.testing.broker_process import BrokerProcess
from energyws.testing.kafka_broker import KafkaBroker

KINDS: Final = ("embedded", "kafka")
_ANSWER_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Broker:
    """A broker that answers; pid is None for one that somebody else runs."""

    kind: str
    bootstrap: str
    pid: int | None
    _embedded: BrokerProcess | None = None

    @property
    def options(self) -> dict[str, Any]:
        """What a consumer of it needs to set."""
        # The embedded broker answers a waiting fetch only when its time is up.
        return {} if self._embedded is None else {"fetch.wait.max.ms": 5}

    def create_topic(self, name: str, partitions: int, *, append_time: bool = False) -> None:
        """Make a topic; append_time: records bear the time at which the log took them.

        The embedded broker has no such time: there they bear the producer's, as by default.
        """
        if self._embedded is not None:
            self._embedded.call("create_topic", name=name, partitions=partitions)
            return
        kind = "LogAppendTime" if append_time else "CreateTime"
        topic = NewTopic(name, partitions, 1, config={"message.timestamp.type": kind})
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        admin.create_topics([topic])[name].result(_ANSWER_SECONDS)


@contextmanager
def open_broker(kind: str) -> Iterator[Broker]:
    """A broker of one of KINDS, for as long as the block runs."""
    if kind == "embedded":
        with BrokerProcess({}) as process:
            yield Broker(kind, process.bootstrap, process.pid, process)
    elif bootstrap := os.environ.get("REDPANDA_BROKERS"):
        yield Broker(kind, bootstrap, None)
    else:
        with KafkaBroker() as kafka:
            yield Broker(kind, kafka.bootstrap, kafka.pid)
