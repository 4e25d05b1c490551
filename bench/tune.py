"""How many workers? Tries each count on this machine, under your load, and says which and why.

    python -m bench.tune --clients 5000 --rate 20 --record sample.json
    python -m bench.tune --clients 5000 --config config/config.yaml --plot tune.svg
    python -m bench.tune --clients 5000 --config config/config.yaml --topic homelab-energy-realtime

Each count of workers gets a service, the clients, and the same records. With --config the service
has that file's settings, but for those that a measurement must have its own of: addresses, ports,
tokens, TLS, log. With --topic nothing is written: the clients get what comes on that topic, from
--brokers or the file's kafka.brokers, and delays begin at the records' own time, so this machine's
clock should agree with that of who writes them. The service reads it as the group `energyws-bench`.

The clients are on this machine and share its cores; the reason says where they were in the way.
The rule is in bench/advice.py.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson
import psutil
import yaml

from bench.advice import Trial, advise
from bench.broker import KINDS, open_broker
from bench.crowds import Crowds, descriptor_limit, workers_needed
from bench.delay import summary
from bench.observer import Observers
from bench.plot import line_chart, stacked
from bench.record import PARTITIONS, head, padded
from bench.service import Service, Writer, measured, report
from energyws.control.host.facts import usable_cores

OBSERVERS: Final = 10
WARM_SECONDS: Final = 2.0
GROUP: Final = "energyws-bench"
# What a measurement has its own of, by section; None is the whole section.
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

Build = Callable[[int, int], bytes]


def sections(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What of a configuration file's tree a measurement keeps."""
    kept = {}
    for name, values in config.items():
        ours = OURS.get(name, frozenset())
        if ours is not None and isinstance(values, dict):
            kept[name] = {key: value for key, value in values.items() if key not in ours}
    return kept


def like(sample: bytes) -> Build:
    """Records with the sample's fields, behind those that are measured by.

    Raises ValueError when the sample is no JSON object.
    """
    fields = orjson.loads(sample)
    if not isinstance(fields, dict):
        raise ValueError(f"a record is a JSON object, not a {type(fields).__name__}")
    for name in ("p", "n", "t"):
        fields.pop(name, None)
    rest = orjson.dumps(fields)[1:]
    tail = b"," + rest if fields else rest
    return lambda partition, number: head(partition, number) + tail


def trial(row: Mapping[str, Any]) -> Trial:
    """What the rule wants to know of a row of the table."""
    shares = row["cores"]

    def most(kind: str) -> float:
        return max((share for name, share in shares.items() if name.startswith(kind)), default=0.0)

    return Trial(
        workers=row["workers"],
        busiest_share=most("worker-"),
        generator_share=max(most("generator-"), most("observer")),
        machine_share=row["machine_share"],
        p99_ms=row["delay_ms"]["p99"],
        exact=row["exact"],
    )


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as aligned text."""
    titles = (
        "workers",
        "deliveries/s",
        "busiest worker",
        "workers' CPU",
        "consumer",
        "clients",
        "machine",
        "p50 ms",
        "p99 ms",
        "headroom",
    )
    lines = [titles]
    for row in rows:
        shares, busiest = row["cores"], trial(row).busiest_share
        lines.append(
            (
                str(row["workers"]),
                f"{row['deliveries_per_second']:,.0f}",
                f"{busiest:.0%}",
                f"{_sum(shares, 'worker-'):.2f}",
                f"{shares['consumer']:.2f}",
                f"{_sum(shares, 'generator-') + _sum(shares, 'observer'):.2f}",
                f"{row['machine_share']:.0%}",
                f"{row['delay_ms']['p50']:.1f}",
                f"{row['delay_ms']['p99']:.1f}",
                f"{1 / busiest:.1f} ×" if busiest else "",
            )
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


def _sum(shares: Mapping[str, float], kind: str) -> float:
    return sum(share for name, share in shares.items() if name.startswith(kind))


def picture(rows: list[dict[str, Any]]) -> str:
    """Delay and CPU by the number of workers."""
    delays = {
        name: [(row["workers"], row["delay_ms"][name]) for row in rows] for name in ("p50", "p99")
    }
    shares = {
        "busiest worker": [(row["workers"], trial(row).busiest_share) for row in rows],
        "all workers": [(row["workers"], _sum(row["cores"], "worker-")) for row in rows],
        "consumer": [(row["workers"], row["cores"]["consumer"]) for row in rows],
    }
    return stacked(
        [
            line_chart("Delay by the number of workers", "workers", "milliseconds", delays),
            line_chart("CPU by the number of workers", "workers", "cores", shares),
        ]
    )


@contextlib.contextmanager
def crowd(
    service: Service, clients: int, *, foreign: bool
) -> Iterator[tuple[Crowds | None, Observers]]:
    """All clients: those that are timed, and the others; of foreign records, all are timed."""
    with contextlib.ExitStack() as stack:
        if foreign:
            yield None, stack.enter_context(Observers(service, clients, foreign=True))
            return
        crowds = stack.enter_context(Crowds(service, max(1, clients - OBSERVERS)))
        yield crowds, stack.enter_context(Observers(service, min(clients, OBSERVERS)))


def run(
    workers: int,
    brokers: str,
    topic: str,
    settings: dict[str, dict[str, Any]],
    writer: Writer | None,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """One count of workers: a row of the table."""
    kafka = {**settings.get("kafka", {}), "topic": topic, "group_id": GROUP}
    sections = {**settings, "kafka": kafka}
    with (
        Service(workers, tls=False, brokers=brokers, checkout=None, **sections) as service,
        crowd(service, options.clients, foreign=writer is None) as (crowds, observers),
    ):
        processes = {**service.processes(), "observer": psutil.Process(observers.pid)}
        if crowds is not None:
            processes |= crowds.processes()
        _feed(writer, options.rate, WARM_SECONDS)
        if crowds is not None and writer is not None:
            crowds.counts(restart=True)
        observers.delays()
        busy, began, before = _busy(), time.monotonic(), _deliveries(service)
        with measured(processes) as used:
            _feed(writer, options.rate, options.seconds)
            took = time.monotonic() - began
            delivered = _deliveries(service) - before
        machine = (_busy() - busy) / (took * (os.cpu_count() or 1))
        exact = True
        if crowds is not None:
            # The first record that a client got was the first of the warm-up, of each partition.
            counts = crowds.settled()
            exact = not (counts["gaps"] or counts["duplicates"] or counts["closed"])
            exact = exact and counts["least"] == counts["most"]
        delays = observers.delays()
    return {
        "workers": workers,
        "deliveries_per_second": round(delivered / took),
        "cores": {name: round(usage.total / took, 3) for name, usage in used.items()},
        "machine_share": round(machine, 3),
        "delay_ms": summary(delays["from_write" if writer is not None else "from_record"]),
        "exact": exact,
    }


def _feed(writer: Writer | None, rate: float, seconds: float) -> None:
    if writer is None:
        time.sleep(seconds)
    else:
        writer.write(rate, seconds)


def _busy() -> float:
    times = psutil.cpu_times()
    return float(sum(times[:-2]) - times.idle - times.iowait)


def _deliveries(service: Service) -> int:
    url = f"http://127.0.0.1:{service.admin_port}/workers"
    with urllib.request.urlopen(url, timeout=5) as answer:
        return sum(child["board"]["deliveries"] for child in orjson.loads(answer.read()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=20, help="records a second")
    parser.add_argument("--bytes", type=int, default=440, help="size of a frame's payload")
    parser.add_argument("--record", type=Path, help="a file with one record, a JSON object")
    parser.add_argument("--seconds", type=float, default=10, help="of each count of workers")
    parser.add_argument("--from", dest="least", type=int, default=1, help="fewest workers")
    parser.add_argument("--to", dest="most", type=int, help="default: the usable cores and one")
    parser.add_argument("--p99-limit", type=float, default=100, help="milliseconds")
    parser.add_argument("--config", type=Path, help="a configuration file of the service")
    parser.add_argument("--broker", choices=KINDS, default="embedded", help="where to write to")
    parser.add_argument("--topic", help="read this one, and write nothing")
    parser.add_argument("--brokers", help="where --topic is; default: the file's kafka.brokers")
    parser.add_argument("--plot", type=Path, help="draw the figures here, as SVG")
    parser.add_argument("--out", help="write the results here, as JSON")
    options = parser.parse_args()
    options.most = options.most or usable_cores() + 1
    if not 1 <= options.least <= options.most <= 64:
        parser.error("--from and --to: 1 to 64 workers, and --from not above --to")
    return options


def _sweep(
    options: argparse.Namespace, brokers: str, topic: str | None, settings: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """A row for each count of workers; says which are left out."""
    limit = descriptor_limit()
    build: Build = lambda p, n: padded(p, n, options.bytes)  # noqa: E731
    if options.record is not None:
        build = like(options.record.read_bytes())
    for workers in range(options.least, options.most + 1):
        if workers < workers_needed(options.clients, limit):
            print(
                f"{workers} workers cannot hold {options.clients} clients: a process may have "
                f"{limit} files open here (ulimit -Hn); at least "
                f"{workers_needed(options.clients, limit)} are needed: left out"
            )
            continue
        writer = None
        if topic is None:
            writer = Writer(brokers, build, topic=options.written, partitions=PARTITIONS)
        yield run(workers, brokers, topic or options.written, settings, writer, options)


def main() -> int:
    """Run it; the exit code: 1 if no count of workers can be recommended."""
    options = _options()
    tree = yaml.safe_load(options.config.read_text()) if options.config is not None else {}
    settings = sections(tree)
    rows = []
    with contextlib.ExitStack() as stack:
        if options.topic is not None:
            brokers = options.brokers or tree.get("kafka", {}).get("brokers")
            if brokers is None:
                raise SystemExit("--topic: name its brokers with --brokers, or in --config")
        else:
            broker = stack.enter_context(open_broker(options.broker))
            brokers = broker.bootstrap
            options.written = f"tune-{os.getpid()}"
            broker.create_topic(options.written, PARTITIONS)
            kafka = settings.setdefault("kafka", {})
            # Theirs are for another broker: how to log in there, and the like.
            kafka["options"] = broker.options
        for row in _sweep(options, brokers, options.topic, settings):
            rows.append(row)
            print(table([row]), flush=True)
    if not rows:
        return 1
    found = advise([trial(row) for row in rows], p99_limit_ms=options.p99_limit)
    print(f"\n{table(rows)}\n")
    for warning in found.warnings:
        print(f"careful: {warning}")
    if found.workers is None:
        print(f"no number of workers can be recommended: {found.reason}")
    else:
        print(f"server.workers: {found.workers}, because {found.reason}")
    if options.plot is not None:
        options.plot.write_text(picture(rows))
    load = {"clients": options.clients, "rate": options.rate, "foreign": options.topic is not None}
    # Only the measurement's own records have a size that is known beforehand.
    own = options.topic is None and options.record is None
    load["bytes"] = options.bytes if own else None
    advice = {"workers": found.workers, "reason": found.reason, "warnings": list(found.warnings)}
    report(options.out, {**load, "rows": rows, "advice": advice})
    return 0 if found.workers is not None else 1


if __name__ == "__main__":
    sys.exit(main())
