"""The brokers that classes of faults break: the embedded one behind a proxy, and a real Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.kit.record import PARTITIONS
from energyws.testing import Embedded, ExternalBroker
from energyws.testing.broker_process import BrokerProcess
from energyws.testing.kafka_broker import KafkaBroker
from energyws.testing.proxy import TcpProxy

_SETTLE_SECONDS: Final = 30.0


class EmbeddedHandle:
    """librdkafka's mock cluster; every connection to it goes through a proxy on a stable port."""

    kind = "embedded"

    def __init__(self) -> None:
        self._process = BrokerProcess({})
        host, _, port = self._process.bootstrap.partition(":")
        self.proxy = TcpProxy(host, int(port))
        self.bootstrap = self.direct = self.proxy.address
        self._advertise()

    def create_topic(self, name: str, partitions: int = PARTITIONS) -> None:
        """Make a topic; returns when it can be used."""
        Embedded(self._process).create_topic(name, partitions)

    def delete_topic(self, name: str) -> None:
        """Delete a topic; returns when it is gone."""
        Embedded(self._process).delete_topic(name)

    def trim(self, name: str, partition: int, low: int) -> None:
        """Remove the records of a partition below offset `low`, as retention does."""
        Embedded(self._process).trim(name, partition, low)

    def call(self, op: str, **arguments: Any) -> None:
        """A method of EmbeddedBroker."""
        self._process.call(op, **arguments)

    def down(self) -> None:
        """Every connection is reset, and none is accepted."""
        self.proxy.cut()

    def up(self) -> None:
        """The end of `down`."""
        self.proxy.restore()

    def empty(self, topic: str) -> None:
        """Another broker at the same address, which has the topic but none of its records."""
        self.proxy.cut()
        self._process.close()
        self._process = BrokerProcess({topic: PARTITIONS})
        host, _, port = self._process.bootstrap.partition(":")
        self.proxy.retarget(host, int(port))
        self._advertise()
        self.proxy.restore()

    def close(self) -> None:
        """End it."""
        self.proxy.close()
        self._process.close()

    def _advertise(self) -> None:
        self._process.call("advertise", host="127.0.0.1", port=self.proxy.port)


class KafkaHandle(ExternalBroker):
    """Apache Kafka, one node, on a stable port."""

    kind = "kafka"

    def __init__(self, broker: KafkaBroker) -> None:
        super().__init__(broker.bootstrap)
        self.direct = broker.bootstrap
        self._broker = broker

    def partitions(self, topic: str) -> int:
        """How many partitions a topic has."""
        return len(self._admin.list_topics(topic, timeout=5).topics[topic].partitions)

    def down(self) -> None:
        """SIGKILL."""
        self._broker.kill()

    def up(self) -> None:
        """Start it with the data that it has."""
        self._broker.start()

    def restart(self) -> None:
        """SIGTERM, and start it again."""
        self._broker.stop()
        self._broker.start()

    def empty(self, topic: str) -> None:
        """Kill it, cut the logs of a topic to nothing, and start it: the topic keeps its id."""
        self._broker.kill()
        for partition in range(PARTITIONS):
            _cut(self._broker.data / f"{topic}-{partition}")
        for checkpoint in (
            "recovery-point-offset-checkpoint",
            "replication-offset-checkpoint",
            "log-start-offset-checkpoint",
            ".kafka_cleanshutdown",
        ):
            (self._broker.data / checkpoint).unlink(missing_ok=True)
        self._broker.start()
        self._wait_for_leader(topic)

    def _wait_for_leader(self, topic: str) -> None:
        deadline = time.monotonic() + _SETTLE_SECONDS
        while time.monotonic() < deadline:
            partitions = self._admin.list_topics(topic, timeout=5).topics[topic].partitions
            if partitions and all(one.error is None for one in partitions.values()):
                return
            time.sleep(0.02)
        raise AssertionError(f"not within {_SETTLE_SECONDS:g} s: topic {topic} has leaders again")


def _cut(directory: Path) -> None:
    """Leave the first segment, empty, and nothing else of a partition but its metadata."""
    for file in directory.iterdir():
        if (
            file.suffix in (".index", ".timeindex", ".snapshot", ".txnindex")
            or file.suffix == ".log"
        ):
            file.unlink()
        elif file.name == "leader-epoch-checkpoint":
            file.write_text("0\n0\n")
    (directory / f"{0:020d}.log").write_bytes(b"")


@contextmanager
def open_broker(kind: str) -> Iterator[EmbeddedHandle | KafkaHandle]:
    """A broker of a kind, "embedded" or "kafka", with nothing in it."""
    if kind == "embedded":
        handle = EmbeddedHandle()
        try:
            yield handle
        finally:
            handle.close()
    else:
        with KafkaBroker() as broker:
            yield KafkaHandle(broker)
