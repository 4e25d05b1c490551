"""What one delivery costs a worker, against a plain C send() loop in the same run.

    python -m bench.cost --clients 2000 --rounds 4 --seconds 6

Rounds alternate between the two, so that a machine whose speed drifts misleads neither. All of a
worker's CPU time counts, whatever it was spent on, as does all of the loop's.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from bench.load import Load
from bench.record import RealRecords, padded
from bench.service import Service, Usage, Writer, report

SOURCE: Final = Path(__file__).with_name("limit.c")
# The payload of the real record's frame, envelope included.
REAL_BYTES: Final = 1138


class Limit:
    """The C loop, with clients of its own."""

    def __init__(self, clients: int, directory: str) -> None:
        program = Path(directory, "limit")
        subprocess.run(["gcc", "-O2", "-Wall", "-o", str(program), str(SOURCE)], check=True)
        self._process = subprocess.Popen(
            [str(program), str(clients)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._load = Load(int(self._line()), clients, None).ready()

    def run(self, seconds: float, rate: float, size: int) -> tuple[float, float]:
        """User and system microseconds per send."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds} {rate} {size}\n")
        self._process.stdin.flush()
        sends, shorts, user, system = map(int, self._line().split())
        assert not shorts, f"{shorts} of {sends} sends were short: the clients are too slow"
        return user / sends, system / sends

    def close(self) -> None:
        """End it and its clients."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._load.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the C loop has ended: see above"
        return line


@contextlib.contextmanager
def both(clients: int) -> Iterator[tuple[Service, Load, Limit]]:
    """A one-worker service and the C loop, each with its clients."""
    with (
        tempfile.TemporaryDirectory(prefix="energyws-bench-") as directory,
        Service(1) as service,
        contextlib.ExitStack() as stack,
    ):
        load = service.load(clients)
        stack.callback(load.close)
        limit = Limit(clients, directory)
        stack.callback(limit.close)
        yield service, load, limit


def idle(service: Service, seconds: float) -> float:
    """The worker's CPU share with all its clients connected and nothing to send."""
    worker = service.processes()["worker-0"]
    before = Usage.of(worker)
    time.sleep(seconds)
    return Usage.of(worker).since(before).total / seconds


def compare(
    service: Service,
    load: Load,
    limit: Limit,
    writer: Writer,
    size: int,
    rate: float,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Alternate between the two; microseconds per delivery of each, and their ratios."""
    worker = service.processes()["worker-0"]
    rows: list[dict[str, float]] = []
    for _ in range(options.rounds):
        c_user, c_system = limit.run(options.seconds, rate, size)
        before = Usage.of(worker)
        written = writer.write(rate, options.seconds)
        counts = load.all_have(writer.sent)
        load.counts(restart=True)
        faults = {name: counts[name] for name in ("gaps", "duplicates", "closed")}
        assert not any(faults.values()), faults
        used = Usage.of(worker).since(before)
        deliveries = written * options.clients
        rows.append(
            {
                "c_us": c_user + c_system,
                "c_user_us": c_user,
                "worker_us": used.total / deliveries * 1e6,
                "worker_user_us": used.user / deliveries * 1e6,
                "ratio": used.total / deliveries * 1e6 / (c_user + c_system),
            }
        )
    ratios = sorted(row["ratio"] for row in rows)
    result: dict[str, Any] = {
        name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]
    }
    return {**result, "ratio_min": round(ratios[0], 3), "ratio_max": round(ratios[-1], 3)}


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--rate", type=float, action="append", help="default: 20")
    parser.add_argument("--out", help="write the results here, as JSON")
    options = parser.parse_args()
    builds: dict[int, Callable[[int, int], bytes]] = {
        440: lambda p, n: padded(p, n, 440),
        REAL_BYTES: RealRecords().build,
    }
    results: dict[str, Any] = {}
    for size, build in builds.items():
        with both(options.clients) as (service, load, limit):
            results[f"{size} B, idle share of a core"] = round(idle(service, 5), 4)
            writer = Writer(service.brokers, build)
            for rate in options.rate or [20]:
                results[f"{size} B, {rate:g}/s"] = compare(
                    service, load, limit, writer, size, rate, options
                )
    for name, value in results.items():
        print(f"{name:30} {value}")
    report(options.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
