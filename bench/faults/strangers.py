"""Bare sockets, for behaviour that energyws.client never shows."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from typing import Final, Self

from bench.kit.handshake import bearer, events_request, upgrade_request
from energyws.testing import token

PATIENCE_SECONDS: Final = 20.0
# SO_LINGER with a timeout of 0: close() sends RST instead of FIN.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


def request(*, events: bool = False) -> bytes:
    """A request with a valid token that subscribes: over WebSocket, or over SSE."""
    valid = bearer(token("stranger", keys=["*"]))
    if events:
        return events_request("/sse/energy", valid).encode()
    return upgrade_request("/ws/energy?subscribe=energy", valid).encode()


def status(connection: socket.socket) -> int:
    """Read the head of the response; its status, or 0 if the connection ended first."""
    head = b""
    try:
        while not head.endswith(b"\r\n\r\n"):
            piece = connection.recv(1)
            if not piece:
                return 0
            head += piece
    except ConnectionError:
        return 0
    return int(head.split(b" ", 2)[1])


def connect(port: int, receive_buffer: int | None = None) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(PATIENCE_SECONDS)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect(("127.0.0.1", port))
    return connection


def subscribed(
    port: int, receive_buffer: int | None = None, *, events: bool = False
) -> socket.socket:
    """A connection that was accepted and subscribed; raises AssertionError."""
    connection = connect(port, receive_buffer)
    connection.sendall(request(events=events))
    found = status(connection)
    expected = 200 if events else 101
    assert found == expected, f"the server answered with {found or 'a closed connection'}"
    return connection


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    connection.close()


def ended(connections: list[socket.socket], seconds: float) -> int:
    """Read until the server has closed all, or for `seconds`; the number that it closed."""
    deadline = time.monotonic() + seconds
    waiting = list(connections)
    while waiting and (left := deadline - time.monotonic()) > 0:
        for connection in select.select(waiting, [], [], left)[0]:
            with contextlib.suppress(ConnectionError):
                if connection.recv(1 << 18):
                    continue
            waiting.remove(connection)
    return len(connections) - len(waiting)


class Newcomers:
    """During the block, clients connect and leave one after another, `pause` seconds apart.

    statuses: the number of responses by status; 0 means that the connection failed.
    bearer: the token of the next client. trust: for TLS. held: while locked, no client connects.
    """

    def __init__(
        self,
        port: int,
        *,
        bearer: str | None = None,
        trust: ssl.SSLContext | None = None,
        pause: float = 0.02,
    ) -> None:
        self.statuses: Counter[int] = Counter()
        self.bearer = bearer or token("newcomer")
        self.held = threading.Lock()
        self._port = port
        self._trust = trust
        self._pause = pause
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    def refused(self) -> int:
        """The number of clients that were not accepted."""
        return self.statuses.total() - self.statuses[101]

    def _run(self) -> None:
        while not self._done.wait(self._pause):
            with self.held:
                try:
                    found = self._connect()
                except OSError:
                    found = 0
                self.statuses[found] += 1

    def _connect(self) -> int:
        with connect(self._port) as plain:
            connection = plain
            if self._trust is not None:
                connection = self._trust.wrap_socket(plain, server_hostname="127.0.0.1")
            with connection:
                connection.sendall(upgrade_request("/ws/energy", bearer(self.bearer)).encode())
                return status(connection)
