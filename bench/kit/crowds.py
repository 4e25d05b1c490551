"""More clients than one process can hold: several load generators, counted as one."""

from __future__ import annotations

import argparse
import math
import resource
import time
from collections.abc import Sequence
from typing import Any, Final, Self

import psutil

from bench.kit.brokers import KINDS
from bench.kit.load import CLIENTS_PER_ADDRESS, Load
from bench.kit.results import arguments
from bench.kit.service import MeasuredService
from energyws.control.host.facts import usable_cores

# Descriptors that a generator or a worker needs besides those of its clients.
OTHER_DESCRIPTORS: Final = 500
# The kernel distributes connections by a hash: the fullest worker has this multiple of the mean.
UNEVENNESS: Final = 1.2
SETTLE_SECONDS: Final = 10.0
CLIENTS_PER_GENERATOR: Final = 15_000
_SUMS: Final = (
    *("clients", "frames", "others", "gaps", "duplicates", "foreign", "checked", "closed"),
    "failed",
    *("away", "returned"),
)


def descriptor_limit() -> int:
    """The number of files that a process may have open: the hard limit."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def generators(clients: int, limit: int) -> list[int]:
    """The number of clients of each generator; as few generators as the descriptors allow."""
    most = min(CLIENTS_PER_GENERATOR, limit - OTHER_DESCRIPTORS)
    count = math.ceil(clients / most)
    return [clients // count + (number < clients % count) for number in range(count)]


def workers_needed(clients: int, limit: int) -> int:
    """The fewest workers with enough descriptors, allowing for uneven distribution."""
    return max(1, math.ceil(clients * UNEVENNESS / (limit - OTHER_DESCRIPTORS)))


def workers_for(clients: int, wanted: int | None) -> int:
    """As many workers as are wanted, or one per usable core, but no fewer than are needed."""
    return max(workers_needed(clients, descriptor_limit()), wanted or usable_cores())


def curve_arguments(doc: str | None, points: Sequence[int]) -> argparse.ArgumentParser:
    """The command line of a measurement by the number of clients; points: the default ones."""
    parser = arguments(doc)
    parser.add_argument("--broker", choices=KINDS, default="kafka")
    parser.add_argument(
        "--point",
        type=int,
        action="append",
        help=f"clients; default: {', '.join(map(str, points))}",
    )
    parser.add_argument(
        "--workers",
        type=int,
        help="default: one per usable core, or as many as the descriptors require",
    )
    parser.add_argument("--seconds", type=float, default=60, help="of each point")
    return parser


def merge(counts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The counts of several generators, combined."""
    return {
        **{name: sum(each[name] for each in counts) for name in _SUMS},
        "least": min(each["least"] for each in counts),
        "most": max(each["most"] for each in counts),
        "longest_away_us": max(each["longest_away_us"] for each in counts),
        "delays": [delay for each in counts for delay in each["delays"]],
    }


class Crowds:
    """tokens: one for each client; None: the same for all. options: those of each Load."""

    def __init__(
        self,
        service: MeasuredService,
        clients: int,
        tokens: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        self._loads: list[Load] = []
        try:
            # One generator after the other, since connecting is not measured.
            address = first = 0
            for share in generators(clients, descriptor_limit()):
                own = service.token if tokens is None else tokens[first : first + share]
                load = Load(service.port, share, own, address=address, **options)
                self._loads.append(load)
                first += share
                load.ready()
                address += math.ceil(share / CLIENTS_PER_ADDRESS)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        for load in self._loads:
            load.close()

    def processes(self) -> dict[str, psutil.Process]:
        """generator-0, …"""
        return {
            f"generator-{number}": psutil.Process(load.pid)
            for number, load in enumerate(self._loads)
        }

    def counts(self, *, restart: bool = False) -> dict[str, Any]:
        """The combined counts so far; restart: discard the delays afterwards."""
        return merge([load.counts(restart=restart) for load in self._loads])

    def settled(self) -> dict[str, Any]:
        """Wait up to SETTLE_SECONDS until all clients have equally many frames; the counts."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while (counts := self.counts())["least"] < counts["most"] and time.monotonic() < deadline:
            time.sleep(0.2)
        return counts

    def all_have(self, frames: int) -> dict[str, Any]:
        """Wait until every client has at least `frames` frames; the counts."""
        return merge([load.all_have(frames) for load in self._loads])
