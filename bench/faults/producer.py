"""Writes numbered records at a steady rate from a thread, and remembers the offset of each."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any, Final, Self

from confluent_kafka import KafkaError, Message
from confluent_kafka import Producer as KafkaProducer

from bench.faults.keys import BEACON, meter
from bench.faults.log import Log
from bench.faults.record import build
from bench.faults.verdict import Facts
from bench.kit.record import PARTITIONS
from energyws.testing import eventually

_TICK_SECONDS: Final = 0.005
_CLOSE_SECONDS: Final = 10.0


class Producer:
    """Writes to the partitions in turn; idempotent, so that no record is in a log twice.

    queued: the next number of each partition. log: the number of logs that preceded this one.
    """

    def __init__(self, brokers: str, topic: str, *, rate: float, record_bytes: int) -> None:
        self.rate = rate
        self.queued = [0] * PARTITIONS
        self.log = 0
        self._brokers = brokers
        self._topic = topic
        self._record_bytes = record_bytes
        self._turn = 0
        # For each number: its log and its offset in it; None until the broker acknowledges it.
        self._places: list[list[tuple[int, int] | None]] = [[] for _ in range(PARTITIONS)]
        self._keys: list[list[str]] = [[] for _ in range(PARTITIONS)]
        self._unwritten: list[set[int]] = [set() for _ in range(PARTITIONS)]
        self._answered = 0
        self._lock = threading.RLock()
        self._flowing = threading.Event()
        self._ending = threading.Event()
        self._producer = self._connect()
        self._thread = threading.Thread(target=self._run, name="producer")

    def __enter__(self) -> Self:
        self._flowing.set()
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self._thread.join()
        self._producer.flush(_CLOSE_SECONDS)

    @property
    def written(self) -> int:
        """The number of records that are in the log or failed permanently."""
        return self._answered

    def pause(self) -> None:
        """Stop writing at the steady rate; `flush` waits for records already written."""
        with self._lock:
            self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def burst(self, count: int) -> None:
        """Write `count` records immediately, in addition to the steady rate."""
        with self._lock:
            for _ in range(count):
                self._write()

    def raw(self, value: bytes | None, partition: int, **more: Any) -> None:
        """Write an unnumbered value; `more` is passed to produce() (key, headers)."""
        self._producer.produce(self._topic, value, partition=partition, **more)

    def flush(self, seconds: float = 60.0) -> list[int]:
        """Wait for every acknowledgement, also of a last record in each partition for every client.

        Returns the number after each of these.
        """
        targets = self._beacons()
        eventually(
            lambda: self._answered >= sum(self.queued),
            "the broker has acknowledged every record",
            seconds,
            interval=_TICK_SECONDS,
        )
        return targets

    def newer(self, seconds: float) -> list[int]:
        """Write one more record to each partition, for every client, and wait for the log.

        Returns the number after each: a client that has all records before these is up to date.
        """
        targets = self._beacons()
        eventually(
            lambda: all(self._past(p) >= target for p, target in enumerate(targets)),
            "a new record in every partition",
            seconds,
            interval=_TICK_SECONDS,
        )
        return targets

    def new_log(self) -> None:
        """From here on, offsets belong to a new log; reconnects, to forget the old one."""
        with self._lock:
            self._producer.purge()
            self._producer.flush(_CLOSE_SECONDS)
            self.log += 1
            self._producer = self._connect()

    def numbers_below(self, partition: int, offset: int, log: int | None = None) -> set[int]:
        """The numbers of records below an offset, in the current log or the given one."""
        wanted = self.log if log is None else log
        return {
            number
            for number, place in enumerate(self._places[partition])
            if place is not None and place[0] == wanted and place[1] < offset
        }

    def offsets_after(self, targets: list[int]) -> list[int]:
        """By partition: the offset after the record before this number, which is in the log."""
        places = [self._places[p][target - 1] for p, target in enumerate(targets)]
        return [sys.maxsize if place is None else place[1] + 1 for place in places]

    def offset_after(self, partition: int) -> int:
        """The offset after the last acknowledged record of the current log."""
        known = [place[1] for place in self._places[partition] if place and place[0] == self.log]
        return known[-1] + 1 if known else 0

    def facts(self) -> Facts:
        offsets = [[None if place is None else place[1] for place in one] for one in self._places]
        return Facts(offsets, self._unwritten)

    def written_log(self, epochs: dict[str, int], seconds: float = 60.0) -> Log:
        """Where everything is that was written until now; waits for its acknowledgements."""
        queued = list(self.queued)
        eventually(
            lambda: all(
                place is not None or number in self._unwritten[partition]
                for partition, past in enumerate(queued)
                for number, place in enumerate(self._places[partition][:past])
            ),
            "the broker has acknowledged what clients have",
            seconds,
            interval=_TICK_SECONDS,
        )
        places = [one[:past] for one, past in zip(self._places, queued, strict=True)]
        return Log(places, self._keys, epochs)

    def _run(self) -> None:
        due = time.monotonic()
        while not self._ending.is_set():
            self._producer.poll(_TICK_SECONDS)
            now = time.monotonic()
            with self._lock:
                if not self._flowing.is_set():
                    due = now
                # If this machine was paused, write all records that are due.
                while due <= now and self._flowing.is_set():
                    self._write()
                    due += 1 / self.rate

    def _beacons(self) -> list[int]:
        """Write a record for every client to each partition; the numbers after these."""
        with self._lock:
            for _ in range(PARTITIONS):
                self._write(BEACON)
            return list(self.queued)

    def _write(self, key: str | None = None) -> None:
        partition = self._turn
        number = self.queued[partition]
        log = self.log
        key = meter(partition, number) if key is None else key

        def answered(error: KafkaError | None, message: Message) -> None:
            offset = message.offset()
            if error is None and offset is not None:
                self._places[partition][number] = (log, offset)
            else:
                self._unwritten[partition].add(number)
            self._answered += 1

        self._producer.produce(
            self._topic,
            build(partition, number, self._record_bytes, key),
            partition=partition,
            on_delivery=answered,
        )
        self._places[partition].append(None)
        self._keys[partition].append(key)
        self.queued[partition] = number + 1
        self._turn = (partition + 1) % PARTITIONS

    def _past(self, partition: int) -> int:
        """The number after the last record that is in the log."""
        places = self._places[partition]
        for number in range(len(places) - 1, -1, -1):
            if places[number] is not None:
                return number + 1
        return 0

    def _connect(self) -> KafkaProducer:
        return KafkaProducer(
            {
                "bootstrap.servers": self._brokers,
                "linger.ms": 0,
                "enable.idempotence": True,
                "reconnect.backoff.max.ms": 200,
                "log_level": 2,
                "log.connection.close": False,
            }
        )
