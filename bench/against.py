"""The cost of a record and of a delivery, in this working tree and another one, in the same run.

    git worktree add ../before REVISION && make -C ../before check
    python -m bench.against ../before
    python -m bench.against ../before --only worker --clients 1 --load 20     a record's fixed price
    python -m bench.against ../before --only worker --io-uring off            with transports alone

Both services run side by side, each with its own broker and clients, and alternate, so that drift
of the machine's speed favours neither. `consumer`: CPU time of the consumer process per record,
without clients. `worker`: CPU time of the worker per delivery; with one client and few records it
is a record's fixed price, the idle worker's included. The ratios are this tree's cost to
the other's, round by round. Exits with status 1 if a client lost a record or got one twice.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from bench.fanout import deliver
from bench.kit.io_uring import SETTINGS
from bench.kit.load import Load
from bench.kit.measuring import cpu_seconds, spread
from bench.kit.record import RealRecords
from bench.kit.results import arguments, save
from bench.kit.service import MeasuredService
from bench.kit.writer import Writer
from energyws.testing import eventually

_INTERVAL_SECONDS: Final = 0.05


def consumer_us(service: MeasuredService, writer: Writer, rate: float, seconds: float) -> float:
    """CPU microseconds of the consumer per record."""
    consumer = service.processes()["consumer"]
    before, frames = cpu_seconds(consumer), service.boards()["consumer"]["frames"]
    written = writer.write(rate, seconds)
    eventually(
        lambda: service.boards()["consumer"]["frames"] >= frames + written,
        "the consumer has every record",
        interval=_INTERVAL_SECONDS,
    )
    return (cpu_seconds(consumer) - before) / written * 1e6


def worker_us(
    service: MeasuredService, load: Load, writer: Writer, rate: float, seconds: float
) -> float:
    return float(deliver(service, load, writer, rate, seconds)["worker_us"])


@contextlib.contextmanager
def both(options: argparse.Namespace) -> Iterator[tuple[MeasuredService, MeasuredService]]:
    """A service of this tree and one of the other, which may not know server.io_uring."""
    this = MeasuredService(1, server={"io_uring": options.io_uring})
    with this, MeasuredService(1, checkout=options.other.resolve()) as that:
        yield this, that


def consumers(options: argparse.Namespace) -> list[tuple[float, float]]:
    """CPU microseconds per record, this tree's consumer and the other's, in each round."""
    build = RealRecords().build
    with both(options) as services:
        this, that = (
            partial(
                consumer_us, service, Writer(service.brokers, build), options.rate, options.seconds
            )
            for service in services
        )
        return alternating(this, that, options.rounds)


def workers(options: argparse.Namespace) -> list[tuple[float, float]]:
    """CPU microseconds per delivery, this tree's worker and the other's, in each round."""
    build = RealRecords().build
    rate = options.load / options.clients
    with both(options) as services, contextlib.ExitStack() as stack:
        measures = []
        for service in services:
            load = stack.enter_context(service.load(options.clients))
            writer = Writer(service.brokers, build)
            measures.append(partial(worker_us, service, load, writer, rate, options.seconds))
        return alternating(measures[0], measures[1], options.rounds)


def alternating(
    this: Callable[[], float], that: Callable[[], float], rounds: int
) -> list[tuple[float, float]]:
    """Both costs in each round; the order alternates."""
    pairs = []
    for number in range(rounds):
        if number % 2:
            second, first = that(), this()
        else:
            first, second = this(), that()
        pairs.append((first, second))
    return pairs


def main() -> int:
    parser = arguments(__doc__, clients=2_000, load=40_000.0, rounds=7, seconds=5.0)
    parser.add_argument("other", type=Path, help="the other working tree, with its .venv")
    parser.add_argument("--only", choices=("consumer", "worker"))
    parser.add_argument(
        "--rate", type=float, default=2_000, help="records a second for the consumer"
    )
    parser.add_argument(
        "--io-uring", choices=SETTINGS, default="auto", help="server.io_uring of this tree"
    )
    options = parser.parse_args()
    results = {}
    for name, measure in {"consumer": consumers, "worker": workers}.items():
        if options.only not in (None, name):
            continue
        pairs = measure(options)
        results[name] = {
            "this_us": round(statistics.median(this for this, _ in pairs), 2),
            "other_us": round(statistics.median(other for _, other in pairs), 2),
            **spread("ratio", [this / other for this, other in pairs]),
        }
        print(name, *(f"{what}={value}" for what, value in results[name].items()), flush=True)
    save(options.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
