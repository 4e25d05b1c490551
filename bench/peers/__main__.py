"""The cost of a delivery on other servers, compared with energyws in the same run.

    python -m bench.peers                                 all peers, plain and TLS
    python -m bench.peers --list                          the peers, their versions, missing tools
    python -m bench.peers --only axum,ws --plain --rounds 2 --out peers.json

Each peer runs beside an energyws service, each with its own clients, and rounds alternate between
the two at the same rate. If a peer does not sustain a load, both are measured at the highest load
that the peer sustains; energyws at the full load has its own row. CPU times are those of all
threads of a process: for energyws the worker's, and separately those of worker and consumer
together. Without TLS, a second energyws service, with `server.io_uring: off`, is the first peer.
"""

from __future__ import annotations

import argparse
import contextlib
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from bench.fanout import REAL_BYTES
from bench.kit import io_uring
from bench.kit.measuring import medians, spread
from bench.kit.record import RealRecords, padded
from bench.kit.results import arguments, save
from bench.kit.writer import Build
from bench.peers import building, plan
from bench.peers.catalogue import PEERS, Peer, missing, versions
from bench.peers.ours import Energyws, WithoutIoUring
from bench.peers.running import Running

# The length of a trial while searching for the rate that a peer sustains.
_TRY_SECONDS = 1.5


class Beside:
    """One peer, restarted whenever it has lost messages or clients."""

    def __init__(self, peer: Peer, clients: int, tls: bool) -> None:
        self.name = peer.name
        self._start = partial(Running, peer, building.command(peer), clients, tls)
        self._running = self._start()
        self.rss_connected = self._running.rss_connected

    def rss_used(self) -> float:
        return self._running.rss_used()

    def run(self, build: Build, rate: float, seconds: float) -> dict[str, float]:
        """One run; restarts the peer first if it is broken."""
        if self._running.broken:
            self.close()
            self._running = self._start()
        return self._running.run(build, rate, seconds)

    def close(self) -> None:
        self._running.close()


def compare(
    energyws: Energyws,
    peer: Beside | WithoutIoUring,
    build: Build,
    rate: float,
    options: argparse.Namespace,
) -> dict[str, Any]:
    """Alternating rounds of both; medians, and the ratios of the rounds."""
    ours, theirs = [], []
    for number in range(options.rounds):
        # The order alternates, so that after-effects of one run affect both equally.
        for first in (number % 2, 1 - number % 2):
            if first:
                theirs.append(peer.run(build, rate, options.seconds))
            else:
                ours.append(energyws.run(build, rate, options.seconds))
    pairs = list(zip(theirs, ours, strict=True))
    return {
        **medians(theirs, 3),
        "lost": sum(row["lost"] for row in theirs),
        "kept_up": all(
            plan.kept_up(options.seconds, row["seconds"], int(row["lost"])) for row in theirs
        ),
        "energyws": medians(ours, 3),
        "worker": spread("ratio", [peer["us"] / own["worker_us"] for peer, own in pairs], 2),
        "service": spread(
            "ratio",
            [
                # Only a service of energyws has a consumer of its own.
                (peer["us"] + peer.get("consumer_us", 0.0))
                / (own["worker_us"] + own["consumer_us"])
                for peer, own in pairs
            ],
            2,
        ),
    }


def measure_peer(
    energyws: Energyws,
    peer: Beside | WithoutIoUring,
    builds: dict[int, Build],
    options: argparse.Namespace,
) -> Iterator[dict[str, Any]]:
    """One row for each size and load that the peer sustains."""
    for size, build in builds.items():

        def sustains(load: float, build: Build = build) -> bool:
            row = peer.run(build, load / options.clients, _TRY_SECONDS)
            return plan.kept_up(_TRY_SECONDS, row["seconds"], int(row["lost"]))

        known = 0.0
        done: set[float] = set()
        for target in sorted(options.load):
            known = plan.sustained(target, known, sustains)
            if not known or known in done:
                continue
            done.add(known)
            yield {
                "bytes": size,
                "target": target,
                "load": round(known),
                **compare(energyws, peer, build, known / options.clients, options),
                "rss_kb_connected": round(peer.rss_connected, 1),
                "rss_kb_used": round(peer.rss_used(), 1),
            }


def measure_energyws(
    energyws: Energyws, builds: dict[int, Build], options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """The service alone, at every load."""
    for size, build in builds.items():
        for load in sorted(options.load):
            rate = load / options.clients
            rows = [energyws.run(build, rate, options.seconds) for _ in range(options.rounds)]
            yield {
                "bytes": size,
                "target": load,
                "load": round(load),
                "io_uring": energyws.io_uring(),
                "energyws": medians(rows, 3),
                "rss_kb_connected": round(energyws.rss_connected, 1),
                "rss_kb_used": round(energyws.rss_used(), 1),
            }


def measure(peers: list[Peer], options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    builds: dict[int, Build] = {
        size: RealRecords().build if size == REAL_BYTES else partial(padded, frame_bytes=size)
        for size in options.size
    }
    for tls in options.tls:
        first, *second = io_uring.settings(options, tls=tls)
        starts: list[Callable[[], Beside | WithoutIoUring]] = [
            partial(Beside, peer, options.clients, tls) for peer in peers
        ]
        if second:
            starts.insert(0, partial(WithoutIoUring, options.clients))
        with contextlib.closing(Energyws(options.clients, tls, first)) as energyws:
            for row in measure_energyws(energyws, builds, options):
                yield {"peer": "energyws", "tls": tls, **row}
            for start in starts:
                with contextlib.closing(start()) as beside:
                    for row in measure_peer(energyws, beside, builds, options):
                        yield {"peer": beside.name, "tls": tls, **row}


def show(row: dict[str, Any]) -> None:
    flat = {
        f"{outer}.{inner}" if inner else outer: figure
        for outer, value in row.items()
        for inner, figure in (value.items() if isinstance(value, dict) else [("", value)])
    }
    print(" ".join(f"{name}={value}" for name, value in flat.items()), flush=True)


def parse() -> argparse.Namespace:
    parser = arguments(__doc__, prog="python -m bench.peers", clients=2000, rounds=3, seconds=3.0)
    names = [peer.name for peer in PEERS]
    parser.add_argument("--list", action="store_true", help="name the peers and run nothing")
    parser.add_argument(
        "--only", default=",".join(names), help="names of peers, separated by commas"
    )
    parser.add_argument("--size", type=int, action="append", help="default: 440 and 1138 bytes")
    parser.add_argument(
        "--load", type=float, action="append", help="deliveries a second; default: 40000, 2000000"
    )
    io_uring.add_argument(parser)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--plain", dest="tls", action="store_const", const=[False])
    kind.add_argument("--tls", dest="tls", action="store_const", const=[True])
    options = parser.parse_args()
    unknown = set(options.only.split(",")) - set(names)
    if unknown:
        parser.error(
            f"no such peer: {', '.join(sorted(unknown))}; the peers are {', '.join(names)}"
        )
    options.peers = [peer for peer in PEERS if peer.name in options.only.split(",")]
    options.size = options.size or [440, REAL_BYTES]
    options.load = options.load or [40_000, 2_000_000]
    options.tls = options.tls or [False, True]
    return options


def main() -> int:
    options = parse()
    # Inherited by the peers, since some do not raise it themselves.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    able: list[Peer] = []
    skipped: dict[str, str] = {}
    made: dict[str, dict[str, str]] = {}
    for peer in options.peers:
        reason = missing(peer)
        if reason is None and not options.list:
            print(f"building {peer.name}", file=sys.stderr)
            try:
                building.command(peer)
            except subprocess.CalledProcessError as error:
                reason = f"it cannot be built: {error}"
        if reason is None:
            able.append(peer)
            made[peer.name] = {**versions(peer), **building.toolchain(peer)}
            listed = ", ".join(f"{name} {number}" for name, number in made[peer.name].items())
            print(f"{peer.name}: {listed}")
        else:
            skipped[peer.name] = reason
            print(f"{peer.name} is skipped: {reason}")
    if options.list:
        return 0
    rows: list[dict[str, Any]] = []
    try:
        for row in measure(able, options):
            show(row)
            rows.append(row)
    finally:
        # Save the results even if a long run is interrupted.
        for name in made.keys() - {row["peer"] for row in rows}:
            skipped[name] = "the run ended before it, or it sustained no load"
        found = {name: number for one in made.values() for name, number in one.items()}
        results = {"clients": options.clients, "peers": made, "skipped": skipped, "rows": rows}
        save(options.out, results, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
