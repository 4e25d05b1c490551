"""Keys, the records with them, and the tokens of clients that have a few keys each.

A key belongs to the partition that its number gives, and its records are numbered densely. Where a
client has consecutive keys, no more of them than partitions, load.c can thus check what each gets.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Producer

from bench.kit.record import PARTITIONS, head
from bench.kit.service import PATIENCE_SECONDS, TOPIC
from bench.kit.writer import paced
from energyws.testing import token

POINTER: Final = "/k"
# Nothing more comes after a silence of this length.
SILENT_SECONDS: Final = 10.0
_TOKEN_SECONDS: Final = 86_400
# As long as the number of a meter in Sweden.
_DIGITS: Final = 18
# Of the fields around the padding.
_AROUND: Final = len(',"k":"","pad":""}') + _DIGITS


def name(key: int) -> str:
    """The text of the key with this number."""
    return f"735{key:0{_DIGITS - 3}d}"


def stream(topic: str = TOPIC) -> dict[str, Any]:
    """The section `streams` of a service in which each client has the keys of its token."""
    return {"energy": {"topic": topic, "key": POINTER, "access": "keyed"}}


def tokens(keys: Iterable[Iterable[int]]) -> list[str]:
    """One for each client, with these keys."""
    return [
        token(f"bench-{number}", _TOKEN_SECONDS, keys=[name(key) for key in own])
        for number, own in enumerate(keys)
    ]


@dataclass
class Meters:
    """Writes records with keys; `key` gives the number of each record's, from the record's own.

    record_bytes: the size of a record's value. sent: how many were written of each key.
    """

    brokers: str
    key: Callable[[int], int]
    record_bytes: int
    topic: str = TOPIC
    sent: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._producer = Producer({"bootstrap.servers": self.brokers, "linger.ms": 0})
        self._numbers = itertools.count()

    def write(self, rate: float, seconds: float) -> int:
        """Write `rate` records a second, evenly; the number written."""
        count = 0
        for due in paced(rate, seconds):
            for _ in range(due):
                self._write(self.key(next(self._numbers)))
            self._producer.poll(0)
            count += due
        left = self._producer.flush(PATIENCE_SECONDS)
        assert left == 0, f"{left} records were not acknowledged"
        return count

    def due(self, keys: Iterable[int]) -> int:
        """How many records with these keys there are."""
        return sum(self.sent[key] for key in keys)

    def _write(self, key: int) -> None:
        partition = key % PARTITIONS
        start = head(partition, self.sent[key])
        pad = b"x" * (self.record_bytes - len(start) - _AROUND)
        value = b'%b,"k":"%b","pad":"%b"}' % (start, name(key).encode(), pad)
        while True:
            try:
                self._producer.produce(self.topic, value, partition=partition)
                break
            except BufferError:
                self._producer.poll(0.05)
        self.sent[key] += 1


def delivered(counts: Callable[[], dict[str, Any]], frames: int) -> dict[str, Any]:
    """Wait until all clients together have this many frames, or get no more; the counts."""
    most, since = -1, time.monotonic()
    while (found := counts())["frames"] < frames and time.monotonic() < since + SILENT_SECONDS:
        if found["frames"] > most:
            most, since = found["frames"], time.monotonic()
        time.sleep(0.2)
    return found


def faults(counts: dict[str, Any], frames: int) -> dict[str, int]:
    """What is wrong in the counts of clients that should have this many frames; 0 where nothing."""
    return {
        "lost": frames - counts["frames"] + counts["duplicates"],
        **{name: counts[name] for name in ("gaps", "duplicates", "closed")},
    }
