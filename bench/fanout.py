"""The cost of one delivery, compared with C loops that only send, in the same run.

    python -m bench.fanout                     2,000 clients, plain and TLS, 440 and 1,138 B
    python -m bench.fanout --clients 2000 --clients 15000 --rounds 4 --out fanout.json

A load is a number of deliveries a second: with 2,000 clients, 40,000 are 20 records a second.
Rounds alternate between the service and the C loop, each with its own clients, so that drift of the
machine's speed favours neither. CPU times are those of all threads of a process. If a load is more
than the loop can send one by one, only the service is measured. Exits with status 1 if a client
lost a record or got one twice.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil

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


@contextlib.contextmanager
def both(workers: int, clients: int, tls: bool) -> Iterator[tuple[MeasuredService, Load, Limit]]:
    """The service and the C loop, each with its own clients."""
    with (
        MeasuredService(workers, tls=tls) as service,
        service.load(clients) as load,
        contextlib.closing(Limit(clients, tls)) as limit,
    ):
        yield service, load, limit


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
    service: MeasuredService,
    load: Load,
    limit: Limit,
    writer: Writer,
    size: int,
    rate: float,
    options: argparse.Namespace,
) -> dict[str, float]:
    """Alternate between both; medians over the rounds, and the extremes of the ratios."""
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
    result = medians(rows, 3)
    result["deliveries_per_core_second"] = round(1e6 / result["worker_us"])
    if "ratio" in result:
        result |= spread("ratio", [row["ratio"] for row in rows])
    return result


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row per kind of connection, number of clients, size and load."""
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
    parser = arguments(__doc__, workers=1, rounds=3, seconds=5.0)
    parser.add_argument("--clients", type=int, action="append", help="default: 2000")
    parser.add_argument("--size", type=int, action="append", help="default: 440 and 1138 bytes")
    parser.add_argument(
        "--load", type=float, action="append", help="deliveries a second; default: 40000, 2000000"
    )
    parser.add_argument("--only", choices=("plain", "tls"))
    options = parser.parse_args()
    options.clients = options.clients or [2000]
    options.size = options.size or [440, REAL_BYTES]
    options.load = options.load or [40_000, 2_000_000]
    options.tls = {"plain": [False], "tls": [True], None: [False, True]}[options.only]
    save(options.out, {"fanout": collected(measure(options))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
