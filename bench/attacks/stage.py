"""A service with honest clients, on which attacks are tried one after the other."""

from __future__ import annotations

import contextlib
import signal
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any, Final, Self

import orjson

from bench.attacks import cores, holdings
from bench.attacks.attack import Attack
from bench.attacks.attacker import Attacker
from bench.attacks.probes import Probes
from bench.attacks.target import Plan
from bench.attacks.tree import LIMITS, Sections, Tree, merged
from bench.attacks.verdict import Trial, Window
from bench.kit.load import Load
from bench.kit.measuring import cpu_seconds
from bench.kit.record import padded
from bench.kit.service import MeasuredService
from bench.kit.writer import Writer, writing
from energyws.auth.verifier import mint
from energyws.testing import SECRET
from energyws.testing.certificates import trusting

FRAME_BYTES: Final = 1138
_TOKEN_SECONDS: Final = 86_400
# Each token of the attacker has another subject.
_SUBJECTS: Final = 600
_PREVIOUS: Final = SECRET[::-1]
_WRITE_PER_SECOND: Final = 5_000
# After the attack, for honest clients to get what they lack.
_RECOVERY_SECONDS: Final = 30.0
# If nobody ends it, the attacker ends by itself.
_MOST_SECONDS: Final = 600.0
_BASE: Final[Sections] = {
    "server": {"dashboard": True, "max_connections": 1_000},
    "history": {"warm": 50},
}


class Stage:
    """A context manager. attack: what the service is set up for; `tried` takes others that need
    nothing else.

    clients: honest ones; they get `rate` records a second. settings: sections over the harness's,
    under the attack's. apart: the cores of the workers, see bench.attacks.cores. settle: seconds
    until everything that was written has arrived.
    """

    def __init__(
        self,
        tree: Tree,
        attack: Attack,
        *,
        clients: int = 20,
        rate: float = 20.0,
        workers: int = 1,
        settings: Sections = LIMITS,
        apart: set[int] | None = None,
        settle: float = 1.0,
    ) -> None:
        self._settle = settle
        self._tree = tree
        self._attack = attack
        self._clients = clients
        self._rate = rate
        self._apart = apart
        self._stack = ExitStack()
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._previous = directory / "previous"
        self._previous.write_text(_PREVIOUS)
        self._denied = directory / "denied"
        self._denied.write_text("")
        files = {"jwt_secret_previous_file": self._previous, "denied_file": self._denied}
        auth = {"auth": {name: str(path) for name, path in files.items()}}
        sections = merged(
            _BASE,
            {"history": {"max_frames": attack.frames}},
            auth if attack.revokes else {},
            settings,
            attack.config,
        )
        self.service = MeasuredService(
            workers,
            brokers=None,
            tls=attack.tls,
            checkout=tree.checkout,
            descriptors=attack.descriptors,
            **tree.fitting(sections),
        )

    def __enter__(self) -> Self:
        try:
            self._stack.enter_context(self.service)
            self._begin()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        # Its producer would report that the broker has gone.
        del self._writer
        self._stack.close()

    def _begin(self) -> None:
        service = self.service
        children = service.children()
        self._workers = {name: children[name] for name in sorted(children) if name != "consumer"}
        if self._apart is not None:
            for worker in self._workers.values():
                cores.move(worker.pid, self._apart)
        certificate = service.config["server"].get("tls", {}).get("cert")
        self._certificate: str | None = certificate
        self._trust: ssl.SSLContext | None = certificate and trusting(certificate)
        self._writer = Writer(service.brokers, lambda p, n: padded(p, n, FRAME_BYTES))
        self._writer.write(_WRITE_PER_SECOND, self._attack.records / _WRITE_PER_SECOND)
        self._epoch = service.position().partition("-")[0]
        tokens = service.tokens(self._clients + 3)
        self._prober_tokens = tokens[self._clients :]
        self._load = self._stack.enter_context(
            Load(
                service.port,
                self._clients,
                tokens[: self._clients],
                tls=self._attack.tls,
                sample=1,
            )
        )

    def lacks(self, attack: Attack) -> list[str]:
        """What the attack needs and this service does not have."""
        lacking = self._tree.lacks(attack.needs)
        if attack.door and not self._has(attack.door):
            lacking.append(attack.door)
        return lacking

    def tried(self, attack: Attack, seconds: float, windows: int) -> Trial:
        """As many calm windows before and after the attack as during it."""
        # Nothing is written now, so that everything before has arrived.
        time.sleep(self._settle)
        start, sent = self._load.counts(), self._writer.sent
        service = self.service
        resume = f"{self._epoch}-0.0.0" if attack.records > attack.frames else None
        with (
            writing(self._writer, self._rate),
            Probes(
                service.port,
                service.admin_port,
                self._prober_tokens,
                trust=self._trust,
                resume=resume,
            ) as probes,
        ):
            time.sleep(self._settle)
            laps = self._laps(probes)
            next(laps)
            calm = [self._lap(laps, seconds) for _ in range(windows)]
            before = holdings.read(self._workers.values(), service.port)
            with holdings.peaks(self._workers.values(), service.port) as peak:
                with Attacker(self._plan(attack)) as attacker:
                    attacked = [self._lap(laps, seconds)]
                    if attack.revokes:
                        self._revoke(attack)
                    attacked += [self._lap(laps, seconds) for _ in range(windows - 1)]
                    if (more := attack.lasts - windows * seconds) > 0:
                        attacked.append(self._lap(laps, more))
                    seen = attacker.end()
                self._arrived(start["least"] + self._writer.sent - sent)
                recovery = next(laps)
            calm += [self._lap(laps, seconds) for _ in range(windows)]
            after = holdings.read(self._workers.values(), service.port)
        due = start["least"] + self._writer.sent - sent
        end = self._arrived(due)
        now = service.children()
        return Trial(
            calm=calm,
            attacked=attacked,
            recovery=recovery,
            before=before,
            peak=peak,
            after=after,
            **{name: end[name] - start[name] for name in ("gaps", "duplicates", "closed")},
            missing=max(0, due - end["least"]),
            lost=probes.lost,
            replaced=sum(
                name not in now or now[name].pid != worker.pid
                for name, worker in self._workers.items()
            ),
            attacker=seen,
        )

    def _has(self, door: str) -> bool:
        address = ("127.0.0.1", self.service.port)
        made = (
            HTTPConnection(*address)
            if self._trust is None
            else HTTPSConnection(*address, context=self._trust)
        )
        with contextlib.closing(made) as asking:
            asking.request("GET", door)
            return asking.getresponse().status != 404

    def _plan(self, attack: Attack) -> Plan:
        secret = _PREVIOUS if attack.revokes == "secret" else SECRET
        now = time.time()
        return Plan(
            name=attack.name,
            port=self.service.port,
            admin_port=self.service.admin_port,
            tokens=[
                mint(secret, _subject(number), _TOKEN_SECONDS, now, None)
                for number in range(_SUBJECTS)
            ],
            epoch=self._epoch,
            seconds=_MOST_SECONDS,
            certificate=self._certificate,
        )

    def _revoke(self, attack: Attack) -> None:
        if attack.revokes == "secret":
            self._previous.write_text("")
            self.service.signal(signal.SIGHUP)
        else:
            self._denied.write_bytes(orjson.dumps({"sub": _subject(0)}) + b"\n")

    def _laps(self, probes: Probes) -> Iterator[Window]:
        """What happened since the last lap."""
        used, began = self._cpu(), time.monotonic()
        while True:
            counts = self._load.counts(restart=True)
            now, cpu = time.monotonic(), self._cpu()
            yield Window(
                seconds=now - began, delays=counts["delays"], took=probes.take(), cpu=cpu - used
            )
            used, began = cpu, now

    @staticmethod
    def _lap(laps: Iterator[Window], seconds: float) -> Window:
        time.sleep(seconds)
        return next(laps)

    def _cpu(self) -> float:
        used = 0.0
        for worker in self._workers.values():
            # Its clock ends with it; a worker that ended is a problem of its own.
            with contextlib.suppress(OSError):
                used += cpu_seconds(worker)
        return used

    def _arrived(self, frames: int) -> dict[str, Any]:
        """Wait until every honest client has that many frames, or one is gone; the counts."""
        until = time.monotonic() + _RECOVERY_SECONDS
        while True:
            counts = self._load.counts()
            complete = counts["least"] >= frames or counts["closed"]
            if complete or time.monotonic() > until:
                return counts
            time.sleep(0.05)


def _subject(number: int) -> str:
    """That of an attacker's token."""
    return f"attacker-{number}"
