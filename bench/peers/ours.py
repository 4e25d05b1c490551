"""energyws itself, with its clients and its producer, and the cost of one run."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Final

from bench.fanout import deliver
from bench.kit.record import padded
from bench.kit.service import MeasuredService
from bench.kit.writer import Build, Writer

_SHOWN: Final = ("worker_us", "consumer_us", "delay_p50_ms", "delay_p99_ms", "delay_p100_ms")


class Energyws:
    """The real service with one worker, its clients and its producer."""

    def __init__(self, clients: int, tls: bool, setting: str) -> None:
        self._stack = contextlib.ExitStack()
        made = MeasuredService(1, tls=tls, server={"io_uring": setting})
        service = self._stack.enter_context(made)
        worker = service.processes()["worker-0"]
        before = worker.memory_info().rss
        self._load = self._stack.enter_context(service.load(clients))
        self.rss_connected = (worker.memory_info().rss - before) / clients / 1000
        self._service, self._worker, self._before = service, worker, before
        self._clients = clients
        self._writer = Writer(service.brokers, partial(padded, frame_bytes=440))

    def rss_used(self) -> float:
        return (self._worker.memory_info().rss - self._before) / self._clients / 1000

    def io_uring(self) -> str:
        """What its worker says about it: see bench.kit.io_uring."""
        return self._service.io_uring()

    def run(self, build: Build, rate: float, seconds: float) -> dict[str, float]:
        """Costs in microseconds per delivery, and delays; SystemExit if anything was lost."""
        self._writer.build = build
        row = deliver(self._service, self._load, self._writer, rate, seconds)
        return {name: row[name] for name in _SHOWN}

    def close(self) -> None:
        self._stack.close()


class WithoutIoUring:
    """A second energyws service, in a peer's place."""

    name = "energyws (io_uring off)"

    def __init__(self, clients: int) -> None:
        self._energyws = Energyws(clients, tls=False, setting="off")
        self.rss_connected = self._energyws.rss_connected

    def rss_used(self) -> float:
        return self._energyws.rss_used()

    def run(self, build: Build, rate: float, seconds: float) -> dict[str, float]:
        """The worker's costs as a peer's; SystemExit if anything was lost."""
        row = self._energyws.run(build, rate, seconds)
        # `deliver` waits for every delivery, at any load: messages that wait are joined.
        return {**row, "us": row["worker_us"], "seconds": seconds, "lost": 0, "closed": 0}

    def close(self) -> None:
        self._energyws.close()
