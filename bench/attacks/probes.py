"""Honest requests during an attack, each from an address that is not the attacker's.

A client that stays sends a ping, newcomers connect, a client resumes from the log, and an operator
asks the admin port: each at its own interval, in its own thread.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final, Self

from bench.attacks.wire import PING
from bench.kit.handshake import bearer, get_request, upgrade_request

# Whoever has waited that long is not let in.
PATIENCE_SECONDS: Final = 5.0
_INTERVALS: Final = {"pong": 0.05, "newcomer": 0.25, "resume": 0.5, "operator": 0.5}
_PATH: Final = "/ws/energy"

Times = dict[str, list[float]]


class _Client:
    """A connection of a WebSocket client; raises OSError, also if it is refused."""

    def __init__(
        self, port: int, address: str, path: str, token: str, trust: ssl.SSLContext | None
    ) -> None:
        self._until = time.monotonic() + PATIENCE_SECONDS
        self._received = b""
        plain = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS, (address, 0))
        try:
            self._connection = (
                plain if trust is None else trust.wrap_socket(plain, server_hostname="127.0.0.1")
            )
            self._connection.sendall(upgrade_request(path, bearer(token)).encode())
            head = self.wait(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101"):
                raise ConnectionRefusedError(head[:60].decode(errors="replace"))
        except BaseException:
            plain.close()
            raise

    def wait(self, text: bytes) -> bytes:
        """Read until this comes; what came before it."""
        while text not in self._received:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._connection.settimeout(left)
            data = self._connection.recv(1 << 16)
            if not data:
                raise ConnectionResetError("the service has closed the connection")
            self._received += data
        before, _, self._received = self._received.partition(text)
        return before

    def say(self, message: bytes) -> None:
        self._until = time.monotonic() + PATIENCE_SECONDS
        self._connection.sendall(message)

    def close(self) -> None:
        self._connection.close()


class Probes:
    """Probes while the block lasts. resume: the position of the client that resumes, if any.

    lost: how often the client that stays lost its connection.
    """

    def __init__(
        self,
        port: int,
        admin_port: int,
        tokens: list[str],
        *,
        trust: ssl.SSLContext | None = None,
        resume: str | None = None,
    ) -> None:
        self.lost = 0
        self._port = port
        self._admin_port = admin_port
        self._stays, self._comes, self._resumes = tokens
        self._trust = trust
        self._resume = resume
        self._pinging: _Client | None = None
        self._addresses = itertools.cycle(f"127.0.3.{number}" for number in range(1, 250))
        self._lock = threading.Lock()
        self._took: Times = {}
        self._over = threading.Event()
        kinds: dict[str, Callable[[], None]] = {
            "pong": self._ping,
            "newcomer": self._newcomer,
            "operator": self._operator,
        }
        if resume is not None:
            kinds["resume"] = self._resumed
        self._threads = [
            threading.Thread(target=self._every, args=(name, probe))
            for name, probe in kinds.items()
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self._pinging is not None:
            self._pinging.close()

    def take(self) -> Times:
        """Seconds of each kind since the last call; one without an answer has PATIENCE_SECONDS."""
        with self._lock:
            took, self._took = self._took, {}
        return took

    def _every(self, name: str, probe: Callable[[], None]) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            try:
                probe()
                took = time.monotonic() - began
            except OSError:
                took = PATIENCE_SECONDS
            with self._lock:
                self._took.setdefault(name, []).append(took)
            self._over.wait(max(0.0, began + _INTERVALS[name] - time.monotonic()))

    def _ping(self) -> None:
        try:
            if self._pinging is None:
                self._pinging = _Client(self._port, "127.0.0.4", _PATH, self._stays, self._trust)
            self._pinging.say(PING)
            self._pinging.wait(b'"type":"pong"')
        except OSError:
            self.lost += 1
            if self._pinging is not None:
                self._pinging.close()
                self._pinging = None
            raise

    def _newcomer(self) -> None:
        """Until `subscribed`."""
        self._connect("?subscribe=energy", self._comes, b'"type":"subscribed"')

    def _resumed(self) -> None:
        """Until the first record from the log."""
        query = f"?subscribe=energy&resume={self._resume}"
        self._connect(query, self._resumes, b'"type":"data"')

    def _connect(self, query: str, token: str, text: bytes) -> None:
        client = _Client(self._port, next(self._addresses), f"{_PATH}{query}", token, self._trust)
        with contextlib.closing(client):
            client.wait(text)

    def _operator(self) -> None:
        with socket.create_connection(("127.0.0.1", self._admin_port), PATIENCE_SECONDS) as asking:
            asking.sendall(get_request("/live").encode())
            if b" 200 " not in asking.recv(1 << 12):
                raise ConnectionRefusedError("the admin port does not answer")
