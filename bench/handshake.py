"""The cost of one connection, compared with an accept loop in C, in the same run.

    python -m bench.handshake                          2,000 clients, each kind of connection
    python -m bench.handshake --only tls --against ../before --out handshake.json

A connection is accepted, with TLS after its handshake, its request is answered with a 101, and a
first message follows; the C loop (kit/accept.c) does no more than that. Each server has its own
clients. In each round all clients lose their connections and come back, first to the worker and
then to the C loop, or the other way round, so that drift of the machine's speed favours neither.
The time is a process's CPU time in all its threads from the first connect until the last client has
its first message. No records are sent. The kinds:

plain         without TLS
tls           TLS 1.3 with a full handshake: ECDSA P-256, and one ticket
tls_sessions  each client resumes its session

--against: another working tree with its .venv, whose worker takes part in each round.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import psutil

from bench.kit.build import program
from bench.kit.line_process import LineProcess
from bench.kit.load import Load
from bench.kit.measuring import measured, medians, spread
from bench.kit.results import arguments, collected, save
from bench.kit.service import MeasuredService
from energyws.testing import eventually
from energyws.testing.certificates import write_pair

KINDS: Final = ("plain", "tls", "tls_sessions")
PATIENCE_SECONDS: Final = 60.0


class Server:
    """A server with its own clients.

    process: what is measured. connections: returns how many connections it has.
    """

    def __init__(self, process: psutil.Process, load: Load, connections: Callable[[], int]) -> None:
        self.load = load
        self._processes = {"server": process, "clients": psutil.Process(load.pid)}
        self.connections = connections
        self._reused = 0

    def run(self, resume: bool) -> tuple[float, float]:
        """CPU microseconds per connection: of the server, and of the clients."""
        self.load.drop()
        eventually(lambda: not self.connections(), "no connection is left", PATIENCE_SECONDS)
        with measured(self._processes) as used:
            self.load.again("-", 0)
            failed = self.load.settled()
        counts = self.load.counts()
        clients = counts["clients"]
        resumed, self._reused = counts["reused"] - self._reused, counts["reused"]
        if failed or resumed != clients * resume:
            raise SystemExit(f"{failed} of {clients} clients failed, {resumed} resumed")
        return used["server"] / clients * 1e6, used["clients"] / clients * 1e6


def worker(service: MeasuredService, load: Load) -> Server:
    """The only worker of a service."""
    process = service.processes()["worker-0"]
    return Server(process, load, lambda: service.totals()["connections"])


def accept_loop(process: LineProcess, load: Load) -> Server:
    """The loop in C."""
    return Server(psutil.Process(process.pid), load, lambda: int(process.ask("connections")))


@contextlib.contextmanager
def servers(kind: str, options: argparse.Namespace) -> Iterator[dict[str, Server]]:
    """The servers by name, each with its clients connected for the first time."""
    tls = kind != "plain"
    shared: dict[str, Any] = {"tls": tls, "sessions": kind == "tls_sessions"}
    with contextlib.ExitStack() as stack:
        found: dict[str, Server] = {}
        trees = {"worker": None, **({"other": options.against} if options.against else {})}
        for name, checkout in trees.items():
            service = stack.enter_context(MeasuredService(1, tls=tls, checkout=checkout))
            load = Load(service.port, options.clients, service.token, **shared)
            found[name] = worker(service, stack.enter_context(load))
        command: list[str | Path] = [program("accept", "ssl", "crypto")]
        if tls:
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            command += write_pair(Path(directory)).values()
        process = stack.enter_context(LineProcess(command))
        load = Load(process.answer(), options.clients, "none", **shared)
        found["c"] = accept_loop(process, stack.enter_context(load))
        yield found


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row per kind: medians over the rounds, and the extremes of the ratios."""
    for kind in options.only or KINDS:
        rows: list[dict[str, float]] = []
        with servers(kind, options) as found:
            # The first round warms the processes up.
            for number in range(options.rounds + 1):
                row: dict[str, float] = {}
                for name in sorted(found, reverse=bool(number % 2)):
                    server_us, clients_us = found[name].run(kind == "tls_sessions")
                    row |= {f"{name}_us": server_us, f"{name}_clients_us": clients_us}
                rows.append(row)
        rows = rows[1:]
        ratios = {"ratio": "c"} | ({"ratio_to_other": "other"} if options.against else {})
        result = {"kind": kind, **medians(rows, 1)}
        for ratio, to in ratios.items():
            result |= spread(ratio, [row["worker_us"] / row[f"{to}_us"] for row in rows])
        yield result


def main() -> int:
    parser = arguments(__doc__, clients=2_000, rounds=5)
    parser.add_argument("--only", choices=KINDS, action="append")
    parser.add_argument("--against", type=Path, metavar="TREE", help="another working tree")
    options = parser.parse_args()
    if options.against:
        options.against = options.against.resolve()
    save(options.out, {"clients": options.clients, "handshakes": collected(measure(options))})
    return 0


if __name__ == "__main__":
    sys.exit(main())
