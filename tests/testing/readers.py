"""Consumers that suit the embedded broker."""

from __future__ import annotations

import time
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

# Seconds to wait before a test fails.
DEADLINE: Final = 10.0


class Readers:
    """Kafka consumers that are closed together."""

    def __init__(self) -> None:
        self._open: list[Consumer] = []

    def consumer(self, bootstrap: str) -> Consumer:
        """A consumer that reports out-of-range offsets as errors."""
        consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "test",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 5,
                "reconnect.backoff.max.ms": 200,
                "log_level": 0,
            }
        )
        self._open.append(consumer)
        return consumer

    def read(self, bootstrap: str, topic: str, partitions: int, count: int) -> list[Message]:
        """The first `count` records of a topic, from the beginning of every partition."""
        consumer = self.consumer(bootstrap)
        consumer.list_topics(topic, timeout=DEADLINE)
        consumer.assign(
            [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(partitions)]
        )
        found: list[Message] = []
        deadline = time.monotonic() + DEADLINE
        while len(found) < count:
            assert time.monotonic() < deadline, f"{len(found)} of {count} records in {DEADLINE} s"
            message = consumer.poll(0.2)
            if message is not None:
                assert message.error() is None, message.error()
                found.append(message)
        return found

    def close(self) -> None:
        """Close every consumer."""
        for consumer in self._open:
            consumer.close()
