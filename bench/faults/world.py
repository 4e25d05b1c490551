"""The environment of one fault class: broker, service, producer and checking clients.

One World serves all injections of a class. Each goes through `inject`: mark, break something, wait
until every client has everything written up to a moment after the fault, and judge what the clients
received in between.
"""

from __future__ import annotations

import os
import random
import ssl
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self

import psutil

from bench.faults import keys
from bench.faults.audits import Audits
from bench.faults.brokers import FaultBroker
from bench.faults.configuration import sections
from bench.faults.crowd import Crowd
from bench.faults.fault import Fault
from bench.faults.judge import judge
from bench.faults.producer import Producer
from bench.faults.service import BreakableService
from bench.faults.verdict import Outcome
from bench.kit.record import PARTITIONS
from energyws.process.io_uring import IoUring
from energyws.testing import config as service_config
from energyws.testing import eventually, token
from energyws.testing.certificates import trusting, write_pair
from energyws.testing.issuer import Issuer

PATIENCE_SECONDS: Final = 30.0
# The fault begins at a random moment within this time.
LEAD_SECONDS: Final = 0.3
# How long to wait for a duplicate of the last record.
LATE_SECONDS: Final = 0.3
# Counters of closed connections may change a moment before or after the descriptors are released.
LEAK_SECONDS: Final = 5.0
# The consumer creates the Kafka clients that read history when it first needs them.
_SPARE_DESCRIPTORS: Final = 16
_TOKEN_SECONDS: Final = 86_400
# Allowed for a burst of events, even in a short injection.
LOG_BYTES_ONCE: Final = 40_000


class World:
    """A context manager; `name` is its topic, `sse` how many percent of the clients use SSE.

    keyed: how many percent have some keys each, by the right of their tokens; then it is a stream
    with keys, and the others have a right to all of them. tls: with TLS.
    io_uring: the service's setting; auto: workers must use it. None: the default, whatever follows.

    Injections use: broker, topic, directory, service, producer, crowd, fault, workers, issuer,
    trust (that of clients, where the service has TLS).
    """

    def __init__(
        self,
        fault: Fault,
        broker: FaultBroker,
        *,
        clients: int,
        rate: float,
        name: str,
        sse: int = 0,
        keyed: int = 0,
        tls: bool = False,
        io_uring: str | None = None,
    ) -> None:
        self.fault = fault
        self.broker = broker
        self.topic = name
        self._clients = fault.clients or clients
        self._keyed = self._clients * keyed // 100
        self._tls = tls
        self.trust: ssl.SSLContext | None = None
        self._rate = fault.rate or rate
        self._sse = sse
        self._io_uring = io_uring
        self._stack = ExitStack()
        self._problems: list[str] = []
        self._notes: dict[str, float] = {}
        # Per partition: the numbers no longer in the broker's log.
        self._removed: list[set[int]] = [set() for _ in range(PARTITIONS)]
        self._audits = Audits()

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
        self.directory = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix="energyws-faults-"))
        )
        self.broker.create_topic(self.topic, PARTITIONS)
        issuer = Issuer("faults", "ES256") if self.fault.issuer else None
        self.issuer = None if issuer is None else self._stack.enter_context(issuer)
        self.service = self._stack.enter_context(
            BreakableService(self.directory, self._config(), self._environment())
        )
        self.service.ready()
        plain, bearer = self._clients - self._keyed, self._token("crowd", ["*"])
        seats = keys.seats(self._keyed, self._token)
        self.crowd = Crowd(self.service.url, plain, bearer, self._sse, seats)
        self._stack.enter_context(self.crowd)
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

    def _token(self, subject: str, keys: list[str]) -> str:
        if self.issuer is not None:
            return self.issuer.token(sub=subject, exp=int(time.time()) + _TOKEN_SECONDS, keys=keys)
        return token(subject, _TOKEN_SECONDS, keys=keys)

    def _environment(self) -> dict[str, str]:
        given = self.fault.environment.items()
        return {name: value.format(directory=self.directory) for name, value in given}

    def _config(self) -> dict[str, Any]:
        pair = write_pair(self.directory) if self._tls else None
        if pair is not None:
            # What clients trust (OpenSSL reads this variable).
            os.environ["SSL_CERT_FILE"] = pair["cert"]
            self.trust = trusting(pair["cert"])
        issuer = self.issuer
        made = sections(
            self.fault.config,
            topic=self.topic,
            keyed=self._keyed > 0,
            io_uring=self._io_uring,
            tls=pair,
            auth={} if issuer is None else {"jwks_url": issuer.url, "issuer": issuer.name},
        )
        return service_config(self.broker.bootstrap, self.topic, **made)

    # For injections.

    @property
    def workers(self) -> list[str]:
        return [f"worker-{slot}" for slot in range(self.service.worker_count)]

    def connections(self) -> int:
        """The sum of all workers' connections."""
        boards = self.service.boards()
        return sum(boards.get(name, {}).get("connections", 0) for name in self.workers)

    def wait(
        self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS
    ) -> Any:
        """The first true value of `condition`; raises AssertionError on timeout."""
        return eventually(condition, what, seconds, interval=0.01)

    def expect(self, holds: bool, what: str) -> None:
        """Record a failure of this injection unless `holds`; does not raise."""
        if not holds:
            self._problems.append(what)

    def note(self, name: str, value: float) -> None:
        """Add a figure of this injection to the results; the maximum counts."""
        self._notes[name] = max(value, self._notes.get(name, value))

    def more(self, records: int, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until this many further records are in the log."""
        target = self.producer.written + records
        self.wait(lambda: self.producer.written >= target, f"{records} more records", seconds)

    def kill(self, name: str) -> None:
        """SIGKILL a child and wait until it has ended, so that `ready` refers to its successor.

        The child may already be ending.
        """
        child = self.service.child(name)
        child.kill()
        self.gone(child)

    def gone(self, child: psutil.Process, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until a child has ended and its parent has reaped it."""
        self.wait(lambda: not child.is_running(), f"process {child.pid} has ended", seconds)

    def pause(self, rng: random.Random, most_seconds: float) -> float:
        """Sleep for a random time; its length in seconds."""
        seconds = rng.uniform(0, most_seconds)
        time.sleep(seconds)
        return seconds

    def clients_live(self, seconds: float | None = None) -> float:
        """Wait until every client has a record written after this call; the seconds it took.

        Raises AssertionError, naming a client, if that takes longer than the class's bound.
        """
        began = time.monotonic()
        bound = seconds or self.fault.bound_seconds
        targets = self.producer.newer(bound)
        left = max(1.0, began + bound - time.monotonic())
        return self.crowd.reach(targets, left, self.producer.offsets_after(targets)) - began

    def removed(self, partition: int, low: int) -> None:
        """The broker has removed everything below this *offset*: clients may miss these numbers.

        Each client that does must have received a Gap in their place.
        """
        self._removed[partition] |= self.producer.numbers_below(partition, low)

    def removed_all(self) -> None:
        """The whole log is gone (deleted, recreated, truncated).

        Pause the producer first: a record in flight could end up in either log.
        """
        for partition in range(PARTITIONS):
            self._removed[partition] |= set(range(self.producer.queued[partition]))
        self.producer.new_log()

    def kept(self, partition: int, past: int) -> None:
        """After removed_all: this partition's records below offset `past` still exist."""
        log = self.producer.log - 1
        self._removed[partition] -= self.producer.numbers_below(partition, past, log)

    # For the runner.

    def inject(self, rng: random.Random, repetition: int) -> Outcome:
        """Inject the fault once, and judge what the clients received."""
        outcome = self._outcome(repetition)
        self._problems, self._notes = outcome.problems, outcome.notes
        self.crowd.snapshots(rng)
        before = self.crowd.mark()
        logged, began_log = self.service.log_bytes, time.monotonic()
        self.pause(rng, LEAD_SECONDS)
        began = time.monotonic()
        try:
            self.fault.inject(self, rng)
            outcome.all_live = time.monotonic() - began + self.clients_live()
            self._expect_io_uring(outcome)
        except Exception as error:
            # Any error of an injection counts as a failure of the service.
            outcome.problems.append(_described(error))
        seen = self.crowd.report()
        outcome.count(before, seen)
        outcome.reconnects = seen["connects"] - before["connects"]
        if self.fault.stays_connected:
            lost = outcome.reconnects
            self.expect(lost == 0, f"{lost} clients lost their connections")
        outcome.silence = self._longest(seen["silences"])
        outcome.sse_silence = self._longest(seen["sse_silences"])
        outcome.log_bytes = self.service.log_bytes - logged
        self._judge(outcome, seen)
        allowed = LOG_BYTES_ONCE + self.fault.log_bytes_per_second * (time.monotonic() - began_log)
        self.expect(outcome.log_bytes <= allowed, f"{outcome.log_bytes} bytes of log")
        for line in self.service.take_tracebacks():
            self.expect(self.fault.tracebacks, f"traceback: {line[:300]}")
        return outcome

    def settle(self) -> Outcome:
        """Stop the traffic, wait until every client has everything, and judge once more."""
        outcome = self._outcome(-1)
        before = self.crowd.mark()
        try:
            # A loss is noticed when a later record arrives.
            self.producer.newer(self.fault.bound_seconds)
            self.producer.pause()
            targets = self.producer.flush()
            past = self.producer.offsets_after(targets)
            self.crowd.reach(targets, self.fault.bound_seconds, past)
            time.sleep(LATE_SECONDS)
            self._expect_no_leak()
            self._expect_io_uring(outcome)
        except Exception as error:
            outcome.problems.append(_described(error))
        seen = self.crowd.report()
        outcome.count(before, seen)
        self._judge(outcome, seen, settled=True)
        self.producer.resume()
        return outcome

    def _judge(self, outcome: Outcome, seen: dict[str, Any], *, settled: bool = False) -> None:
        removed, losses = self._removed, self.fault.losses
        judge(outcome, seen, self.producer.facts(), removed, losses)
        if self._keyed:
            journals = self.crowd.journals()
            self._audits.judge(outcome, journals, self.producer, removed, losses, settled=settled)

    def _outcome(self, repetition: int) -> Outcome:
        return Outcome(
            fault=self.fault.name,
            broker=self.broker.kind,
            repetition=repetition,
            clients=self._clients,
            sse_clients=self.crowd.sse_clients,
            keyed_clients=self.crowd.keyed_clients,
        )

    def _longest(self, silences: list[float]) -> float:
        return max(0.0, max(silences, default=0.0) - 1 / self._rate)

    def _idle_descriptors(self) -> dict[str, int]:
        """The number of descriptors of each process, not counting client connections."""
        boards = self.service.boards()
        return {
            name: process.num_fds() - boards.get(name, {}).get("connections", 0)
            for name, process in self.service.processes().items()
        }

    def _expect_no_leak(self) -> None:
        def leaks() -> dict[str, str]:
            return {
                name: f"{self._descriptors[name]} to {count}"
                for name, count in self._idle_descriptors().items()
                if count > self._descriptors.get(name, count) + _SPARE_DESCRIPTORS
            }

        self.wait(lambda: not leaks(), f"descriptors are closed again: {leaks()}", LEAK_SECONDS)

    def _expect_io_uring(self, outcome: Outcome) -> None:
        if self._io_uring == "auto":
            # For a moment there may be no worker that has said anything.
            self.wait(
                lambda: self.service.io_uring() == IoUring.IN_USE.label,
                f"the workers use io_uring: they say {self.service.io_uring()}",
                LEAK_SECONDS,
            )
        outcome.io_uring = self.service.io_uring()


def _described(error: Exception) -> str:
    if isinstance(error, AssertionError):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
