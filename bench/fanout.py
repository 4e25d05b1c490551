"""The cost of one delivery, with io_uring and without, compared with C loops that only send.

    python -m bench.fanout                     2,000 clients, plain and TLS, 440 and 1,138 B
    python -m bench.fanout --clients 2000 --clients 15000 --rounds 4 --out fanout.json

A load is a number of deliveries a second: with 2,000 clients, 40,000 are 20 records a second.
Rounds alternate between the services (one with `server.io_uring: auto` and, without TLS, one with
`off`) and the C loop, each with its own clients, so that drift of the machine's speed favours none.
CPU times are those of all threads of a process. If a load is more than the loop can send one by
one, only the services are measured. Exits with status 1 if a client lost a record or got one twice.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil

from bench.kit import io_uring
from bench.kit.build import program
from bench.kit.line_process import LineProcess
from bench.kit.load import Load
from bench.kit.measuring import measured, medians, percentiles, spread
from bench.kit.record import RealRecords, padded
from bench.kit.results import arguments, collected, save
from bench.kit.service import MeasuredService
from bench.kit.writer import Build, Writer
from energyws.testing.certificates import write_pair

# The load that the C loop sustains on the slowest relevant machine, in deliveries a second.
MOST_FOR_THE_LOOP: Final = 120_000
# The payload of the real record's frame, envelope included.
REAL_BYTES: Final = 1138


class Limit:
    """The C loop, with its own clients."""

    def __init__(self, clients: int, tls: bool) -> None:
        self._stack = contextlib.ExitStack()
        command = [str(program("limit", "ssl", "crypto")), str(clients)]
        if tls:
            directory = self._stack.enter_context(tempfile.TemporaryDirectory())
            command += write_pair(Path(directory)).values()
        self._process = LineProcess(command)
        self._load = Load(self._process.answer(), clients, None, tls=tls).ready()

    def run(self, seconds: float, rate: float, size: int) -> float:
        """CPU microseconds per send."""
        self._process.send(f"{seconds} {rate} {size}\n")
        sends, shorts, user, system = map(int, self._process.line().split())
        assert not shorts, f"{shorts} of {sends} sends were short: the clients are too slow"
        return (user + system) / sends

    def close(self) -> None:
        self._process.close()
        self._load.close()
        self._stack.close()


@dataclass(frozen=True)
class Ours:
    """The service with one setting of server.io_uring, its clients and its producer."""

    service: MeasuredService
    load: Load
    writer: Writer


@contextlib.contextmanager
def side_by_side(
    settings: Sequence[str], workers: int, clients: int, tls: bool
) -> Iterator[tuple[list[Ours], Limit]]:
    """A service for each setting, and the C loop, each with its own clients."""
    with contextlib.ExitStack() as stack:
        ours = []
        for setting in settings:
            made = MeasuredService(workers, tls=tls, server={"io_uring": setting})
            service = stack.enter_context(made)
            load = stack.enter_context(service.load(clients))
            ours.append(
                Ours(service, load, Writer(service.brokers, partial(padded, frame_bytes=440)))
            )
        yield ours, stack.enter_context(contextlib.closing(Limit(clients, tls)))


def deliver(
    service: MeasuredService, load: Load, writer: Writer, rate: float, seconds: float
) -> dict[str, Any]:
    """Write records and wait for their delivery: CPU microseconds per delivery, and delays.

    Raises SystemExit if a client lost a record or got one twice.
    """
    processes = {**service.processes(), "generator": psutil.Process(load.pid)}
    load.counts(restart=True)
    before = service.totals()
    with measured(processes) as used:
        written = writer.write(rate, seconds)
        counts = load.all_have(writer.sent)
    faults = {name: counts[name] for name in ("gaps", "duplicates", "closed")}
    if any(faults.values()) or counts["least"] != counts["most"] or counts["least"] < writer.sent:
        raise SystemExit(
            f"clients have {counts['least']} to {counts['most']} of {writer.sent} records, {faults}"
        )
    after = service.totals()
    deliveries = written * counts["clients"]
    costs = {name: usage / deliveries * 1e6 for name, usage in used.items()}
    delays = percentiles(counts["delays"], 50, 99, 100)
    spreads = percentiles(counts["spreads"], 50, 99)
    return {
        "worker_us": sum(us for name, us in costs.items() if name.startswith("worker-")),
        "consumer_us": costs["consumer"],
        "supervisor_us": costs["supervisor"],
        "generator_us": costs["generator"],
        "writes_per_delivery": (after["writes"] - before["writes"]) / deliveries,
        **{f"delay_{name}_ms": value for name, value in delays.items()},
        **{f"first_to_last_{name}_ms": value for name, value in spreads.items()},
    }


def compare(
    ours: Sequence[Ours], limit: Limit, size: int, rate: float, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Alternate between all; by service, medians over the rounds and the extremes of the ratios."""
    rows: list[list[dict[str, float]]] = [[] for _ in ours]
    clients = ours[0].load.counts()["clients"]
    for number in range(options.rounds):
        loop: dict[str, float] = {}
        if rate * clients <= MOST_FOR_THE_LOOP:
            loop["c_us"] = limit.run(options.seconds, rate, size)
        # The order alternates, so that after-effects of one service affect both equally.
        for each, found in list(zip(ours, rows, strict=True))[:: -1 if number % 2 else 1]:
            row = loop | deliver(each.service, each.load, each.writer, rate, options.seconds)
            if "c_us" in row:
                row["ratio"] = row["worker_us"] / row["c_us"]
            found.append(row)
    for each, found in zip(ours, rows, strict=True):
        result = medians(found, 3)
        result["deliveries_per_core_second"] = round(1e6 / result["worker_us"])
        if "ratio" in result:
            result |= spread("ratio", [row["ratio"] for row in found])
        # Asked at the end: a worker that gave io_uring up has not measured it.
        yield {"io_uring": each.service.io_uring(), **result}


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row per kind of connection, number of clients, size, load and service."""
    builds: dict[int, Build] = {REAL_BYTES: RealRecords().build}
    for tls in options.tls:
        for clients in options.clients:
            settings = io_uring.settings(options, tls=tls)
            with side_by_side(settings, options.workers, clients, tls) as (ours, limit):
                for size in options.size:
                    for each in ours:
                        each.writer.build = builds.get(size) or partial(padded, frame_bytes=size)
                    for deliveries in options.load:
                        rate = deliveries / clients
                        about = {
                            "tls": tls,
                            "clients": clients,
                            "bytes": size,
                            "records_per_second": round(rate, 2),
                        }
                        for row in compare(ours, limit, size, rate, options):
                            yield {**about, **row}


def main() -> int:
    parser = arguments(__doc__, workers=1, rounds=3, seconds=5.0)
    parser.add_argument("--clients", type=int, action="append", help="default: 2000")
    parser.add_argument("--size", type=int, action="append", help="default: 440 and 1138 bytes")
    parser.add_argument(
        "--load", type=float, action="append", help="deliveries a second; default: 40000, 2000000"
    )
    parser.add_argument("--only", choices=("plain", "tls"))
    io_uring.add_argument(parser)
    options = parser.parse_args()
    options.clients = options.clients or [2000]
    options.size = options.size or [440, REAL_BYTES]
    options.load = options.load or [40_000, 2_000_000]
    options.tls = {"plain": [False], "tls": [True], None: [False, True]}[options.only]
    save(options.out, {"fanout": collected(measure(options))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
