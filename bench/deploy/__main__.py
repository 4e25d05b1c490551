"""What operators do to a running service, under clients and traffic: who notices, and how much?

    python -m bench.deploy --clients 2000 --rate 10
    python -m bench.deploy --replicas --clients 10000 --rate 1 --ceiling 200

Without --replicas, one service over TLS: it is scaled from one worker to four and down to two,
rebalanced, all its processes are replaced (USR2), and certificate and secret are changed (HUP).
With it, two services behind HAProxy: one is drained and started again, then the other, as a
deployment does; the connects of each second are recorded against a ceiling, from which follows
server.drain_seconds as docs/operations.md has it.

Every client is checked, as in bench.faults; newcomers connect all the time beside them. A pause is
the longest time that a client had nothing, less the records' interval. Ends with status 1 if a
client lost, got twice or got out of order anything, if anybody was refused, or if more than the
ceiling connected in any second of a deployment.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import os
import resource
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import orjson
from picows import WSListener, ws_connect

from bench.faults.brokers import open_broker
from bench.faults.crowd import Crowd
from bench.faults.fault import Losses
from bench.faults.judge import judge
from bench.faults.producer import Producer
from bench.faults.service import Service, free_port
from bench.kit.measuring import percentile
from bench.kit.record import PARTITIONS
from bench.kit.results import save
from energyws.auth.verifier import mint
from energyws.control.admin.client import AdminClient
from energyws.settings import Admin
from energyws.testing import config as service_config

PATIENCE_SECONDS: Final = 60.0
RECORD_BYTES: Final = 440
# A second may bring that much more than the mean, since clients come back after a random time.
CEILING_MARGIN: Final = 1.25
# A replica goes on for so long until HAProxy has noticed that it is about to drain, and that the
# other one, which was drained before, is back: two of its looks, and some time on a busy machine.
DRAIN_DELAY_SECONDS: Final = 3.0
SECRETS: Final = ("the-first-secret-of-the-measurement!", "the-second-secret-of-the-measurement")
_TOKEN_SECONDS: Final = 86_400


def token(secret: str) -> str:
    """A token that is good for the whole measurement."""
    return mint(secret, "deploy", _TOKEN_SECONDS, time.time())


def until(condition: Callable[[], Any], what: str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {PATIENCE_SECONDS:g} s: {what}")
        time.sleep(0.05)


class Newcomers:
    """Somebody connects all the time, one after the other, `pause` seconds apart."""

    def __init__(self, url: str, bearer: str, trust: ssl.SSLContext | None, pause: float) -> None:
        self.bearer = bearer
        self.welcome = 0
        self.refused: Counter[str] = Counter()
        # Nobody comes while it is held.
        self.held = threading.Lock()
        self._url = url
        self._trust = trust
        self._pause = pause
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join(PATIENCE_SECONDS)

    async def _run(self) -> None:
        while not self._stop.wait(self._pause):
            with self.held:
                await self._come()

    async def _come(self) -> None:
        try:
            transport, _ = await ws_connect(
                WSListener,
                self._url,
                ssl_context=self._trust,
                extra_headers={"Authorization": f"Bearer {self.bearer}"},
            )
        except Exception as error:
            self.refused[f"{type(error).__name__}: {str(error)[:80]}"] += 1
        else:
            self.welcome += 1
            transport.disconnect()
            await transport.wait_disconnected()


@dataclass
class Step:
    """What came of one thing that an operator did. Times in seconds.

    failed: attempts of the checked clients to connect that were refused or broke off.
    """

    name: str
    seconds: float
    reconnects: int
    failed: int
    newcomers: int
    newcomers_refused: int
    gaps: int
    duplicates: int
    reorderings: int
    pause_median: float
    pause_p99: float
    pause_longest: float
    connects_each_second: list[int] = field(repr=False)
    problems: list[str] = field(default_factory=list)


class Stage:
    """Producer, crowd and newcomers at one address."""

    def __init__(self, producer: Producer, crowd: Crowd, newcomers: Newcomers, rate: float) -> None:
        self.producer = producer
        self.crowd = crowd
        self.newcomers = newcomers
        self.steps: list[Step] = []
        self._rate = rate

    def everybody_has_everything(self) -> None:
        """Wait until every client has a record that is written after this call."""
        self.crowd.reach(self.producer.newer(PATIENCE_SECONDS), PATIENCE_SECONDS)

    def step(self, name: str, act: Callable[[], None]) -> None:
        """Do it, and judge what came of it."""
        self.everybody_has_everything()
        before = self.crowd.mark()
        newcomers = self.newcomers.welcome, self.newcomers.refused.total()
        began = time.monotonic()
        act()
        seconds = time.monotonic() - began
        self.everybody_has_everything()
        seen = self.crowd.report()
        verdict = judge(seen, self.producer.facts(), [set() for _ in range(PARTITIONS)], Losses())
        pauses = [max(0.0, silence - 1 / self._rate) for silence in seen["silences"]]
        micros = [int(pause * 1e6) for pause in pauses]
        each = Counter(int(at - began) for at in seen["connected_at"])
        step = Step(
            name=name,
            seconds=round(seconds, 2),
            reconnects=seen["connects"] - before["connects"],
            failed=seen["failed"] - before["failed"],
            newcomers=self.newcomers.welcome - newcomers[0],
            newcomers_refused=self.newcomers.refused.total() - newcomers[1],
            gaps=verdict.gaps,
            duplicates=verdict.duplicates,
            reorderings=verdict.reorderings,
            pause_median=round(percentile(micros, 0.5) / 1e6, 3),
            pause_p99=round(percentile(micros, 0.99) / 1e6, 3),
            pause_longest=round(max(pauses), 3),
            connects_each_second=[each[second] for second in range(max(each, default=-1) + 1)],
            problems=list(verdict.problems),
        )
        self.steps.append(step)
        print(step, flush=True)


def make_certificate(directory: Path, number: int) -> tuple[str, str]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    cert, key = directory / f"{number}.crt", directory / f"{number}.key"
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 "
        f"-keyout {key} -out {cert}".split(),
        check=True,
        capture_output=True,
    )
    return str(cert), str(key)


def service_of(
    stack: ExitStack, directory: Path, brokers: str, topic: str, server: dict[str, Any]
) -> Service:
    """A service that is ready, with ports of its own."""
    directory.mkdir()
    chosen = service_config(
        brokers,
        topic,
        server={"port": free_port(), "max_connections": 100_000, **server},
        auth={"jwt_secret": SECRETS[0]},
        admin={"port": free_port()},
        log={"level": "INFO"},
    )
    service = stack.enter_context(Service(directory, chosen, {}))
    return service.start().ready()


def one_service(stack: ExitStack, options: argparse.Namespace, directory: Path) -> list[Step]:
    """Everything that is done to one service."""
    broker = stack.enter_context(open_broker("embedded"))
    topic = f"deploy-{os.getpid()}"
    broker.create_topic(topic, PARTITIONS)
    (cert, key), (new_cert, new_key) = (make_certificate(directory, n) for n in (1, 2))
    # Clients trust both from the beginning (OpenSSL reads this variable).
    bundle = directory / "trusted.pem"
    bundle.write_text(Path(cert).read_text() + Path(new_cert).read_text())
    os.environ["SSL_CERT_FILE"] = str(bundle)
    tls = {"cert": cert, "key": key}
    drain = {"drain_seconds": options.drain_seconds, "close_timeout_seconds": 3}
    service = service_of(
        stack, directory / "one", broker.bootstrap, topic, {"workers": 1, "tls": tls, **drain}
    )
    remote = AdminClient(Admin(port=service.config["admin"]["port"]))
    crowd = stack.enter_context(Crowd(service.url, options.clients, token(SECRETS[0])))
    crowd.ready()
    trust = ssl.create_default_context(cafile=str(bundle))
    newcomers = stack.enter_context(Newcomers(service.url, token(SECRETS[0]), trust, 0.01))
    producer = stack.enter_context(
        Producer(broker.direct, topic, rate=options.rate, record_bytes=RECORD_BYTES)
    )
    stage = Stage(producer, crowd, newcomers, options.rate)

    def settled(workers: int) -> bool:
        children = service.admin("/workers")[1] or []
        return len(children) == workers + 1 and all(c["state"] == "ready" for c in children)

    def scale(workers: int) -> None:
        remote.post("/workers", {"workers": workers})
        until(lambda: settled(workers), f"{workers} workers")

    def rebalance() -> None:
        remote.post("/rebalance", None)

        def fair() -> bool:
            children = service.admin("/workers")[1]
            loads = [c["board"]["connections"] for c in children if c["name"] != "consumer"]
            most = 1.3 * options.clients / len(loads)
            return bool(sum(loads) >= options.clients and max(loads) < most)

        until(fair, "everybody has a share")

    def replace() -> None:
        before = {name: child.pid for name, child in service.children().items()}
        service.signal(signal.SIGUSR2)

        def done() -> bool:
            now = {name: child.pid for name, child in service.children().items()}
            return settled(2) and not before.items() & now.items()

        until(done, "all processes are others")

    def reload() -> None:
        service.config["server"]["tls"] = {"cert": new_cert, "key": new_key}
        service.config["auth"]["jwt_secret"] = SECRETS[1]
        service.write()
        # Whoever comes has the new token from here on; until it is good, nobody comes.
        with newcomers.held:
            service.signal(signal.SIGHUP)
            until(
                lambda: all(c["board"]["reloads"] for c in service.admin("/workers")[1]),
                "all have the new settings",
            )
            newcomers.bearer = token(SECRETS[1])
            crowd.bearer(newcomers.bearer)
        address = ("127.0.0.1", service.port)
        assert ssl.get_server_certificate(address) == Path(new_cert).read_text()

    stage.step("scale 1 to 4", lambda: scale(4))
    stage.step("rebalance", rebalance)
    stage.step("scale 4 to 2", lambda: scale(2))
    stage.step("replace all processes (USR2)", replace)
    stage.step("new certificate and secret (HUP)", reload)
    stage.step("replace all processes again, with these", replace)
    return stage.steps


@contextmanager
def haproxy(directory: Path, services: list[Service], clients: int) -> Iterator[int]:
    """HAProxy before these; it asks their /ready. On which port it listens.

    A client takes two of its descriptors: where one process may not have so many, several share
    the port (SO_REUSEPORT).
    """
    port = free_port()
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Newcomers, and those that come back before their old connection is gone, want some more.
    processes = math.ceil(3 * clients / descriptors)
    servers = "\n".join(
        f"  server replica-{number} 127.0.0.1:{service.port} check port "
        f"{service.config['admin']['port']} inter 1s fastinter 250ms fall 2 rise 1"
        for number, service in enumerate(services)
    )
    path = directory / "haproxy.cfg"
    path.write_text(
        "defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1h\n  timeout server 1h\n"
        # As config/proxies/haproxy.cfg has it, and why.
        "  timeout check 5s\n"
        f"  retries 3\n  option redispatch\nlisten energyws\n  bind 127.0.0.1:{port}\n"
        f"  maxconn {descriptors // 3}\n  balance leastconn\n"
        f"  option httpchk GET /ready\n{servers}\n"
    )
    with ExitStack() as stack:
        for _ in range(processes):
            command = ["haproxy", "-db", "-f", str(path)]
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            stack.callback(process.wait, PATIENCE_SECONDS)
            stack.callback(process.terminate)
        # Their first look at the replicas.
        time.sleep(1.0)
        yield port


def two_replicas(stack: ExitStack, options: argparse.Namespace, directory: Path) -> list[Step]:
    """A deployment: one replica after the other is drained, and started again."""
    broker = stack.enter_context(open_broker("embedded"))
    topic = f"deploy-{os.getpid()}"
    broker.create_topic(topic, PARTITIONS)
    server = {
        "workers": 1,
        "drain_delay_seconds": DRAIN_DELAY_SECONDS,
        "drain_seconds": options.drain_seconds,
        "close_timeout_seconds": 3,
    }
    replicas = [
        service_of(stack, directory / name, broker.bootstrap, topic, server) for name in "ab"
    ]
    port = stack.enter_context(haproxy(directory, replicas, options.clients))
    url = f"ws://127.0.0.1:{port}/ws/energy"
    crowd = stack.enter_context(Crowd(url, options.clients, token(SECRETS[0])))
    crowd.ready()
    newcomers = stack.enter_context(Newcomers(url, token(SECRETS[0]), None, 0.05))
    producer = stack.enter_context(
        Producer(broker.direct, topic, rate=options.rate, record_bytes=RECORD_BYTES)
    )
    stage = Stage(producer, crowd, newcomers, options.rate)

    def deploy(replica: Service) -> None:
        replica.signal(signal.SIGTERM)
        assert replica.wait(options.drain_seconds + PATIENCE_SECONDS) == 0
        replica.start().ready()

    for name, replica in zip("ab", replicas, strict=True):
        stage.step(f"drain replica {name}", lambda replica=replica: deploy(replica))  # type: ignore[misc]
    return stage.steps


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.deploy", description=__doc__)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=10, help="records a second")
    parser.add_argument("--drain-seconds", type=float, default=10, help="of one service")
    parser.add_argument("--replicas", action="store_true", help="a deployment of two replicas")
    parser.add_argument("--ceiling", type=float, default=200, help="connects a second, of replicas")
    parser.add_argument("--out", help="write the results here, as JSON")
    options = parser.parse_args()
    if options.replicas:
        options.drain_seconds = round(CEILING_MARGIN * options.clients / options.ceiling, 1)
    with ExitStack() as stack:
        directory = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="energyws-deploy-"))
        )
        measure = two_replicas if options.replicas else one_service
        steps = measure(stack, options, directory)
    busiest = max(max(step.connects_each_second, default=0) for step in steps)
    results: dict[str, Any] = {
        "clients": options.clients,
        "records_a_second": options.rate,
        "drain_delay_seconds": DRAIN_DELAY_SECONDS if options.replicas else 0.0,
        "drain_seconds": options.drain_seconds,
        "ceiling": options.ceiling if options.replicas else None,
        "busiest_second": busiest,
        "steps": steps,
    }
    save(options.out, orjson.loads(orjson.dumps(results)))
    bad = any(step.problems or step.failed or step.newcomers_refused for step in steps)
    return 1 if bad or (options.replicas and busiest > options.ceiling) else 0


if __name__ == "__main__":
    sys.exit(main())
