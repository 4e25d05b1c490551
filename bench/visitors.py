"""What open pages and HTTP requests cost everybody else: deliveries with and without them.

    python -m bench.visitors           2,000 clients, 40,000 deliveries/s, 20 pages, 50 requests/s
    python -m bench.visitors --clients 500 --load 10000 --rounds 3 --seconds 3

Rounds with and without visitors alternate on one service. Before a round with visitors, each page
fetches its files, connects and gets its history; during the round, requests for /last, /history and
the page's files come evenly, each on a connection of its own. Delays and CPU time per delivery are
those of the other clients, which check every record; the workers' CPU time for the visitors is in
the latter. Exits with status 1 if a client lost a record or got one twice, or if a visitor got
another status than 200, or 429 for /history.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Any, Final

from bench.fanout import deliver
from bench.kit.load import Load
from bench.kit.measuring import medians, spread
from bench.kit.record import RealRecords
from bench.kit.results import arguments, save
from bench.kit.service import MeasuredService
from bench.kit.visitors import Visitors
from bench.kit.writer import Writer

_SHOWN: Final = ("worker_us", "delay_p50_ms", "delay_p99_ms")
# Each has one history request at a time.
_SUBJECTS: Final = 50
# So that the first page finds as much history as the last one.
_HISTORY: Final = 1_500


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Medians without and with visitors, and the ratios over the rounds; raises SystemExit."""
    with contextlib.ExitStack() as stack:
        service = stack.enter_context(MeasuredService(options.workers, server={"dashboard": True}))
        load = stack.enter_context(service.load(options.clients))
        visitors = stack.enter_context(Visitors(service.port, service.tokens(_SUBJECTS)))
        writer = Writer(service.brokers, RealRecords().build)
        writer.write(_HISTORY / 3, 3.0)
        load.all_have(writer.sent)
        rounds = [_round(service, load, writer, visitors, options) for _ in range(options.rounds)]
    ratios = {
        f"{name}_ratio": [row["with"][figure] / row["without"][figure] for row in rounds]
        for name, figure in (("p99", "delay_p99_ms"), ("worker", "worker_us"))
    }
    found: dict[str, Any] = {
        "clients": options.clients,
        "deliveries_per_second": options.load,
        "pages": options.pages,
        "requests_per_second": options.requests,
    }
    for name, values in ratios.items():
        found |= spread(name, values)
    return {**found, **medians(rounds, 3)}


def _round(
    service: MeasuredService,
    load: Load,
    writer: Writer,
    visitors: Visitors,
    options: argparse.Namespace,
) -> dict[str, Any]:
    rate = options.load / options.clients
    without = deliver(service, load, writer, rate, options.seconds)
    visitors.begin(options.pages, options.requests)
    with_ = deliver(service, load, writer, rate, options.seconds)
    visits = visitors.end()
    if visits["problems"]:
        raise SystemExit(f"visitors failed: {'; '.join(visits['problems'])}")
    row = {
        "without": {name: without[name] for name in _SHOWN},
        "with": {name: with_[name] for name in _SHOWN},
        "visits": {name: visits[name] for name in ("responses", "refused", "request_ms")},
    }
    print(row, flush=True)
    return row


def main() -> int:
    parser = arguments(
        __doc__, workers=1, clients=2000, load=40_000.0, pages=20, rounds=6, seconds=5.0
    )
    parser.add_argument(
        "--requests", type=float, default=50.0, help="HTTP requests a second, beside the pages'"
    )
    options = parser.parse_args()
    save(options.out, measure(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
