"""Writes numbered records at an even rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from confluent_kafka import Producer

from bench.kit.record import PARTITIONS
from bench.kit.service import PATIENCE_SECONDS, TOPIC

Build = Callable[[int, int], bytes]


def paced(rate: float, seconds: float) -> Iterator[int]:
    """Sleep until records are due, and yield their number; `rate` records a second, evenly."""
    began = time.monotonic()
    count = int(rate * seconds)
    # At most 100 wake-ups a second; at higher rates, several records are due at each.
    step = max(1, int(rate / 100))
    for first in range(0, count, step):
        pause = began + first / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        yield min(step, count - first)


class Writer:
    """Writes the records that `build(partition, number)` makes; `build` may be replaced."""

    def __init__(
        self, brokers: str, build: Build, *, topic: str = TOPIC, partitions: int = PARTITIONS
    ) -> None:
        self._producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0})
        self.build = build
        self._topic = topic
        self._partitions = partitions
        self.sent = 0

    def write(self, rate: float, seconds: float) -> int:
        """Write `rate` records a second, evenly, or none at 0; the number written."""
        if not rate:
            time.sleep(seconds)
            return 0
        count = 0
        for due in paced(rate, seconds):
            for _ in range(due):
                number, partition = divmod(self.sent, self._partitions)
                record = self.build(partition, number)
                self._producer.produce(self._topic, record, partition=partition)
                self.sent += 1
            self._producer.poll(0)
            count += due
        left = self._producer.flush(PATIENCE_SECONDS)
        assert left == 0, f"{left} records were not acknowledged"
        return count


class Writes(Protocol):
    """What writes `rate` records a second for that long, and returns how many."""

    def write(self, rate: float, seconds: float) -> int: ...


@contextmanager
def writing(writer: Writes, rate: float) -> Iterator[None]:
    """Write records evenly during the block; rate: at least 2."""
    ending = threading.Event()

    def run() -> None:
        while not ending.is_set():
            due = time.monotonic() + 0.5
            writer.write(rate, 0.5)
            # The last record of each half second is written before it is over.
            ending.wait(due - time.monotonic())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
