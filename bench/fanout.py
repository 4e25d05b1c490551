"""What one delivery costs, against C loops that do nothing but send, in the same run.

    python -m bench.fanout                     2,000 clients, plain and TLS, 440 and 1,138 B
    python -m bench.fanout --clients 2000 --clients 15000 --rounds 4 --out fanout.json

A load is so many deliveries a second: with 2,000 clients, 40,000 are 20 records a second. Rounds
alternate between the service and the C loop, each with clients of its own, so that a machine whose
speed drifts misleads neither. All CPU time of a process counts, of all its threads, whatever it was
spent on. Where a load is more than the loop can send one by one, only the service is measured.
Ends with status 1 if anybody lost or got twice anything.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil

from bench.build import program
from bench.load import Load
from bench.record import RealRecords, padded
from bench.service import Service, Writer, certificate, measured, percentile, report

# What the C loop manages on the slowest machine that is of interest.
MOST_FOR_THE_LOOP: Final = 120_000
# The payload of the real record's frame, envelope included.
REAL_BYTES: Final = 1138

Build = Callable[[int, int], bytes]


class Limit:
    """The C loop, with clients of its own."""

    def __init__(self, clients: int, tls: bool) -> None:
        self._stack = contextlib.ExitStack()
        command = [str(program("limit", "ssl", "crypto")), str(clients)]
        if tls:
            directory = self._stack.enter_context(tempfile.TemporaryDirectory())
            command += map(str, certificate(Path(directory)))
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._load = Load(int(self._line()), clients, None, tls=tls).ready()

    def run(self, seconds: float, rate: float, size: int) -> float:
        """CPU microseconds per send."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds} {rate} {size}\n")
        self._process.stdin.flush()
        sends, shorts, user, system = map(int, self._line().split())
        assert not shorts, f"{shorts} of {sends} sends were short: the clients are too slow"
        return (user + system) / sends

    def close(self) -> None:
        """End it and its clients."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._load.close()
        self._stack.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the C loop has ended: see above"
        return line


@contextlib.contextmanager
def both(workers: int, clients: int, tls: bool) -> Iterator[tuple[Service, Load, Limit]]:
    """The service and the C loop, each with its clients."""
    with Service(workers, tls=tls) as service, contextlib.ExitStack() as stack:
        load = service.load(clients)
        stack.callback(load.close)
        limit = Limit(clients, tls)
        stack.callback(limit.close)
        yield service, load, limit


def deliver(
    service: Service, load: Load, writer: Writer, rate: float, seconds: float
) -> dict[str, Any]:
    """Let the service deliver for a while; CPU microseconds per delivery, and the delays."""
    processes = {**service.processes(), "generator": psutil.Process(load.pid)}
    load.counts(restart=True)
    before = service.totals()
    with measured(processes) as used:
        written = writer.write(rate, seconds)
        counts = load.all_have(writer.sent)
    faults = {name: counts[name] for name in ("gaps", "duplicates", "closed")}
    if any(faults.values()) or counts["least"] != counts["most"] or counts["least"] < writer.sent:
        raise SystemExit(f"{counts['least']} to {counts['most']} of {writer.sent}, {faults}")
    after = service.totals()
    deliveries = written * counts["clients"]
    costs = {name: usage.total / deliveries * 1e6 for name, usage in used.items()}
    delays, spreads = counts["delays"], counts["spreads"]
    return {
        "worker_us": sum(us for name, us in costs.items() if name.startswith("worker-")),
        "consumer_us": costs["consumer"],
        "supervisor_us": costs["supervisor"],
        "generator_us": costs["generator"],
        "writes_per_delivery": (after["writes"] - before["writes"]) / deliveries,
        **{f"delay_p{p:g}_ms": percentile(delays, p / 100) / 1000 for p in (50, 99, 100)},
        **{f"first_to_last_p{p:g}_ms": percentile(spreads, p / 100) / 1000 for p in (50, 99)},
    }


def compare(
    service: Service,
    load: Load,
    limit: Limit,
    writer: Writer,
    size: int,
    rate: float,
    options: argparse.Namespace,
) -> dict[str, float]:
    """Alternate between the two; medians over the rounds, and how far the ratios lie apart."""
    rows: list[dict[str, float]] = []
    clients = load.counts()["clients"]
    for _ in range(options.rounds):
        row: dict[str, float] = {}
        if rate * clients <= MOST_FOR_THE_LOOP:
            row["c_us"] = limit.run(options.seconds, rate, size)
        row |= deliver(service, load, writer, rate, options.seconds)
        if "c_us" in row:
            row["ratio"] = row["worker_us"] / row["c_us"]
        rows.append(row)
    result = {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}
    result["deliveries_per_core_second"] = round(1e6 / result["worker_us"])
    if "ratio" in result:
        ratios = [row["ratio"] for row in rows]
        result |= {"ratio_min": round(min(ratios), 3), "ratio_max": round(max(ratios), 3)}
    return result


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row for each kind of connection, number of clients, size and load."""
    builds: dict[int, Build] = {REAL_BYTES: RealRecords().build}
    for tls in options.tls:
        for clients in options.clients:
            with both(options.workers, clients, tls) as (service, load, limit):
                writer = Writer(service.brokers, lambda p, n: padded(p, n, 440))
                for size in options.size:
                    writer.build = builds.get(size) or partial(padded, frame_bytes=size)
                    for deliveries in options.load:
                        rate = deliveries / clients
                        yield {
                            "tls": tls,
                            "clients": clients,
                            "bytes": size,
                            "records_per_second": round(rate, 2),
                            **compare(service, load, limit, writer, size, rate, options),
                        }


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--clients", type=int, action="append", help="default: 2000")
    parser.add_argument("--size", type=int, action="append", help="default: 440 and 1138 bytes")
    parser.add_argument(
        "--load", type=float, action="append", help="deliveries a second; default: 40000, 2000000"
    )
    parser.add_argument("--only", choices=("plain", "tls"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--out", help="write the results here, as JSON")
    options = parser.parse_args()
    options.clients = options.clients or [2000]
    options.size = options.size or [440, REAL_BYTES]
    options.load = options.load or [40_000, 2_000_000]
    options.tls = {"plain": [False], "tls": [True], None: [False, True]}[options.only]
    rows = []
    for row in measure(options):
        print(" ".join(f"{name}={value}" for name, value in row.items()), flush=True)
        rows.append(row)
    report(options.out, {"fanout": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
