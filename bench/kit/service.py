"""The service under measurement, with its own broker or a given one, and with clients."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import orjson
from websockets.sync.client import connect

from bench.kit.io_uring import said
from bench.kit.load import Load
from bench.kit.record import PARTITIONS
from energyws.testing import FAST_FETCH, SECRET, BrokerProcess, Service, token
from energyws.testing.certificates import trusting, write_pair

TOPIC: Final = "bench"
PATIENCE_SECONDS: Final = 120.0
_TOKEN_SECONDS: Final = 86_400


class MeasuredService(Service):
    """A service that is ready when the block begins; brokers: None for its own embedded broker."""

    program: ClassVar = "energyws.cli"

    def __init__(
        self,
        workers: int,
        *,
        tls: bool = False,
        brokers: str | None = None,
        checkout: Path | None = None,
        descriptors: int | None = None,
        **sections: dict[str, Any],
    ) -> None:
        self._tls = tls
        self._stack = ExitStack()
        options = {} if brokers else FAST_FETCH
        if brokers is None:
            brokers = self._stack.enter_context(BrokerProcess({TOPIC: PARTITIONS})).bootstrap
        self.brokers = brokers
        directory = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(prefix="energyws-bench-"))
        )
        config: dict[str, Any] = {
            "kafka": {"brokers": brokers, "topic": TOPIC, "options": options},
            "server": {
                "host": "127.0.0.1",
                "port": 0,
                "workers": workers,
                "max_connections": 100_000,
                "drain_seconds": 0,
            },
            "auth": {"jwt_secret": SECRET},
            "admin": {"port": 0},
            "log": {"level": "INFO"},
        }
        if tls:
            config["server"]["tls"] = write_pair(directory)
        for name, values in sections.items():
            config[name] = {**config.get(name, {}), **values}
        super().__init__(
            directory, config, program=self.program, checkout=checkout, descriptors=descriptors
        )

    def __enter__(self) -> Self:
        try:
            return self.ready(PATIENCE_SECONDS)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        super().kill()
        self._stack.close()
        for line in self.logged(" ERROR "):
            print(line, file=sys.stderr)

    @property
    def token(self) -> str:
        return token("bench", _TOKEN_SECONDS)

    def tokens(self, count: int) -> list[str]:
        """Tokens for `count` subjects."""
        return [token(f"bench-{number}", _TOKEN_SECONDS) for number in range(count)]

    def position(self) -> str:
        """The position of a client that subscribes now."""
        trust = trusting(self.config["server"]["tls"]["cert"]) if self._tls else None
        headers = {"Authorization": f"Bearer {self.token}"}
        with connect(
            f"{self.url}?subscribe=energy", additional_headers=headers, compression=None, ssl=trust
        ) as client:
            return str(orjson.loads(client.recv())["positions"]["energy"]["position"])

    def load(self, clients: int) -> Load:
        """Clients, all of them subscribed when the block begins."""
        return Load(self.port, clients, self.token, tls=self._tls)

    def io_uring(self) -> str:
        """What the workers say about it: see bench.kit.io_uring."""
        return said(self.boards())

    def totals(self) -> dict[str, int]:
        """The sum of each counter over all processes, by its name in /workers."""
        counted: Counter[str] = Counter()
        for board in self.boards().values():
            counted.update({name: value for name, value in board.items() if type(value) is int})
        return counted
