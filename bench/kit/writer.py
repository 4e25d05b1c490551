"""Writes numbered records evenly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from confluent_kafka import Producer

from bench.kit.record import PARTITIONS
from bench.kit.service import PATIENCE_SECONDS, TOPIC

Build = Callable[[int, int], bytes]


def paced(rate: float, seconds: float) -> Iterator[int]:
    """For `seconds`, how many records are due each time that some are: evenly `rate` a second."""
    began = time.monotonic()
    count = int(rate * seconds)
    # Up to a hundred instants a second; beyond that several records share one.
    step = max(1, int(rate / 100))
    for first in range(0, count, step):
        pause = began + first / rate - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        yield min(step, count - first)


class Writer:
    """Writes the records that `build(partition, number)` makes; `build` may be exchanged."""

    def __init__(
        self, brokers: str, build: Build, *, topic: str = TOPIC, partitions: int = PARTITIONS
    ) -> None:
        self._producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0})
        self.build = build
        self._topic = topic
        self._partitions = partitions
        self.sent = 0

    def write(self, rate: float, seconds: float) -> int:
        """Write evenly at `rate` records a second, or nothing at 0; how many there were."""
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


@contextmanager
def writing(writer: Writer, rate: float) -> Iterator[None]:
    """Records are written evenly during the block; rate: at least 2."""
    ending = threading.Event()

    def run() -> None:
        while not ending.is_set():
            due = time.monotonic() + 0.5
            writer.write(rate, 0.5)
            # The last record of a turn is written before the turn is over.
            ending.wait(due - time.monotonic())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()
