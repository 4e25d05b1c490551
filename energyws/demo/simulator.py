"""Simulated smart meters that write to a topic: `python -m energyws.demo.simulator --help`.

Each meter writes one record per interval, without a key and snappy-compressed, to all partitions
in turn, as the real bridge does. While the broker is unreachable librdkafka keeps the records, for
up to `message.timeout.ms` (5 minutes).
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Final, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from energyws.demo.meter import Meter, household
from energyws.errors import ExitCode
from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog, flush_suppressed
from energyws.logs.writer import configure
from energyws.settings import Logging
from energyws.testing.parent import end_with_parent

# Seconds.
_METADATA_TIMEOUT: Final = 1.0
_METADATA_INTERVAL: Final = 10.0
_MISSING_INTERVAL: Final = 0.5
_FLUSH_TIMEOUT: Final = 2.0
_SERVE_INTERVAL: Final = 0.5
_LOG_INTERVAL: Final = 10.0
# A reading is late by up to this share of the interval, as real ones are.
_JITTER: Final = 0.05

_log = Log("simulator")


class Output:
    """Writes to a topic that may not exist yet, on a broker that may be unreachable."""

    def __init__(self, brokers: str, topic: str) -> None:
        self._topic = topic
        self._partitions = 0
        self._look_at = 0.0
        self._limited = RateLimitedLog(_log, _LOG_INTERVAL)
        self._producer = Producer(
            {
                "bootstrap.servers": brokers,
                "compression.type": "snappy",
                "linger.ms": 0,
                "allow.auto.create.topics": False,
                "reconnect.backoff.max.ms": 1000,
                # Errors reach _on_error; librdkafka's own log would repeat them 20 times a second.
                "log_level": 2,
                "error_cb": self._on_error,
            }
        )

    def is_ready(self) -> bool:
        """Whether the topic is known; looks for it, and for new partitions, when due."""
        now = time.monotonic()
        if now >= self._look_at:
            found = self._count_partitions()
            if found and found != self._partitions:
                self._partitions = found
                _log.info("writing readings", topic=self._topic, partitions=found)
            self._look_at = now + (_METADATA_INTERVAL if self._partitions else _MISSING_INTERVAL)
        return self._partitions > 0

    def write(self, value: bytes | None, turn: int) -> None:
        """Send one record to partition `turn` modulo their number."""
        try:
            self._producer.produce(
                self._topic,
                value,
                partition=turn % self._partitions,
                on_delivery=self._on_delivery,
            )
        except (BufferError, KafkaException) as error:
            self._limited.warning("reading not sent", topic=self._topic, reason=error)

    def serve(self) -> None:
        """Run librdkafka's callbacks, and log what was held back."""
        self._producer.poll(0)
        flush_suppressed()

    def close(self) -> None:
        """Wait up to 2 s until all records are sent."""
        self._producer.flush(_FLUSH_TIMEOUT)

    def _count_partitions(self) -> int:
        try:
            metadata = self._producer.list_topics(self._topic, timeout=_METADATA_TIMEOUT)
        except KafkaException as error:
            self._on_error(error.args[0])
            return 0
        topic = metadata.topics[self._topic]
        if topic.error is not None:
            self._limited.warning("topic not available", topic=self._topic, reason=topic.error)
            return 0
        return len(topic.partitions)

    def _on_error(self, error: KafkaError) -> None:
        self._limited.warning("Kafka not reachable", topic=self._topic, reason=error)

    def _on_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self._limited.warning("reading not sent", topic=self._topic, reason=error)


def simulate(
    output: Output,
    meters: Sequence[Meter],
    *,
    interval: float,
    poison: float,
    chance: random.Random,
    stop: threading.Event,
) -> None:
    """Write every meter's readings until `stop` is set.

    interval: in seconds. poison: the probability that a reading is followed by a bad record.
    """
    start = time.monotonic()
    # Per meter: when its next reading is written, its index, when it is due, the number written.
    queue = []
    for index in range(len(meters)):
        nominal = start + interval * index / len(meters)
        queue.append((nominal, index, nominal, 0))
    while not stop.is_set():
        output.serve()
        if not output.is_ready():
            stop.wait(_MISSING_INTERVAL)
            continue
        due, index, nominal, sent = queue[0]
        now = time.monotonic()
        if now < due:
            stop.wait(min(due - now, _SERVE_INTERVAL))
            continue
        output.write(meters[index].record(time.time_ns()), index + sent)
        if chance.random() < poison:
            output.write(meters[index].poison(), index + sent)
        # After a pause of more than an interval: no burst to catch up.
        nominal = (nominal if now - due < interval else now) + interval
        due = nominal + interval * chance.uniform(0, _JITTER)
        heapq.heapreplace(queue, (due, index, nominal, sent + 1))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m energyws.demo.simulator",
        description="Simulated smart meters that write their readings to a Kafka topic.",
    )
    add = parser.add_argument
    add("--brokers", required=True, metavar="HOST:PORT[,...]", help="bootstrap servers")
    add("--topic", required=True, help="topic to write to; it must exist")
    add("--meters", type=_number(int, 1), default=3, help="number of meters (default: 3)")
    add(
        "--interval",
        type=_number(float, 0.001),
        default=1.0,
        metavar="SECONDS",
        help="time between two readings of a meter (default: 1.0)",
    )
    add("--seed", type=int, default=1, help="seed of the random values (default: 1)")
    add(
        "--poison",
        type=_number(float, 0, 1),
        default=0.0,
        metavar="RATE",
        help="share of readings followed by a bad record, 0 to 1 (default: 0)",
    )
    options = parser.parse_args(arguments)

    stop = threading.Event()

    def shut_down(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, shut_down)
    signal.signal(signal.SIGINT, shut_down)
    end_with_parent()
    configure(Logging(), "simulator")
    output = Output(options.brokers, options.topic)
    simulate(
        output,
        household(options.meters, options.seed),
        interval=options.interval,
        poison=options.poison,
        chance=random.Random(options.seed),
        stop=stop,
    )
    output.close()
    return ExitCode.OK


_Number = TypeVar("_Number", int, float)


def _number(
    kind: Callable[[str], _Number], low: float, high: float = math.inf
) -> Callable[[str], _Number]:
    def parse(text: str) -> _Number:
        value = kind(text)
        if not low <= value <= high:
            bounds = f"{low:g} or more" if high == math.inf else f"from {low:g} to {high:g}"
            raise argparse.ArgumentTypeError(f"{text} is out of range: expected {bounds}")
        return value

    # argparse names the type in its own message about a text that is not a number.
    parse.__name__ = "number"
    return parse


if __name__ == "__main__":
    sys.exit(main())
