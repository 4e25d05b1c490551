"""The cost of a delivery over Server-Sent Events, compared with one over WebSocket.

    python -m bench.sse                       2,000 clients, 40,000 and 2,000,000 deliveries/s
    python -m bench.sse --clients 500 --rounds 3 --seconds 3 --load 20000 --tls

Two services, each with its own clients, alternate, so that drift of the machine's speed favours
neither. The clients of both are the same program, which checks every record. CPU times are those of
all threads of the worker. Exits with status 1 if a client lost a record or got one twice.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from bench.fanout import REAL_BYTES, deliver
from bench.kit.load import Load
from bench.kit.measuring import medians, spread
from bench.kit.record import RealRecords, padded
from bench.kit.results import arguments, collected, save
from bench.kit.service import MeasuredService
from bench.kit.writer import Writer

PATHS: Final = {"sse": "/sse/energy?on_lag=skip", "websocket": "/ws/energy?subscribe=energy"}
_SHOWN: Final = ("worker_us", "bytes", "generator_us", "delay_p50_ms", "delay_p99_ms")

Side = tuple[MeasuredService, Load, Writer]


def compare(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row per load: the medians of both kinds, and the ratio of their costs."""
    with contextlib.ExitStack() as stack:
        sides: dict[str, Side] = {}
        for kind in PATHS:
            service = stack.enter_context(MeasuredService(options.workers, tls=options.tls))
            load = Load(
                service.port,
                options.clients,
                service.token,
                path=PATHS[kind],
                events=kind == "sse",
                tls=options.tls,
            )
            sides[kind] = service, stack.enter_context(load), _writer(service, options.size)
        for deliveries in options.load:
            rate = deliveries / options.clients
            rounds = [
                {kind: _round(side, rate, options.seconds) for kind, side in sides.items()}
                for _ in range(options.rounds)
            ]
            ratios = [row["sse"]["worker_us"] / row["websocket"]["worker_us"] for row in rounds]
            yield {
                "tls": options.tls,
                "clients": options.clients,
                "record_bytes": options.size,
                "deliveries_per_second": deliveries,
                **spread("ratio", ratios),
                **medians(rounds, 3),
            }


def _writer(service: MeasuredService, size: int) -> Writer:
    if size == REAL_BYTES:
        return Writer(service.brokers, RealRecords().build)
    return Writer(service.brokers, partial(padded, frame_bytes=size))


def _round(side: Side, rate: float, seconds: float) -> dict[str, float]:
    service, load, writer = side
    before = load.counts()
    found = deliver(service, load, writer, rate, seconds)
    after = load.counts()
    found["bytes"] = (after["bytes"] - before["bytes"]) / (after["frames"] - before["frames"])
    return {name: found[name] for name in _SHOWN}


def main() -> int:
    parser = arguments(__doc__, workers=1, clients=2000, rounds=6, seconds=5.0)
    parser.add_argument("--size", type=int, default=REAL_BYTES, help="bytes of a frame's payload")
    parser.add_argument(
        "--load", type=float, action="append", help="deliveries a second; default: 40000, 2000000"
    )
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    options.load = options.load or [40_000, 2_000_000]
    save(options.out, {"rows": collected(compare(options))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
