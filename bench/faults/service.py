"""The real service, restarted on the same port as often as the harness needs."""

from __future__ import annotations

import fcntl
import random
import re
import socket
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import psutil

from bench.kit.io_uring import said
from energyws.testing import Service, eventually

PATIENCE_SECONDS: Final = 60.0
# Below the ephemeral ports: a client that connects to a closed ephemeral port may be assigned that
# same port as its own, connect to itself, and keep the service from binding it again.
_PORTS: Final = range(15_000, 30_000)
# The log has one such line for each client that connects or disconnects, over WebSocket or SSE.
_CROWD: Final = re.compile(rb"\bclient (dis)?connected\b")
# Linux's smallest pipe, so that it fills quickly when it is not read.
_PIPE_BYTES: Final = 4096


def free_port() -> int:
    """A port that is free now and that the kernel does not assign as an ephemeral port."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class BreakableService(Service):
    """log_bytes: the size of the log since the first start, without connects and disconnects."""

    def __init__(
        self,
        directory: Path,
        config: dict[str, Any],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log_bytes = 0
        self._reading = threading.Event()
        self._reading.set()
        self._tracebacks_from = 0
        super().__init__(directory, config, environment=environment)

    @property
    def worker_count(self) -> int:
        """The configured number of workers."""
        return int(self.config["server"]["workers"])

    def start(self, stderr: int = subprocess.PIPE) -> Self:
        super().start(stderr)
        if self._process.stderr is not None:
            fcntl.fcntl(self._process.stderr, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        return self

    def ready(self, seconds: float = PATIENCE_SECONDS) -> Self:
        return super().ready(seconds)

    def kill(self) -> None:
        self.hold_log(False)
        super().kill()

    def board(self, name: str) -> dict[str, Any]:
        """A child's counters; empty if it has none."""
        return self.boards().get(name, {})

    def io_uring(self) -> str:
        """What the workers say about it: see bench.kit.io_uring."""
        return said(self.boards())

    def child(self, name: str) -> psutil.Process:
        """The child with this name; waits until it runs."""
        child: psutil.Process = eventually(
            lambda: self.children().get(name), f"{name} runs", PATIENCE_SECONDS, interval=0.01
        )
        return child

    def hold_log(self, on: bool) -> None:
        """Stop reading the log, so that its pipe fills; False: resume reading."""
        if on:
            self._reading.clear()
        else:
            self._reading.set()

    def take_tracebacks(self) -> list[str]:
        """The lines with a traceback since the last call."""
        begin, self._tracebacks_from = self._tracebacks_from, len(self.lines)
        return [line for line in self.lines[begin:] if "Traceback" in line or "traceback=" in line]

    def _is_ready(self) -> bool:
        return super()._is_ready() and len(self.boards()) == self.worker_count + 1

    def _take(self, line: bytes) -> None:
        self._reading.wait()
        super()._take(line)
        if not _CROWD.search(line):
            self.log_bytes += len(line)
