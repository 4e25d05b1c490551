"""The cost of a delivery over Server-Sent Events, compared with one over WebSocket.

    python -m bench.sse                  2,000 clients, the real record, 40,000 and 2,000,000 a second
    python -m bench.sse --tls --rounds 3 --seconds 3

Two services, one with SSE clients and one with WebSocket clients, alternate, so that drift of the
machine's speed favours neither. The clients of both are the same program, which checks every
record. CPU times are those of all threads of the worker. Exits with status 1 if a client lost a
record or got one twice.
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

KINDS: Final = ("sse", "websocket")
_COSTS: Final = ("worker_us", "generator_us", "delay_p50_ms", "delay_p99_ms", "bytes_per_delivery")


def event_clients(service: MeasuredService, clients: int, tls: bool) -> Load:
    """Clients of the event stream, all of them subscribed when the block begins."""
    return Load(
        service.port, clients, service.token, path="/sse/energy?on_lag=skip", events=True, tls=tls
    )


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row per load, with the medians of each kind and the ratio of both."""
    build = RealRecords().build if options.size == REAL_BYTES else None
    with contextlib.ExitStack() as stack:
        sides = []
        for kind in KINDS:
            service = stack.enter_context(MeasuredService(options.workers, tls=options.tls))
            if kind == "sse":
                load = stack.enter_context(event_clients(service, options.clients, options.tls))
            else:
                load = stack.enter_context(service.load(options.clients))
            sides.append((service, load, Writer(service.brokers, build or partial(padded, frame_bytes=options.size))))
        for deliveries in options.load:
            rate = deliveries / options.clients
            rounds = []
            for _ in range(options.rounds):
                rounds.append({kind: _round(*side, rate, options.seconds) for kind, side in zip(KINDS, sides, strict=True)})
            yield {
                "tls": options.tls,
                "clients": options.clients,
                "bytes": options.size,
                "deliveries_per_second": deliveries,
                **medians(rounds, 3),
                **spread("ratio", [row["sse"]["worker_us"] / row["websocket"]["worker_us"] for row in rounds]),
            }
