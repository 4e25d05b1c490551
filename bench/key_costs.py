"""What keys cost a worker: a record that nobody wants, and a key that somebody has.

    python -m bench.key_costs --rounds 3

An unwanted record: CPU time of a worker per record, of a stream with keys whose clients have other
keys, and of a stream without keys whose clients are connected and not subscribed, alternating
between their two services. In smaller rings than docs/keyed.md recommends, clients would be told
their positions more often. A key: the growth of a worker's memory from clients with one key each to
as many with many keys each, per key; every key has one client, and every client its own token.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from typing import Any, Final

from bench.kit.crowds import Crowds
from bench.kit.measuring import measured, medians
from bench.kit.meters import Meters, stream, tokens
from bench.kit.results import arguments, save
from bench.kit.service import PATIENCE_SECONDS, MeasuredService
from energyws.testing import eventually

# Keys of clients lie above those of the records that nobody wants.
UNWANTED: Final = 10_000
SETTLE_SECONDS: Final = 3.0
# Twice server.position_seconds.
RING_SECONDS: Final = 40


def unwanted(options: argparse.Namespace) -> dict[str, Any]:
    """CPU microseconds of a worker per record."""
    history = {"max_frames": int(options.rate * RING_SECONDS), "max_bytes": 1 << 30}
    kinds: dict[str, dict[str, Any]] = {
        "keyed": {"streams": stream(), "history": history},
        "plain": {"history": history},
    }
    rounds: list[dict[str, float]] = []
    with contextlib.ExitStack() as stack:
        both = {}
        for kind, sections in kinds.items():
            service = stack.enter_context(MeasuredService(1, **sections))
            meters = Meters(service.brokers, lambda number: number % UNWANTED, options.bytes)
            both[kind] = service, meters
        owned = tokens([UNWANTED + client] for client in range(options.clients))
        crowds = stack.enter_context(Crowds(both["keyed"][0], options.clients, owned))
        # They cost what the others do while nothing comes.
        stack.enter_context(Crowds(both["plain"][0], options.clients, path="/ws/energy", count=2))
        before = crowds.counts()["frames"]
        for number in range(options.rounds + 1):
            costs = {}
            for kind, (service, meters) in both.items():
                costs[kind] = _cost(service, meters, options)
            # The first round fills the rings.
            if number:
                rounds.append({**costs, "difference": costs["keyed"] - costs["plain"]})
        assert crowds.counts()["frames"] == before, "a client got a record"
    return {"clients": options.clients, **medians(rounds, 2)}


def _cost(service: MeasuredService, meters: Meters, options: argparse.Namespace) -> float:
    worker = {"worker": service.processes()["worker-0"]}
    begun = service.boards()["worker-0"]["frames"]
    with measured(worker) as used:
        written = meters.write(options.rate, options.seconds)
        eventually(
            lambda: service.boards()["worker-0"]["frames"] >= begun + written,
            "the worker has every record",
            PATIENCE_SECONDS,
        )
    return used["worker"] / written * 1e6


def memory(options: argparse.Namespace) -> dict[str, Any]:
    """Bytes of a worker's memory per client with one key, and per further key."""
    rows = {}
    for keys in (1, options.keys):
        limits = {"keys_per_subscription": max(keys, 100)}
        with MeasuredService(1, streams=stream(), limits=limits) as service:
            worker = service.processes()["worker-0"]
            time.sleep(SETTLE_SECONDS)
            empty = worker.memory_full_info().pss
            clients = options.holders
            owned = tokens(range(client * keys, (client + 1) * keys) for client in range(clients))
            with Crowds(service, clients, owned):
                time.sleep(SETTLE_SECONDS)
                rows[keys] = (worker.memory_full_info().pss - empty) / clients
    return {
        "clients": options.holders,
        "keys_each": options.keys,
        "bytes_per_client_with_one_key": round(rows[1]),
        "bytes_per_key": round((rows[options.keys] - rows[1]) / (options.keys - 1)),
    }


def main() -> int:
    parser = arguments(
        __doc__,
        clients=5000,
        rate=5000.0,
        seconds=4.0,
        bytes=360,
        rounds=3,
    )
    parser.add_argument("--holders", type=int, default=4000, help="clients with many keys")
    parser.add_argument("--keys", type=int, default=50, help="keys of each of them")
    options = parser.parse_args()
    results = {"unwanted_us": unwanted(options), "memory": memory(options)}
    for name, row in results.items():
        print(name, *(f"{what}={value}" for what, value in row.items()))
    save(options.out, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
