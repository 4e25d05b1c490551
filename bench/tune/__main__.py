"""How many workers? Measures each number on this machine, under your load, and recommends one.

    python -m bench.tune --clients 5000 --rate 20 --record sample.json
    python -m bench.tune --clients 5000 --config config/config.yaml --plot tune.svg
    python -m bench.tune --clients 5000 --config config/config.yaml --topic homelab-energy-realtime

For each number of workers, a service serves the same clients the same records. With --config the
service uses that file's settings, except for those that a measurement sets itself: addresses,
ports, tokens, TLS, log. With --topic nothing is written: the clients get the records of that topic,
from --brokers or the file's kafka.brokers, and delays start at the records' timestamps, so this
machine's clock should agree with the producer's. The service reads it as the group
`energyws-bench`.

The clients share this machine's cores; a warning says if that affected the figures. The rule is in
bench/tune/advice.py.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import orjson
import psutil
import yaml

from bench.kit.brokers import KINDS, open_broker
from bench.kit.crowds import Crowds, descriptor_limit, workers_needed
from bench.kit.load import Load
from bench.kit.measuring import measured, summary
from bench.kit.record import PARTITIONS, head, padded
from bench.kit.results import arguments, save
from bench.kit.service import MeasuredService
from bench.kit.writer import Build, Writer
from bench.tune.advice import advise
from bench.tune.table import picture, table, trial
from energyws.control.host.facts import usable_cores

LISTENERS: Final = 10
WARM_SECONDS: Final = 2.0
GROUP: Final = "energyws-bench"
# Keys that a measurement sets itself, by section; None means the whole section.
OURS: Final[dict[str, frozenset[str] | None]] = {
    "admin": None,
    "auth": None,
    "log": None,
    "streams": None,
    "kafka": frozenset({"brokers", "topic", "group_id", "auto_offset_reset"}),
    "server": frozenset(
        {"host", "port", "workers", "max_connections", "tls", "drain_seconds", "allowed_origins"}
    ),
}


def sections(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The sections and keys of a configuration file that a measurement keeps."""
    kept = {}
    for name, values in config.items():
        ours = OURS.get(name, frozenset())
        if ours is not None and isinstance(values, dict):
            kept[name] = {key: value for key, value in values.items() if key not in ours}
    return kept


def like(sample: bytes) -> Build:
    """A builder of records with the sample's fields after the checked fields.

    Raises ValueError if the sample is not a JSON object.
    """
    fields = orjson.loads(sample)
    if not isinstance(fields, dict):
        raise ValueError(f"a record must be a JSON object, not a {type(fields).__name__}")
    for name in ("p", "n", "t"):
        fields.pop(name, None)
    rest = orjson.dumps(fields)[1:]
    tail = b"," + rest if fields else rest
    return lambda partition, number: head(partition, number) + tail


@contextlib.contextmanager
def crowd(
    service: MeasuredService, clients: int, *, foreign: bool
) -> Iterator[tuple[Crowds | None, Load]]:
    """The other clients, and those whose delays are measured; with foreign records, all are."""
    timed = clients if foreign else min(clients, LISTENERS)
    with contextlib.ExitStack() as stack:
        others = None
        if not foreign:
            others = stack.enter_context(Crowds(service, max(1, clients - LISTENERS)))
        yield (
            others,
            stack.enter_context(
                Load(service.port, timed, service.token, sample=1, stamps=foreign, count=foreign)
            ),
        )


def run(
    workers: int,
    brokers: str,
    settings: dict[str, dict[str, Any]],
    writer: Writer | None,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """One number of workers: a row of the table."""
    with (
        MeasuredService(
            workers, tls=False, brokers=brokers, checkout=None, descriptors=None, **settings
        ) as service,
        crowd(service, options.clients, foreign=writer is None) as (crowds, listeners),
    ):
        processes = {**service.processes(), "observer": psutil.Process(listeners.pid)}
        if crowds is not None:
            processes |= crowds.processes()
        feed = time.sleep if writer is None else partial(writer.write, options.rate)
        feed(WARM_SECONDS)
        if crowds is not None:
            crowds.counts(restart=True)
        listeners.counts(restart=True)
        busy, began, before = _busy(), time.monotonic(), service.totals()["deliveries"]
        with measured(processes) as used:
            feed(options.seconds)
            took = time.monotonic() - began
            delivered = service.totals()["deliveries"] - before
        machine = (_busy() - busy) / (took * (os.cpu_count() or 1))
        exact = True
        if crowds is not None:
            # The counts include the warm-up, so each client's numbers are checked from its start.
            counts = crowds.settled()
            exact = not (counts["gaps"] or counts["duplicates"] or counts["closed"])
            exact = exact and counts["least"] == counts["most"]
        delays = listeners.counts()
    return {
        "workers": workers,
        "deliveries_per_second": round(delivered / took),
        "cores": {name: round(usage / took, 3) for name, usage in used.items()},
        "machine_share": round(machine, 3),
        "delay_ms": summary(delays["delays_from_stamp" if writer is None else "delays"]),
        "exact": exact,
    }


def _busy() -> float:
    times = psutil.cpu_times()
    return float(sum(times[:-2]) - times.idle - times.iowait)


def _options() -> argparse.Namespace:
    parser = arguments(__doc__, clients=2000, rate=20.0, bytes=440)
    parser.add_argument("--record", type=Path, help="a file with one record, a JSON object")
    parser.add_argument("--seconds", type=float, default=10, help="per number of workers")
    parser.add_argument("--from", dest="least", type=int, default=1, help="fewest workers")
    parser.add_argument("--to", dest="most", type=int, help="default: one more than usable cores")
    parser.add_argument("--p99-limit", type=float, default=100, help="milliseconds")
    parser.add_argument("--config", type=Path, help="a configuration file of the service")
    parser.add_argument("--broker", choices=KINDS, default="embedded", help="where to write to")
    parser.add_argument("--topic", help="read this one, and write nothing")
    parser.add_argument("--brokers", help="where --topic is; default: the file's kafka.brokers")
    parser.add_argument("--plot", type=Path, help="draw the figures here, as SVG")
    options = parser.parse_args()
    options.most = options.most or usable_cores() + 1
    if not 1 <= options.least <= options.most <= 64:
        parser.error("--from and --to: 1 to 64 workers, and --from not above --to")
    return options


def _sweep(
    options: argparse.Namespace, brokers: str, settings: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """A row for each number of workers; prints which are skipped."""
    limit = descriptor_limit()
    needed = workers_needed(options.clients, limit)
    build: Build = partial(padded, frame_bytes=options.bytes)
    if options.record is not None:
        build = like(options.record.read_bytes())
    for workers in range(options.least, options.most + 1):
        if workers < needed:
            print(
                f"{workers} workers skipped: a process may have only {limit} files open here "
                f"(ulimit -Hn), so {options.clients} clients need at least {needed} workers"
            )
            continue
        writer = None
        if options.topic is None:
            writer = Writer(brokers, build, topic=settings["kafka"]["topic"])
        yield run(workers, brokers, settings, writer, options)


def main() -> int:
    options = _options()
    tree = yaml.safe_load(options.config.read_text()) if options.config is not None else {}
    settings = sections(tree)
    kafka = settings.setdefault("kafka", {})
    kafka["group_id"] = GROUP
    rows = []
    with contextlib.ExitStack() as stack:
        if options.topic is not None:
            brokers = options.brokers or tree.get("kafka", {}).get("brokers")
            if brokers is None:
                raise SystemExit("--topic: name its brokers with --brokers, or in --config")
            kafka["topic"] = options.topic
        else:
            broker = stack.enter_context(open_broker(options.broker))
            brokers = broker.bootstrap
            kafka["topic"] = f"tune-{os.getpid()}"
            broker.create_topic(kafka["topic"], PARTITIONS)
            # The file's options are for its own broker, such as credentials.
            kafka["options"] = broker.consumer_options
        for row in _sweep(options, brokers, settings):
            rows.append(row)
            print(table([row]), flush=True)
    if not rows:
        return 1
    found = advise([trial(row) for row in rows], p99_limit_ms=options.p99_limit)
    print(f"\n{table(rows)}\n")
    for warning in found.warnings:
        print(f"warning: {warning}")
    if found.workers is None:
        print(f"no number of workers can be recommended: {found.reason}")
    else:
        print(f"server.workers: {found.workers}, because {found.reason}")
    if options.plot is not None:
        options.plot.write_text(picture(rows))
    # Only the measurement's own records have a size that is known in advance.
    own = options.topic is None and options.record is None
    results = {
        "clients": options.clients,
        "rate": options.rate,
        "foreign": options.topic is not None,
        "bytes": options.bytes if own else None,
        "rows": rows,
        "advice": {
            "workers": found.workers,
            "reason": found.reason,
            "warnings": list(found.warnings),
        },
    }
    save(options.out, results)
    return 0 if found.workers is not None else 1


if __name__ == "__main__":
    sys.exit(main())
