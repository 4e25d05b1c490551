"""Bare sockets, for what energyws.client never does."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from typing import Final, Self

from bench.kit.handshake import bearer, upgrade_request
from energyws.testing import token

PATIENCE_SECONDS: Final = 20.0
# SO_LINGER with no time to linger: close() sends RST instead of FIN.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_EVERY_SECONDS: Final = 0.02


def request(query: str = "?subscribe=energy") -> bytes:
    """A handshake with a good token."""
    return upgrade_request(f"/ws/energy{query}", bearer(token("stranger"))).encode()


def status(connection: socket.socket) -> int:
    """Read the head of the response; its status, 0 when the connection ended before."""
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


def subscribed(port: int, receive_buffer: int | None = None) -> socket.socket:
    """A connection that was accepted and subscribed; raises AssertionError."""
    connection = connect(port, receive_buffer)
    connection.sendall(request())
    found = status(connection)
    assert found == 101, f"a client was answered with {found or 'an end of the connection'}"
    return connection


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    connection.close()


def ended(connections: list[socket.socket], seconds: float) -> int:
    """Read until the other end has ended all, or for `seconds`; how many it has ended."""
    deadline = time.monotonic() + seconds
    waiting = list(connections)
    while waiting and (left := deadline - time.monotonic()) > 0:
        for connection in select.select(waiting, [], [], left)[0]:
            with contextlib.suppress(ConnectionError):
                if connection.recv(1 << 18):
                    continue
            waiting.remove(connection)
    return len(connections) - len(waiting)


class Knocking:
    """During the block, clients connect, are accepted or not, and leave, one after the other.

    statuses: the number of responses with each status; 0 is a connection that failed.
    """

    def __init__(self, port: int) -> None:
        self.statuses: dict[int, int] = {}
        self._port = port
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._done.wait(_EVERY_SECONDS):
            try:
                with connect(self._port) as connection:
                    connection.sendall(request(""))
                    found = status(connection)
            except OSError:
                found = 0
            self.statuses[found] = self.statuses.get(found, 0) + 1
