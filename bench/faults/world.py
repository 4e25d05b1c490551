"""Everything that one fault class needs, running: broker, service, producer, checking clients.

One World serves all injections of a class. Each goes through `inject`: mark, break something,
then wait until every client has everything that was written up to a moment after the fault, and
judge what they got meanwhile.
"""

from __future__ import annotations

import random
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, Self

import psutil

from bench.faults.crowd import Crowd
from bench.faults.fault import Fault, Skip
from bench.faults.judge import Verdict, judge
from bench.faults.producer import Producer
from bench.faults.service import Service, free_port
from bench.kit.record import PARTITIONS
from energyws.testing import config as service_config
from energyws.testing import token
from energyws.testing.issuer import Issuer

PATIENCE_SECONDS: Final = 30.0
# A fault comes at a random moment of so many seconds under traffic.
LEAD_SECONDS: Final = 0.3
# What comes twice comes soon; a duplicate of the very last record must not be missed.
LATE_SECONDS: Final = 0.3
# Connections that are closed are counted down a moment before, or after, their descriptors go.
LEAK_SECONDS: Final = 5.0
# The Kafka clients that read the log back are made when they are first needed.
_SPARE_DESCRIPTORS: Final = 16
_TOKEN_SECONDS: Final = 86_400
# What a burst of events may leave in the log, however short the injection was.
LOG_BYTES_ONCE: Final = 40_000
# What the harness asks of the service, against its defaults: crashes come more often here than
# in years of operation, and must not end it, nor make it wait longer from time to time.
CONFIG: Final[Mapping[str, Mapping[str, Any]]] = {
    "server": {"workers": 2, "max_connections": 100_000},
    "supervision": {
        "crash_loop_count": 1_000_000,
        "backoff_max_seconds": 0.5,
        "hang_seconds": 2.0,
    },
}


class Broker(Protocol):
    """What a World needs of a broker; bench.faults.brokers has the real ones.

    kind: "embedded" or "kafka". bootstrap: what the service is told. direct: what the producer
    and tools use, which a fault of the network does not touch where that can be had.
    """

    kind: str
    bootstrap: str
    direct: str

    def create_topic(self, name: str, partitions: int = PARTITIONS) -> None:
        """Make a topic; returns when it can be used."""

    def delete_topic(self, name: str) -> None:
        """Delete a topic; returns when it is gone."""

    def trim(self, name: str, partition: int, low: int) -> None:
        """Remove the records of a partition below offset `low`, as retention does."""


@dataclass(slots=True)
class Outcome:
    """What came of one injection. Times in seconds, from the beginning of the injection.

    silence: the longest time that any client got nothing, less the normal interval of records.
    all_live: until every client had a record that was written after the injection was over.
    told: Gaps that clients were told of. problems: why it did not pass; empty: it did.
    """

    fault: str
    broker: str
    repetition: int
    clients: int
    frames: int = 0
    gaps: int = 0
    duplicates: int = 0
    reorderings: int = 0
    corrupt: int = 0
    told: int = 0
    silence: float = 0.0
    all_live: float = 0.0
    log_bytes: int = 0
    reconnects: int = 0
    notes: dict[str, float] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class World:
    """Use as a context manager; `number` makes its topic's name unique on the broker.

    Attributes for injections: broker, topic, service, producer, crowd, fault, workers, issuer.
    """

    def __init__(
        self, fault: Fault, broker: Broker, *, clients: int, rate: float, name: str
    ) -> None:
        self.fault = fault
        self.broker = broker
        self.topic = name
        self.started_at = 0.0
        self._clients = fault.clients or clients
        self._rate = fault.rate or rate
        self._stack = ExitStack()
        self._problems: list[str] = []
        self._notes: dict[str, float] = {}
        # Per partition: the numbers that the broker has no longer, and said so.
        self._removed: list[set[int]] = [set() for _ in range(PARTITIONS)]

    def __enter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def _open(self) -> None:
        directory = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix="energyws-faults-"))
        )
        self.directory = directory
        self.broker.create_topic(self.topic, PARTITIONS)
        self.issuer = (
            self._stack.enter_context(Issuer("faults", "ES256")) if self.fault.issuer else None
        )
        self.service = self._stack.enter_context(
            Service(directory, self._config(), self._environment())
        )
        self.service.start().ready()
        self.crowd = self._stack.enter_context(
            Crowd(self.service.url, self._clients, self._bearer())
        )
        self.crowd.ready()
        self.producer = self._stack.enter_context(
            Producer(
                self.broker.direct,
                self.topic,
                rate=self._rate,
                record_bytes=self.fault.record_bytes,
            )
        )
        self.clients_live()
        self._descriptors = self._idle_descriptors()

    def _bearer(self) -> str:
        if self.issuer is not None:
            return self.issuer.token(sub="crowd", exp=int(time.time()) + _TOKEN_SECONDS)
        return token("crowd", _TOKEN_SECONDS)

    def _environment(self) -> dict[str, str]:
        given = self.fault.environment.items()
        return {name: value.format(directory=self.directory) for name, value in given}

    def _config(self) -> dict[str, Any]:
        sections: dict[str, dict[str, Any]] = {}
        ports: dict[str, dict[str, Any]] = {
            "server": {"port": free_port()},
            "admin": {"port": free_port()},
        }
        if self.issuer is not None:
            ports["auth"] = {"jwks_url": self.issuer.url, "issuer": self.issuer.name}
        for part in (CONFIG, ports, self.fault.config):
            for section, values in part.items():
                sections[section] = {**sections.get(section, {}), **values}
        return service_config(self.broker.bootstrap, self.topic, **sections)

    # For injections.

    @property
    def workers(self) -> list[str]:
        """The names of the service's workers."""
        return [f"worker-{slot}" for slot in range(self.service.worker_count)]

    def wait(
        self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS
    ) -> Any:
        """The first true value of `condition`; AssertionError when there is none in time."""
        deadline = time.monotonic() + seconds
        while True:
            if value := condition():
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {seconds:g} s: {what}")
            time.sleep(0.01)

    def expect(self, holds: bool, what: str) -> None:
        """Note a failure of this injection, and go on, unless `holds`."""
        if not holds:
            self._problems.append(what)

    def note(self, name: str, value: float) -> None:
        """A figure of this injection, for the results."""
        self._notes[name] = max(value, self._notes.get(name, value))

    def more(self, records: int, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until so many further records are in the log."""
        target = self.producer.written + records
        self.wait(lambda: self.producer.written >= target, f"{records} more records", seconds)

    def kill(self, name: str) -> None:
        """SIGKILL a child; returns when its end has been seen, so that `ready` means its successor.

        Also good for a child that is about to end by itself.
        """
        child = self.service.child(name)
        child.kill()
        self.gone(child)

    def gone(self, child: psutil.Process, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until a child has ended, and its parent knows."""
        self.wait(lambda: not child.is_running(), f"process {child.pid} has ended", seconds)

    def pause(self, rng: random.Random, most_seconds: float) -> float:
        """Let a random time pass; how long it was."""
        seconds = rng.uniform(0, most_seconds)
        time.sleep(seconds)
        return seconds

    def clients_live(self, seconds: float | None = None) -> float:
        """Wait until every client has a record that is written after this call; how long it took.

        Raises AssertionError, naming a client, when that takes longer than the class's bound.
        """
        began = time.monotonic()
        bound = seconds or self.fault.bound_seconds
        targets = self.producer.newer(bound)
        left = max(1.0, began + bound - time.monotonic())
        return self.crowd.reach(targets, left) - began

    def removed(self, partition: int, low: int) -> None:
        """The broker has removed everything below this *offset*: these numbers may be missing.

        They may not, if a client has them already; and where they are, a Gap must stand.
        """
        self._removed[partition] |= self.producer.numbers_below(partition, low)

    def removed_all(self) -> None:
        """The log that was written so far is gone as a whole (deleted, recreated, truncated).

        Pause the producer before: a number that is on its way belongs to the one or the other.
        """
        for partition in range(PARTITIONS):
            self._removed[partition] |= set(range(self.producer.queued[partition]))
        self.producer.new_log()

    def kept(self, partition: int, past: int) -> None:
        """After removed_all, of this partition the records below offset `past` are still there."""
        log = self.producer.log - 1
        self._removed[partition] -= self.producer.numbers_below(partition, past, log)

    # For the runner.

    def inject(self, rng: random.Random, repetition: int) -> Outcome:
        """Inject the fault once, and judge what came of it. Raises Skip."""
        outcome = Outcome(self.fault.name, self.broker.kind, repetition, self._clients)
        self._problems, self._notes = outcome.problems, outcome.notes
        before = self.crowd.mark()
        logged, began_log = self.service.log_bytes, time.monotonic()
        self.pause(rng, LEAD_SECONDS)
        began = time.monotonic()
        try:
            self.fault.inject(self, rng)
            outcome.all_live = time.monotonic() - began + self.clients_live()
        except Skip:
            raise
        except Exception as error:
            # Whatever an injection stumbles over is the service's doing, until shown otherwise.
            outcome.problems.append(_described(error))
        seen = self.crowd.report()
        outcome.frames = seen["frames"] - before["frames"]
        outcome.reconnects = seen["connects"] - before["connects"]
        outcome.silence = max(0.0, max(seen["silences"]) - 1 / self._rate)
        outcome.log_bytes = self.service.log_bytes - logged
        self._judge(outcome, seen)
        allowed = LOG_BYTES_ONCE + self.fault.log_bytes_per_second * (time.monotonic() - began_log)
        self.expect(outcome.log_bytes <= allowed, f"{outcome.log_bytes} bytes of log")
        for line in self.service.take_tracebacks():
            self.expect(self.fault.tracebacks, f"traceback: {line[:300]}")
        return outcome

    def settle(self) -> Outcome:
        """Stop the flow and wait until everybody has everything; what was wrong at the end."""
        outcome = Outcome(self.fault.name, self.broker.kind, -1, self._clients)
        before = self.crowd.mark()
        try:
            # Whatever was lost before, behind the last records nothing is missing.
            self.producer.newer(self.fault.bound_seconds)
            self.producer.pause()
            targets = self.producer.flush()
            self.crowd.reach(targets, self.fault.bound_seconds)
            time.sleep(LATE_SECONDS)
            self._expect_no_leak()
        except Exception as error:
            outcome.problems.append(_described(error))
        seen = self.crowd.report()
        outcome.frames = seen["frames"] - before["frames"]
        self._judge(outcome, seen)
        self.producer.resume()
        return outcome

    def _idle_descriptors(self) -> dict[str, int]:
        """What each process has open besides its clients' connections."""
        return {
            name: count - self.service.board(name).get("connections", 0)
            for name, count in self.service.descriptors().items()
        }

    def _expect_no_leak(self) -> None:
        def leaks() -> dict[str, str]:
            return {
                name: f"{self._descriptors[name]} to {count}"
                for name, count in self._idle_descriptors().items()
                if count > self._descriptors.get(name, count) + _SPARE_DESCRIPTORS
            }

        self.wait(lambda: not leaks(), f"descriptors are closed again: {leaks()}", LEAK_SECONDS)

    def _judge(self, outcome: Outcome, seen: dict[str, Any]) -> None:
        verdict: Verdict = judge(seen, self.producer.facts(), self._removed, self.fault.losses)
        outcome.gaps = verdict.gaps
        outcome.duplicates = verdict.duplicates
        outcome.reorderings = verdict.reorderings
        outcome.corrupt = verdict.corrupt
        outcome.told = verdict.told
        outcome.problems += verdict.problems


def _described(error: Exception) -> str:
    if isinstance(error, AssertionError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"


__all__ = ["Broker", "Outcome", "Skip", "World"]
