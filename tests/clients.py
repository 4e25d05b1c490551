"""Clients for tests: an independent WebSocket library, and bare sockets where it cannot be used."""

from __future__ import annotations

import base64
import os
import socket
import ssl
import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
from websockets.sync.client import ClientConnection, connect

from energyws.testing import Service, token

PATIENCE_SECONDS = 20.0


class Peer:
    """A connected client: JSON in, JSON out."""

    def __init__(self, url: str, **options: Any) -> None:
        self._open = ExitStack()
        self.connection: ClientConnection = self._open.enter_context(connect(url, **options))

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._open.close()

    def send(self, message: object, *, binary: bool = False) -> None:
        """Send a message; bytes and str go as they are."""
        raw = message if isinstance(message, str | bytes) else orjson.dumps(message)
        if binary:
            self.connection.send(raw if isinstance(raw, bytes) else raw.encode())
        else:
            self.connection.send(raw.decode() if isinstance(raw, bytes) else raw)

    def receive(self, seconds: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """The next message."""
        message: dict[str, Any] = orjson.loads(self.connection.recv(timeout=seconds))
        return message

    def until(self, kind: str) -> dict[str, Any]:
        """The next message of this type; others are dropped."""
        while True:
            message = self.receive()
            if message["type"] == kind:
                return message

    def ask(self, message: object) -> dict[str, Any]:
        """Send a message, and return the next one received."""
        self.send(message)
        return self.receive()

    def subscribe(self, **fields: Any) -> dict[str, Any]:
        """Subscribe to energy, and return its part of `subscribed`."""
        self.send({"type": "subscribe", "streams": ["energy"], **fields})
        reply: dict[str, Any] = self.until("subscribed")["positions"]["energy"]
        return reply

    def numbers(self, count: int) -> list[int]:
        """The numbers of the next `count` records."""
        return [self.until("data")["data"]["n"] for _ in range(count)]

    def closed(self) -> tuple[int, str]:
        """Read until the connection ends, and return the close code and reason."""
        try:
            while True:
                self.connection.recv(timeout=PATIENCE_SECONDS)
        except Exception:
            frame = self.connection.protocol.close_rcvd
            assert frame is not None, "the connection ended without a close frame"
            return int(frame.code), frame.reason


def open_peer(service: Service, *, query: str = "", **options: Any) -> Peer:
    """Connect with a valid token in the Authorization header, or with other `options`."""
    headers = options.pop("additional_headers", {"Authorization": f"Bearer {token()}"})
    return Peer(
        service.url + query,
        additional_headers=headers,
        compression=options.pop("compression", None),
        open_timeout=PATIENCE_SECONDS,
        # A client with unread messages does not see the server's close frame.
        close_timeout=0.5,
        ping_interval=None,
        **options,
    )


def upgrade_request(service: Service, *lines: str, query: str = "") -> bytes:
    """A handshake; `lines` are added, and replace the usual headers of the same name."""
    given = {line.partition(":")[0].lower() for line in lines}
    usual = {
        "Host": f"127.0.0.1:{service.port}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Authorization": f"Bearer {token()}",
    }
    kept = [f"{name}: {value}" for name, value in usual.items() if name.lower() not in given]
    sent = [line for line in lines if line.partition(":")[2].strip()]
    return "\r\n".join([f"GET /ws/energy{query} HTTP/1.1", *kept, *sent, "", ""]).encode()


def bare_socket(service: Service, context: ssl.SSLContext | None = None) -> socket.socket:
    """A TCP (or TLS) connection to the service."""
    parts = urlsplit(service.url)
    assert parts.hostname is not None
    assert parts.port is not None
    plain = socket.create_connection((parts.hostname, parts.port), PATIENCE_SECONDS)
    if context is None:
        return plain
    try:
        return context.wrap_socket(plain, server_hostname=parts.hostname)
    except ssl.SSLError:
        plain.close()
        raise


def unacknowledged(client: socket.socket) -> int:
    """The bytes that the kernel holds for a client of this machine until it acknowledges them.

    0 where the connection has ended.
    """
    try:
        port, own = client.getpeername()[1], client.getsockname()[1]
    except OSError:
        return 0
    # /proc/net/tcp (proc(5)): the other side's local port is the client's remote one.
    ends = f":{port:04X} ", f":{own:04X} "
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, _, queues = line.split()[1:5]
        if f"{local} ".endswith(ends[0]) and f"{remote} ".endswith(ends[1]):
            return int(queues.partition(":")[0], 16)
    return 0


def response_head(connection: socket.socket) -> str:
    """The status line and headers of an HTTP response."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(1)
        if not piece:
            break
        data += piece
    return data.decode()


def masked(opcode: int, payload: bytes, *, final: bool = True, reserved: int = 0) -> bytes:
    """A client's frame, with a mask of zeros."""
    first = (0x80 if final else 0) | reserved << 4 | opcode
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    return head + bytes(4) + payload


def close_code(connection: socket.socket) -> int | None:
    """Read until the connection ends; the code of the close frame, if there is one."""
    connection.settimeout(PATIENCE_SECONDS)
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionError:
        pass
    while (frame := first_frame(data)) is not None:
        opcode, (payload, data) = data[0] & 0xF, frame
        if opcode == 8:
            return int.from_bytes(payload[:2], "big")
    return None


def first_frame(data: bytes) -> tuple[bytes, bytes] | None:
    """The payload of a server's first frame, and the bytes after it; None if it is incomplete."""
    if len(data) < 2:
        return None
    size, start = data[1], 2
    if size == 126:
        size, start = int.from_bytes(data[2:4], "big"), 4
    elif size == 127:
        size, start = int.from_bytes(data[2:10], "big"), 10
    if len(data) < start + size:
        return None
    return data[start : start + size], data[start + size :]
