"""The broker of a measurement: embedded, or a real Kafka.

The real one is that in REDPANDA_BROKERS, or else an Apache Kafka that is started here
(energyws.testing.kafka_broker, which needs a JDK and Maven).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from energyws.testing import Broker, BrokerProcess, ExternalBroker, KafkaBroker

KINDS: Final = ("embedded", "kafka")


@contextmanager
def open_broker(kind: str) -> Iterator[Broker]:
    """A broker of one of KINDS, until the block ends."""
    if kind == "embedded":
        with BrokerProcess() as process:
            yield process
    elif bootstrap := os.environ.get("REDPANDA_BROKERS"):
        yield ExternalBroker(bootstrap)
    else:
        with KafkaBroker() as kafka:
            yield ExternalBroker(kafka.bootstrap, kafka.pid)
