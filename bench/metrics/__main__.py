"""The cost of metrics while the service delivers: with counters and scrapes, and without either.

    python -m bench.metrics              2,000 clients, 440 B, 40,000 and 2,000,000 deliveries/s

Two services, each with its own clients, alternate: one as shipped and scraped once a second, the
other without counters (bench.metrics.uncounted) and not scraped. CPU times are those of all
processes. Then the first, at rest, is scraped as fast as it answers, for the cost of a scrape in
each process.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from bench.fanout import deliver
from bench.kit.measuring import measured, medians, repeating, spread
from bench.kit.record import padded
from bench.kit.results import arguments, collected, save
from bench.kit.service import MeasuredService
from bench.kit.writer import Writer

OPENMETRICS: Final = "application/openmetrics-text;version=1.0.0"
# More often than Prometheus would.
SCRAPE_SECONDS: Final = 1.0
SCRAPES: Final = 200
_COSTS: Final = ("worker_us", "consumer_us", "supervisor_us")


class Uncounted(MeasuredService):
    program = "bench.metrics.uncounted"


def scrape(service: MeasuredService) -> int:
    """Scrape once; the size of the response in bytes."""
    url = f"http://127.0.0.1:{service.admin_port}/metrics"
    request = urllib.request.Request(url, headers={"Accept": OPENMETRICS})
    with urllib.request.urlopen(request) as answer:
        return len(answer.read())


def compare(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row for each load, then one for a scrape alone."""
    with contextlib.ExitStack() as stack:
        with_metrics = stack.enter_context(MeasuredService(options.workers))
        without = stack.enter_context(Uncounted(options.workers))
        pairs = []
        for service in (with_metrics, without):
            load = stack.enter_context(service.load(options.clients))
            writer = Writer(service.brokers, partial(padded, frame_bytes=options.size))
            pairs.append((service, load, writer))
        for deliveries in options.load:
            rate = deliveries / options.clients
            rounds = []
            for _ in range(options.rounds):
                costs = []
                for service, load, writer in pairs:
                    scraping: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
                    if service is with_metrics:
                        scraping = repeating(partial(scrape, service), SCRAPE_SECONDS)
                    with scraping:
                        costs.append(deliver(service, load, writer, rate, options.seconds))
                rounds.append(costs)
            yield {
                "clients": options.clients,
                "bytes": options.size,
                "deliveries_per_second": deliveries,
                **_ratios(rounds),
            }
        yield _scrapes(with_metrics)


def _ratios(rounds: list[list[dict[str, float]]]) -> dict[str, float]:
    row: dict[str, float] = {}
    for which, place in (("with", 0), ("without", 1)):
        found = medians([costs[place] for costs in rounds], 4)
        row |= {f"{name}_{which}": found[name] for name in _COSTS}
    for name, keys in (("worker", _COSTS[:1]), ("service", _COSTS)):
        ratios = [sum(a[k] for k in keys) / sum(b[k] for k in keys) for a, b in rounds]
        row |= spread(f"{name}_ratio", ratios, 4)
    return row


def _scrapes(service: MeasuredService) -> dict[str, Any]:
    processes = service.processes()
    with measured(processes) as rest:
        began = time.monotonic()
        time.sleep(5)
        rested = time.monotonic() - began
    with measured(processes) as used:
        began = time.monotonic()
        sizes = [scrape(service) for _ in range(SCRAPES)]
        took = time.monotonic() - began
    extra = {
        name: (usage - rest[name] * took / rested) / SCRAPES * 1e3 for name, usage in used.items()
    }
    return {
        "scrape_bytes": sizes[-1],
        "scrape_ms": round(took / SCRAPES * 1e3, 2),
        "scrape_cpu_ms": {name: round(cost, 3) for name, cost in extra.items()},
    }


def main() -> int:
    parser = arguments(__doc__, workers=1, clients=2000, rounds=6, seconds=5.0)
    parser.add_argument("--size", type=int, default=440, help="bytes")
    parser.add_argument("--load", type=float, action="append", help="deliveries a second")
    options = parser.parse_args()
    options.load = options.load or [40_000, 2_000_000]
    *loads, scrape_row = collected(compare(options))
    save(options.out, {"loads": loads, "scrape": scrape_row})
    return 0


if __name__ == "__main__":
    sys.exit(main())
