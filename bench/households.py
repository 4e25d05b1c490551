"""Households that each see their own meters: delays, and the CPU time of every process.

    python -m bench.households                      both loads
    python -m bench.households --only few           one of them

own   each of 20,000 clients has one meter, and each meter writes once a second
few   each of 20,000 clients has three meters out of a million, of which 1,000 a second write

Each load has its own service and clients. `idle` is the same service with its clients and without
records, so that the difference is the price of the records. Exits with status 1 if a record was
lost or came twice.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psutil

from bench.kit.brokers import KINDS, open_broker
from bench.kit.crowds import Crowds
from bench.kit.measuring import measured, percentile, summary
from bench.kit.meters import Meters, delivered, faults, stream, tokens
from bench.kit.results import arguments, collected, save
from bench.kit.service import MeasuredService
from energyws.testing import Broker

IN_TIME_MS: Final = 100
SETTLE_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Load:
    """keys: of each client. meters: how many there are. rate: records a second of all.

    ring_seconds: how much the rings hold. Where a client gets a record of its own every second, its
    position follows from that; else the rings hold twice server.position_seconds, so that clients
    need not be told more often (docs/keyed.md).
    """

    keys: int
    meters: Callable[[int], int]
    rate: Callable[[int], float]
    ring_seconds: float


LOADS: Final = {
    "own": Load(1, lambda clients: clients, float, 10),
    "few": Load(3, lambda clients: 50 * clients, lambda clients: clients / 20, 40),
}
RING_BYTES: Final = 1 << 30


def run(name: str, broker: Broker, options: argparse.Namespace) -> dict[str, Any]:
    load = LOADS[name]
    clients = options.clients
    count = load.meters(clients)
    owned = [range(client * load.keys, (client + 1) * load.keys) for client in range(clients)]
    rng = random.Random(1)
    # In turn where every meter has an owner; any otherwise.
    turns: Callable[[int], int] = (
        (lambda number: number % count)
        if count == clients * load.keys
        else (lambda _: rng.randrange(count))
    )
    topic = f"households-{time.time_ns()}"
    broker.create_topic(topic)
    kafka = {"topic": topic, "options": broker.consumer_options}
    rate = load.rate(clients)
    history = {"max_frames": max(1, int(rate * load.ring_seconds)), "max_bytes": RING_BYTES}
    with (
        MeasuredService(
            options.workers,
            brokers=broker.bootstrap,
            kafka=kafka,
            streams=stream(topic),
            history=history,
        ) as service,
        contextlib.ExitStack() as stack,
    ):
        meters = Meters(broker.bootstrap, turns, options.bytes, topic)
        crowds = stack.enter_context(Crowds(service, clients, tokens(owned), sample=3))

        def due() -> int:
            return meters.due(range(clients * load.keys))

        processes = service.processes()
        time.sleep(SETTLE_SECONDS)
        with measured(processes) as idle:
            time.sleep(options.seconds)
        meters.write(rate, SETTLE_SECONDS)
        delivered(crowds.counts, due())
        crowds.counts(restart=True)
        others = {**crowds.processes(), "producer": psutil.Process()}
        if broker.pid is not None:
            others["broker"] = psutil.Process(broker.pid)
        began = time.monotonic()
        with measured({**processes, **others}) as used:
            written = meters.write(rate, options.seconds)
            took = time.monotonic() - began
            counts = delivered(crowds.counts, due())
        wrong = faults(counts, due())
    delays: Sequence[int] = counts["delays"]
    seconds = options.seconds
    return {
        "load": name,
        "clients": clients,
        "meters": count,
        "ring_frames": history["max_frames"],
        "records_per_second": round(written / took),
        "wanted": due(),
        "delay_ms": {
            **summary(delays),
            "p99.9": round(percentile(delays, 0.999) / 1000, 2),
        },
        "in_time": round(sum(each <= IN_TIME_MS * 1000 for each in delays) / len(delays), 5),
        **wrong,
        "share_of_a_core": {process: round(usage / took, 4) for process, usage in used.items()},
        "share_of_a_core_idle": {
            process: round(usage / seconds, 4) for process, usage in idle.items()
        },
    }


def main() -> int:
    parser = arguments(
        __doc__,
        clients=20_000,
        workers=2,
        bytes=360,
        seconds=20.0,
    )
    parser.add_argument("--broker", choices=KINDS, default="embedded")
    parser.add_argument("--only", choices=list(LOADS))
    options = parser.parse_args()
    with open_broker(options.broker) as broker:
        rows = collected(
            run(name, broker, options) for name in ([options.only] if options.only else list(LOADS))
        )
    save(options.out, {"broker": options.broker, "loads": rows})
    wrong = any(row[name] for row in rows for name in ("lost", "gaps", "duplicates", "closed"))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
