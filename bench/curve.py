"""Lightstreamer's published load test of its Kafka connector, run on a single machine.

    python -m bench.curve --point 1000 --point 8000 --seconds 60

Their scenario 1: one topic with one partition, 1,024 bytes a record, two producers that write two
a second each, every record to every client, no TLS. The delay is measured from a timestamp that the
producer puts into the record until its reception. The published figures are from their README's
"Results", where Kafka, the connector (c7i.xlarge, 4 vCPU), producer and clients have separate
machines: https://github.com/Lightstreamer/lightstreamer-kafka-connector-loadtest (JVM, connector
0.1.0).

Here all of these share one machine. Each point has its own service, with at least as many workers
as the descriptors require; one real broker serves all points. Exits with status 1 if the mean delay
of a point is above half of the published one.
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
from bench.kit.measuring import measured, summary
from bench.kit.record import head
from bench.kit.results import save
from bench.kit.service import MeasuredService
from bench.kit.writer import Writer
from energyws.testing import Broker

RECORD_BYTES: Final = 1024
RATE: Final = 4.0
# By the number of clients: mean delay and standard deviation, in milliseconds.
PUBLISHED: Final[dict[int, tuple[int, int]]] = {
    1000: (10, 17),
    2000: (16, 15),
    4000: (27, 17),
    8000: (33, 21),
    14000: (52, 21),
    16000: (91, 37),
    18000: (144, 34),
    20000: (128, 147),
    32000: (158, 71),
    40000: (252, 87),
    50000: (787, 226),
}
POINTS: Final = (1000, 8000, 20000, 32000, 40000, 50000)
SETTLE_SECONDS: Final = 3.0
WARM_RATE: Final = 300.0
WARM_SECONDS: Final = 5.0


def record(partition: int, number: int) -> bytes:
    start = head(partition, number) + b',"pad":"'
    return start + b"x" * (RECORD_BYTES - len(start) - 2) + b'"}'


def point(broker: Broker, clients: int, workers: int, seconds: float) -> dict[str, Any]:
    topic = f"curve-{os.getpid()}-{clients}"
    broker.create_topic(topic, 1)
    kafka = {"topic": topic, "options": broker.consumer_options}
    with (
        MeasuredService(workers, brokers=broker.bootstrap, kafka=kafka) as service,
        contextlib.ExitStack() as stack,
    ):
        writer = Writer(broker.bootstrap, record, topic=topic, partitions=1)
        # A JVM that has just started adds some milliseconds to each record.
        writer.write(WARM_RATE, WARM_SECONDS)
        time.sleep(SETTLE_SECONDS)
        warmed = writer.sent
        crowds = stack.enter_context(Crowds(service, clients))
        # Connecting and its aftermath are not measured.
        writer.write(RATE, SETTLE_SECONDS)
        crowds.all_have(writer.sent - warmed)
        crowds.counts(restart=True)
        processes = {**service.processes(), **crowds.processes(), "producer": psutil.Process()}
        if broker.pid is not None:
            processes["broker"] = psutil.Process(broker.pid)
        began = time.monotonic()
        with measured(processes) as used:
            written = writer.write(RATE, seconds)
            counts = crowds.all_have(writer.sent - warmed)
        took = time.monotonic() - began
        sent_by = service.io_uring()
    delays = counts["delays"]
    faults = {name: counts[name] for name in ("gaps", "duplicates", "closed")}
    assert not any(faults.values()), faults
    due = writer.sent - warmed
    assert counts["least"] == due, f"a client has {counts['least']} of {due} records"
    served = sum(usage for name, usage in used.items() if name.startswith("worker"))
    return {
        "workers": workers,
        "io_uring": sent_by,
        "records": written,
        "delay_ms": {
            **summary(delays),
            "standard_deviation": round(statistics.pstdev(delays) / 1000, 2),
        },
        "published_ms": PUBLISHED[clients][0] if clients in PUBLISHED else None,
        "worker_us_per_delivery": round(served / (written * clients) * 1e6, 3),
        "cores": {name: round(usage / took, 3) for name, usage in used.items()},
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
            published = row["published_ms"]
            if published is not None and row["delay_ms"]["mean"] > published / 2:
                missed.append(clients)
    save(options.out, {"broker": options.broker, "points": results})
    if missed:
        print(f"above half of the published mean: {missed}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
