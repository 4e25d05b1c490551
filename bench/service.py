"""The real service, its broker, its load and its records, for measurements."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import orjson
import psutil
from confluent_kafka import Producer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bench.load import Load
from bench.record import PARTITIONS
from energyws.auth.verifier import mint
from energyws.testing.broker_process import BrokerProcess

TOPIC: Final = "bench"
PATIENCE_SECONDS: Final = 120.0
_PORT: Final = re.compile(r" listening .*\bport=([0-9]+)")
_PACKAGES: Final = ("energyws", "picows", "aiofastnet", "uvloop", "pyzmq", "confluent-kafka")


class Service:
    """`energyws serve` with ports of its own, on an embedded broker or on the one at `brokers`.

    checkout: another working tree, whose code and `.venv` the service is started from.
    """

    program: ClassVar = "energyws.cli"

    def __init__(
        self,
        workers: int,
        *,
        tls: bool = False,
        brokers: str | None = None,
        checkout: Path | None = None,
        **sections: dict[str, Any],
    ) -> None:
        self._tls = tls
        self._stack = contextlib.ExitStack()
        # The embedded broker answers a waiting fetch only when its time is up.
        options = {"fetch.wait.max.ms": 5} if brokers is None else {}
        if brokers is None:
            embedded = self._stack.enter_context(BrokerProcess({TOPIC: PARTITIONS}))
            brokers = embedded.bootstrap
        self.brokers = brokers
        directory = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix="energyws-bench-"))
        )
        self._secret = secrets.token_hex(32)
        config: dict[str, Any] = {
            "kafka": {
                "brokers": self.brokers,
                "topic": TOPIC,
                "options": options,
            },
            "server": {
                "host": "127.0.0.1",
                "port": 0,
                "workers": workers,
                "max_connections": 100_000,
                "drain_seconds": 0,
            },
            "auth": {"jwt_secret": self._secret},
            "admin": {"port": 0},
            # A line per client would be measured too.
            "log": {"level": "INFO"},
        }
        if tls:
            cert, key = certificate(directory)
            config["server"]["tls"] = {"cert": str(cert), "key": str(key)}
        for name, values in sections.items():
            config[name] = {**config.get(name, {}), **values}
        path = directory / "config.yaml"
        path.write_bytes(orjson.dumps(config))
        python = sys.executable if checkout is None else checkout / ".venv/bin/python"
        self._process = subprocess.Popen(
            [python, "-m", self.program, "serve", f"--config={path}"],
            cwd=checkout,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._ports: list[int] = []
        self._ready = threading.Event()
        self._troubles: list[str] = []
        self._log = threading.Thread(target=self._read_log, args=(workers + 1,))
        self._log.start()

    def __enter__(self) -> Self:
        if not self._ready.wait(PATIENCE_SECONDS):
            self.__exit__()
            raise RuntimeError("the service did not become ready")
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.join()
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._stack.close()
        for line in self._troubles:
            print(line, file=sys.stderr)

    def _read_log(self, processes: int) -> None:
        assert self._process.stderr is not None
        ready = 0
        for line in self._process.stderr:
            if match := _PORT.search(line):
                self._ports.append(int(match[1]))
            ready += line.endswith(" ready\n")
            if ready == processes:
                self._ready.set()
            if " ERROR " in line:
                self._troubles.append(line.rstrip())

    @property
    def port(self) -> int:
        """Where clients connect."""
        return self._ports[0]

    @property
    def admin_port(self) -> int:
        """Where operators look."""
        return self._ports[1]

    @property
    def token(self) -> str:
        """A good token."""
        return mint(self._secret, "bench", 86_400, time.time())

    def tokens(self, count: int) -> list[str]:
        """Good tokens of as many subjects."""
        now = time.time()
        return [mint(self._secret, f"bench-{number}", 86_400, now) for number in range(count)]

    def processes(self) -> dict[str, psutil.Process]:
        """supervisor, consumer, worker-0, …"""
        supervisor = psutil.Process(self._process.pid)
        found = {"supervisor": supervisor}
        for child in supervisor.children():
            name = next(a for a in child.cmdline() if a.startswith("--name="))
            found[name.removeprefix("--name=")] = child
        return found

    def load(self, clients: int) -> Load:
        """So many subscribed clients."""
        return Load(self.port, clients, self.token, tls=self._tls).ready()

    def boards(self) -> dict[str, dict[str, Any]]:
        """What each process says of itself, by the names that /workers has."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/workers") as answer:
            return {child["name"]: child["board"] for child in orjson.loads(answer.read())}

    def totals(self) -> dict[str, int]:
        """What all processes have counted so far, by the names that /workers has."""
        counted: Counter[str] = Counter()
        for board in self.boards().values():
            counted.update({name: value for name, value in board.items() if type(value) is int})
        return counted


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key (ECDSA P-256), as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    pem = serialization.Encoding.PEM
    paths[0].write_bytes(made.public_bytes(pem))
    form, nobody = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(pem, form, nobody))
    return paths


def paced(rate: float, seconds: float) -> Iterator[int]:
    """How many records are due, each time that some are: evenly `rate` a second for so long."""
    began = time.monotonic()
    count = int(rate * seconds)
    # Up to a hundred instants a second; beyond that several records share one.
    step = max(1, int(rate / 100))
    for first in range(0, count, step):
        wait = began + first / rate - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        yield min(step, count - first)


class Writer:
    """Writes numbered records; `build(partition, number)` makes one, and may be exchanged."""

    def __init__(
        self,
        brokers: str,
        build: Callable[[int, int], bytes],
        *,
        topic: str = TOPIC,
        partitions: int = PARTITIONS,
    ) -> None:
        self._producer = Producer({"bootstrap.servers": brokers, "linger.ms": 0})
        self.build = build
        self._topic = topic
        self._partitions = partitions
        self.sent = 0

    def write(self, rate: float, seconds: float) -> int:
        """Write evenly at `rate` records a second for so long; how many there were."""
        count = 0
        for some in paced(rate, seconds):
            for _ in range(some):
                number, partition = divmod(self.sent, self._partitions)
                record = self.build(partition, number)
                self._producer.produce(self._topic, record, partition=partition)
                self.sent += 1
            self._producer.poll(0)
            count += some
        left = self._producer.flush(PATIENCE_SECONDS)
        assert left == 0, f"{left} records were not acknowledged"
        return count


@dataclass(frozen=True)
class Usage:
    """CPU seconds of one process, all its threads."""

    user: float
    system: float

    @classmethod
    def of(cls, process: psutil.Process) -> Usage:
        """What it has used so far."""
        times = process.cpu_times()
        return cls(times.user, times.system)

    def since(self, before: Usage) -> Usage:
        """What it has used between two readings."""
        return Usage(self.user - before.user, self.system - before.system)

    @property
    def total(self) -> float:
        """User and system together."""
        return self.user + self.system


@contextlib.contextmanager
def measured(processes: dict[str, psutil.Process]) -> Iterator[dict[str, Usage]]:
    """Fills a dict with what each process uses during the block."""
    before = {name: Usage.of(process) for name, process in processes.items()}
    used: dict[str, Usage] = {}
    yield used
    for name, process in processes.items():
        used[name] = Usage.of(process).since(before[name])


def percentile(values: list[int], share: float) -> float:
    """The value below which `share` of them lie; NaN for none."""
    if not values:
        return float("nan")
    return float(sorted(values)[min(len(values) - 1, int(len(values) * share))])


def report(
    path: str | None, results: dict[str, Any], versions: Mapping[str, str] | None = None
) -> None:
    """Write results with what they were measured on, as JSON; versions: of what else took part."""
    if path is None:
        return
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    script = Path(sys.argv[0])
    # A package is called after its directory.
    program = script.parent.name if script.stem == "__main__" else script.name
    document = {
        "command": [program, *sys.argv[1:]],
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": model,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {**{name: version(name) for name in _PACKAGES}, **(versions or {})},
        "results": results,
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
