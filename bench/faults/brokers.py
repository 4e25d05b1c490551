"""The brokers that fault classes break: the embedded one behind a proxy, and a real Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from bench.kit.record import PARTITIONS
from energyws.testing import BrokerProcess, ExternalBroker, KafkaBroker, TcpProxy, eventually

# Without these, a broker recovers by reading the logs themselves.
_CHECKPOINTS: Final = (
    "recovery-point-offset-checkpoint",
    "replication-offset-checkpoint",
    "log-start-offset-checkpoint",
    ".kafka_cleanshutdown",
)
_OF_RECORDS: Final = (".log", ".index", ".timeindex", ".snapshot", ".txnindex")


class FaultBroker(Protocol):
    """The broker operations that a World needs.

    kind: "embedded" or "kafka". bootstrap: for the service. direct: for the producer and tools,
    bypassing injected network faults where possible.
    """

    kind: str
    bootstrap: str
    direct: str

    def create_topic(self, name: str, partitions: int = PARTITIONS) -> None: ...

    def delete_topic(self, name: str) -> None: ...

    def trim(self, name: str, partition: int, low_offset: int) -> None: ...


class EmbeddedHandle:
    """The embedded broker; every connection to it goes through a proxy on a fixed port."""

    kind = "embedded"

    def __init__(self) -> None:
        self._process = BrokerProcess()
        self.proxy = TcpProxy(*self._address())
        self.bootstrap = self.direct = self.proxy.address
        self.call("advertise", host="127.0.0.1", port=self.proxy.port)

    def create_topic(self, name: str, partitions: int = PARTITIONS) -> None:
        self._process.create_topic(name, partitions)

    def delete_topic(self, name: str) -> None:
        self._process.delete_topic(name)

    def trim(self, name: str, partition: int, low_offset: int) -> None:
        self._process.trim(name, partition, low_offset)

    def call(self, op: str, **arguments: Any) -> None:
        self._process.call(op, **arguments)

    def down(self) -> None:
        """Reset every connection and accept no new ones."""
        self.proxy.cut()

    def up(self) -> None:
        """Undo `down`."""
        self.proxy.restore()

    def empty(self, topic: str) -> None:
        """Replace the broker, at the same address, with one that has the topic but no records."""
        self.proxy.cut()
        self._process.close()
        self._process = BrokerProcess({topic: PARTITIONS})
        self.proxy.retarget(*self._address())
        self.call("advertise", host="127.0.0.1", port=self.proxy.port)
        self.proxy.restore()

    def close(self) -> None:
        self.proxy.close()
        self._process.close()

    def _address(self) -> tuple[str, int]:
        host, _, port = self._process.bootstrap.partition(":")
        return host, int(port)


class KafkaHandle(ExternalBroker):
    """Apache Kafka, one node, on a fixed port."""

    kind = "kafka"

    def __init__(self, broker: KafkaBroker) -> None:
        super().__init__(broker.bootstrap)
        self.direct = broker.bootstrap
        self._broker = broker

    def down(self) -> None:
        """SIGKILL."""
        self._broker.kill()

    def up(self) -> None:
        """Start it with its existing data."""
        self._broker.start()

    def restart(self) -> None:
        """SIGTERM, then start."""
        self._broker.stop()
        self._broker.start()

    def empty(self, topic: str) -> None:
        """Kill it, remove a topic's records, and start it: the topic keeps its id."""
        self._broker.kill()
        for partition in range(PARTITIONS):
            _empty(self._broker.data / f"{topic}-{partition}")
        for checkpoint in _CHECKPOINTS:
            (self._broker.data / checkpoint).unlink(missing_ok=True)
        self._broker.start()

        def has_leaders() -> bool:
            found = self._admin.list_topics(topic, timeout=5).topics[topic].partitions
            return bool(found) and all(one.error is None for one in found.values())

        eventually(has_leaders, f"topic {topic} has leaders again")


def _empty(directory: Path) -> None:
    """Reduce a partition to its metadata and an empty first segment."""
    for file in directory.iterdir():
        if file.suffix in _OF_RECORDS:
            file.unlink()
        elif file.name == "leader-epoch-checkpoint":
            file.write_text("0\n0\n")
    (directory / f"{0:020d}.log").write_bytes(b"")


@contextmanager
def open_broker(kind: str) -> Iterator[EmbeddedHandle | KafkaHandle]:
    """An empty broker; kind: "embedded" or "kafka"."""
    if kind == "embedded":
        handle = EmbeddedHandle()
        try:
            yield handle
        finally:
            handle.close()
    else:
        with KafkaBroker() as broker:
            yield KafkaHandle(broker)
