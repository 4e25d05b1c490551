"""How operator actions on a running service affect its clients.

    python -m bench.deploy --clients 2000 --rate 10
    python -m bench.deploy --replicas --clients 10000 --rate 1 --ceiling 200

Without --replicas, one service with TLS is scaled from one worker to four and down to two,
rebalanced, has all its processes replaced (USR2), and its certificate and secret changed (HUP).
With it, there are two services behind HAProxy: one is drained and restarted, then the other, as in
a deployment. The connects in each second are compared with a ceiling, from which
server.drain_seconds follows as in docs/operations.md.

Every client is checked, as in bench.faults, and newcomers connect all the time. A pause is the
longest time that a client received nothing, minus the interval of records. Exits with status 1 if a
client lost a record or got one twice or out of order, if a connection was refused, or if the
connects in any second of a deployment exceeded the ceiling.
"""

from __future__ import annotations

import argparse
import os
import signal
import ssl
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

from bench.deploy.haproxy import haproxy
from bench.deploy.stage import PATIENCE_SECONDS, Stage, Step
from bench.faults.brokers import open_broker
from bench.faults.crowd import Crowd
from bench.faults.producer import Producer
from bench.faults.service import BreakableService, free_port
from bench.faults.strangers import Newcomers
from bench.kit.record import PARTITIONS
from bench.kit.results import arguments, save
from energyws.auth.verifier import mint
from energyws.control.admin.client import AdminClient
from energyws.settings import Admin
from energyws.testing import config, eventually
from energyws.testing.certificates import write_pair

RECORD_BYTES: Final = 440
# The busiest second relative to the mean, since clients reconnect after random delays.
CEILING_MARGIN: Final = 1.25
# A replica keeps accepting until HAProxy has noticed that it is about to drain, and that the other
# replica is back: two health checks, plus a margin for a busy machine.
DRAIN_DELAY_SECONDS: Final = 3.0
SECRETS: Final = ("the-first-secret-of-the-measurement!", "the-second-secret-of-the-measurement")
_TOKEN_SECONDS: Final = 86_400

until = partial(eventually, seconds=PATIENCE_SECONDS, interval=0.05)


def token(secret: str) -> str:
    return mint(secret, "deploy", _TOKEN_SECONDS, time.time())


class Surroundings:
    """Broker, services, clients and traffic; all are closed with the stack."""

    def __init__(self, stack: ExitStack, options: argparse.Namespace) -> None:
        self._stack = stack
        self._options = options
        self.directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="energyws-deploy-"))
        )
        self._broker = stack.enter_context(open_broker("embedded"))
        self._topic = f"deploy-{os.getpid()}"
        self._broker.create_topic(self._topic, PARTITIONS)

    def service(self, name: str, **server: Any) -> BreakableService:
        """A ready service with one worker and its own ports."""
        server = {
            "port": free_port(),
            "max_connections": 100_000,
            "workers": 1,
            "drain_seconds": self._options.drain_seconds,
            "close_timeout_seconds": 3,
            **server,
        }
        chosen = config(
            self._broker.bootstrap,
            self._topic,
            server=server,
            auth={"jwt_secret": SECRETS[0]},
            admin={"port": free_port()},
            log={"level": "INFO"},
        )
        return self._stack.enter_context(BreakableService(self.directory / name, chosen)).ready()

    def stage(self, port: int, trust: ssl.SSLContext | None, pause: float) -> Stage:
        """Clients of this port, newcomers `pause` seconds apart, and traffic."""
        url = f"{'wss' if trust else 'ws'}://127.0.0.1:{port}/ws/energy"
        bearer, rate = token(SECRETS[0]), self._options.rate
        crowd = self._stack.enter_context(Crowd(url, self._options.clients, bearer))
        crowd.ready()
        newcomers = self._stack.enter_context(
            Newcomers(port, bearer=bearer, trust=trust, pause=pause)
        )
        producer = self._stack.enter_context(
            Producer(self._broker.direct, self._topic, rate=rate, record_bytes=RECORD_BYTES)
        )
        return Stage(producer, crowd, newcomers, rate)


def one_service(around: Surroundings, clients: int) -> list[Step]:
    """All operator actions on one service."""
    pair, new_pair = (write_pair(around.directory, name=name) for name in ("first", "second"))
    # Clients trust both certificates from the start (OpenSSL reads this variable).
    bundle = around.directory / "trusted.pem"
    bundle.write_text(Path(pair["cert"]).read_text() + Path(new_pair["cert"]).read_text())
    os.environ["SSL_CERT_FILE"] = str(bundle)
    service = around.service("one", tls=pair)
    admin = AdminClient(Admin(port=service.admin_port))
    stage = around.stage(service.port, ssl.create_default_context(cafile=str(bundle)), 0.01)

    def settled(workers: int) -> bool:
        children = service.admin("/workers")[1] or []
        return len(children) == workers + 1 and all(c["state"] == "ready" for c in children)

    def scale(workers: int) -> None:
        admin.post("/workers", {"workers": workers})
        until(lambda: settled(workers), f"{workers} workers")

    def rebalance() -> None:
        admin.post("/rebalance", None)

        def fair() -> bool:
            boards = service.boards().items()
            loads = [board["connections"] for name, board in boards if name != "consumer"]
            most = 1.3 * clients / len(loads)
            return bool(sum(loads) >= clients and max(loads) < most)

        until(fair, "every worker has its share of the clients")

    def replace() -> None:
        before = {name: child.pid for name, child in service.children().items()}
        service.signal(signal.SIGUSR2)

        def done() -> bool:
            now = {name: child.pid for name, child in service.children().items()}
            return settled(2) and not before.items() & now.items()

        until(done, "all processes are replaced")

    def reload() -> None:
        service.config["server"]["tls"] = new_pair
        # Otherwise the connections with tokens of the old one would end.
        service.config["auth"] = {"jwt_secret": SECRETS[1], "jwt_secret_previous": SECRETS[0]}
        service.write_config()
        # From here on, newcomers use the new token; none connects before it is valid.
        with stage.newcomers.held:
            service.signal(signal.SIGHUP)
            until(
                lambda: all(board["reloads"] for board in service.boards().values()),
                "all processes have the new settings",
            )
            stage.newcomers.bearer = token(SECRETS[1])
            stage.crowd.bearer(stage.newcomers.bearer)
        address = ("127.0.0.1", service.port)
        assert ssl.get_server_certificate(address) == Path(new_pair["cert"]).read_text()

    stage.step("scale 1 to 4", lambda: scale(4))
    stage.step("rebalance", rebalance)
    stage.step("scale 4 to 2", lambda: scale(2))
    stage.step("replace all processes (USR2)", replace)
    stage.step("new certificate and secret (HUP)", reload)
    stage.step("replace all processes again, with these", replace)
    return stage.steps


def two_replicas(around: Surroundings, clients: int) -> list[Step]:
    """A deployment: each replica in turn is drained and restarted."""
    replicas = {
        name: around.service(name, drain_delay_seconds=DRAIN_DELAY_SECONDS) for name in "ab"
    }
    with haproxy(around.directory, list(replicas.values()), clients) as port:
        stage = around.stage(port, None, 0.05)

        def deploy(replica: BreakableService) -> None:
            replica.signal(signal.SIGTERM)
            drain_seconds: float = replica.config["server"]["drain_seconds"]
            assert replica.wait(drain_seconds + PATIENCE_SECONDS) == 0
            replica.start().ready()

        for name, replica in replicas.items():
            stage.step(f"drain replica {name}", partial(deploy, replica))
        return stage.steps


def main() -> int:
    parser = arguments(__doc__, prog="python -m bench.deploy", clients=2000, rate=10.0)
    parser.add_argument("--drain-seconds", type=float, default=10, help="of one service")
    parser.add_argument("--replicas", action="store_true", help="a deployment of two replicas")
    parser.add_argument(
        "--ceiling", type=float, default=200, help="connects a second, with --replicas"
    )
    options = parser.parse_args()
    if options.replicas:
        options.drain_seconds = round(CEILING_MARGIN * options.clients / options.ceiling, 1)
    measure = two_replicas if options.replicas else one_service
    with ExitStack() as stack:
        steps = measure(Surroundings(stack, options), options.clients)
    busiest = max(max(step.connects_each_second, default=0) for step in steps)
    results: dict[str, Any] = {
        "clients": options.clients,
        "records_a_second": options.rate,
        "drain_delay_seconds": DRAIN_DELAY_SECONDS if options.replicas else 0.0,
        "drain_seconds": options.drain_seconds,
        "ceiling": options.ceiling if options.replicas else None,
        "busiest_second": busiest,
        "steps": [asdict(step) for step in steps],
    }
    save(options.out, results)
    bad = any(step.problems or step.failed or step.newcomers_refused for step in steps)
    return 1 if bad or (options.replicas and busiest > options.ceiling) else 0


if __name__ == "__main__":
    sys.exit(main())
