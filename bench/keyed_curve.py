"""Lightstreamer's published load test with keys, run on a single machine.

    python -m bench.keyed_curve --point 4000 --point 10000 --seconds 60

Their scenario 2: 100 records a second of 1,024 bytes with 40 keys in turn, each record to a 40th of
the clients, no TLS. The delay is measured from a timestamp in the record until its reception. The
published figures are from their README's "Results", where Kafka, the connector (c7i.xlarge, 4
vCPU), producer and clients have separate machines:
https://github.com/Lightstreamer/lightstreamer-kafka-connector-loadtest (JVM).

Here all of these share one machine, and each client has its key by the right of its token. Each
point has its own service. Exits with status 1 if a record was lost or came twice, or if the mean
delay of a point is above half of the published one.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import time
from typing import Any, Final

import psutil

from bench.kit.brokers import open_broker
from bench.kit.crowds import Crowds, curve_arguments, workers_for
from bench.kit.measuring import measured, percentile, summary
from bench.kit.meters import Meters, delivered, faults, stream, tokens
from bench.kit.record import PARTITIONS
from bench.kit.results import save
from bench.kit.service import MeasuredService
from energyws.testing import Broker

KEYS: Final = 40
RATE: Final = 100.0
RECORD_BYTES: Final = 1024
# By the number of clients: mean delay and standard deviation, in milliseconds; None: not given.
PUBLISHED: Final[dict[int, tuple[int, int | None]]] = {
    4000: (8, 16),
    6000: (12, None),
    8000: (16, 8),
    10_000: (19, 13),
    52_000: (24, 16),
    64_000: (28, 26),
    70_000: (59, None),
    80_000: (67, 207),
    90_000: (1876, None),
}
POINTS: Final = (4000, 10_000, 20_000, 40_000)
SETTLE_SECONDS: Final = 3.0
WARM_RATE: Final = 300.0
WARM_SECONDS: Final = 5.0
# One delay in so many deliveries: enough for the 99.9th percentile of the smallest point.
SAMPLE: Final = 7


def half(clients: int) -> float | None:
    """Half of the published mean for this many clients, or for the next smaller published number.

    In milliseconds; None where there is none.
    """
    known = [count for count in PUBLISHED if count <= clients]
    return PUBLISHED[max(known)][0] / 2 if known else None


def point(broker: Broker, clients: int, workers: int, seconds: float) -> dict[str, Any]:
    topic = f"scenario2-{os.getpid()}-{clients}"
    broker.create_topic(topic, PARTITIONS)
    kafka = {"topic": topic, "options": broker.consumer_options}
    owned = tokens([client % KEYS] for client in range(clients))
    each = [len(range(key, clients, KEYS)) for key in range(KEYS)]
    with (
        MeasuredService(
            workers, brokers=broker.bootstrap, kafka=kafka, streams=stream(topic)
        ) as service,
        contextlib.ExitStack() as stack,
    ):
        meters = Meters(broker.bootstrap, lambda number: number % KEYS, RECORD_BYTES, topic)
        # A JVM that has just started adds some milliseconds to each record.
        meters.write(WARM_RATE, WARM_SECONDS)
        time.sleep(SETTLE_SECONDS)
        warmed = dict(meters.sent)
        crowds = stack.enter_context(Crowds(service, clients, owned, sample=SAMPLE))

        def due() -> int:
            return sum(
                (meters.sent[key] - warmed[key]) * receivers for key, receivers in enumerate(each)
            )

        # Connecting and its aftermath are not measured.
        meters.write(RATE, SETTLE_SECONDS)
        before = delivered(crowds.counts, due())["frames"]
        crowds.counts(restart=True)
        processes = {**service.processes(), **crowds.processes(), "producer": psutil.Process()}
        if broker.pid is not None:
            processes["broker"] = psutil.Process(broker.pid)
        began = time.monotonic()
        with measured(processes) as used:
            written = meters.write(RATE, seconds)
            counts = delivered(crowds.counts, due())
        took = time.monotonic() - began
        sent_by = service.io_uring()
        wrong = faults(counts, due())
    delays = counts["delays"]
    served = sum(usage for process, usage in used.items() if process.startswith("worker"))
    deliveries = counts["frames"] - before
    return {
        "workers": workers,
        "io_uring": sent_by,
        "records": written,
        "deliveries": deliveries,
        "delay_ms": {
            **summary(delays),
            "p99.9": round(percentile(delays, 0.999) / 1000, 2),
            "standard_deviation": round(statistics.pstdev(delays) / 1000, 2),
        },
        **wrong,
        "published_ms": PUBLISHED.get(clients, (None,))[0],
        "half_of_published_ms": half(clients),
        "worker_us_per_delivery": round(served / deliveries * 1e6, 3),
        "cores": {process: round(usage / took, 3) for process, usage in used.items()},
    }


def main() -> int:
    options = curve_arguments(__doc__, POINTS).parse_args()
    results: dict[str, Any] = {}
    missed = []
    with open_broker(options.broker) as broker:
        for clients in options.point or POINTS:
            workers = workers_for(clients, options.workers)
            row = results[str(clients)] = point(broker, clients, workers, options.seconds)
            print(f"{clients:6}", row, flush=True)
            bound = row["half_of_published_ms"]
            wrong = any(row[name] for name in ("lost", "gaps", "duplicates", "closed"))
            if wrong or (bound is not None and row["delay_ms"]["mean"] > bound):
                missed.append(clients)
    published = {str(clients): mean for clients, (mean, _) in PUBLISHED.items()}
    save(options.out, {"broker": options.broker, "points": results, "published_ms": published})
    if missed:
        print(f"lost records, or above half of the published mean: {missed}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
