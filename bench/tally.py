"""Clients that count frames and bytes, whatever these hold: `python -m bench.tally`.

Prints {"ready": true} when all are connected, answers each line on its input with the counts so
far, and ends with it. One data frame in 997 of each connection is read as JSON, unless it may
refer to frames before it.
"""

from __future__ import annotations

import argparse
import base64
import os
import select
import socket
import ssl
import subprocess
import sys
import time
from typing import Any, Final, Self

import orjson

from energyws.protocol.deflate import inflate

OFFER: Final = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
CHECK_EVERY: Final = 997
MAX_BYTES: Final = 1 << 24
PATIENCE_SECONDS: Final = 120.0
_PONG: Final = bytes((0x8A, 0x80, 0, 0, 0, 0))
_TRUSTING: Final = ssl.create_default_context()
_TRUSTING.check_hostname = False
_TRUSTING.verify_mode = ssl.CERT_NONE


class Tally:
    """The parent's end: so many clients in a process of their own.

    offer: they offer compression; tls: they speak TLS; context: what they get is compressed with
    a context of its own for each.
    """

    def __init__(
        self,
        port: int,
        path: str,
        clients: int,
        token: str = "",
        *,
        offer: bool = False,
        tls: bool = False,
        context: bool = False,
    ) -> None:
        flags = {"--offer": offer, "--tls": tls, "--context": context}
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bench.tally", f"--port={port}", f"--path={path}"),
                f"--clients={clients}",
                *(flag for flag, wanted in flags.items() if wanted),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "WS_TOKEN": token},
        )

    def ready(self) -> Self:
        """Wait until every client is connected."""
        assert self._line() == {"ready": True}
        return self

    def counts(self) -> dict[str, int]:
        """What has come so far."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return self._line()

    def all_have(self, frames: int) -> dict[str, int]:
        """Wait until every client has so many data frames; the counts then."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (counts := self.counts())["least"] < frames:
            assert not counts["closed"], counts
            assert time.monotonic() < deadline, counts
            time.sleep(0.1)
        return counts

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_SECONDS)
        self._process.stdout.close()

    def _line(self) -> dict[str, int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the clients have ended: see above"
        found: dict[str, int] = orjson.loads(line)
        return found


class _Client:
    """One connection: data frames and bytes so far, and the beginning of the next frame."""

    __slots__ = ("bytes", "connection", "context", "frames", "rest")

    def __init__(self, connection: socket.socket, context: bool) -> None:
        self.connection = connection
        self.context = context
        self.frames = self.bytes = 0
        self.rest = b""

    def read(self) -> bool:
        """Take what is there; False at the end."""
        while True:
            try:
                piece = self.connection.recv(1 << 18)
            except (BlockingIOError, ssl.SSLWantReadError):
                return True
            except ConnectionError:
                return False
            if not piece:
                return False
            self._take(self.rest + piece)
            if not isinstance(self.connection, ssl.SSLSocket):
                return True

    def _take(self, data: bytes) -> None:
        at, end = 0, len(data)
        while end - at >= 2:
            size, begin = data[at + 1], at + 2
            if size >= 126:
                begin += 2 if size == 126 else 8
                size = int.from_bytes(data[at + 2 : begin], "big")
            if begin + size > end:
                break
            if data[at] & 0xF == 9:
                self.connection.send(_PONG)
            else:
                self._count(data[at], data[begin : begin + size])
                self.bytes += begin + size - at
            at = begin + size
        self.rest = data[at:]

    def _count(self, first: int, payload: bytes) -> None:
        self.frames += 1
        if self.frames % CHECK_EVERY == 0 and not (self.context and first & 0x40):
            text = inflate(payload, MAX_BYTES) if first & 0x40 else payload
            assert orjson.loads(text)["type"] == "data", text


def _connect(options: argparse.Namespace, token: str) -> _Client:
    plain = socket.create_connection(("127.0.0.1", options.port))
    connection = _TRUSTING.wrap_socket(plain) if options.tls else plain
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET {options.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Authorization: Bearer {token}\r\n{OFFER if options.offer else ''}\r\n".encode()
    )
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        assert piece, f"the handshake ended with {head!r}"
        head += piece
    assert b" 101 " in head, head
    assert (b"permessage-deflate" in head) == options.offer, head
    connection.setblocking(False)
    return _Client(connection, options.context)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--offer", action="store_true")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--context", action="store_true")
    return parser


def main() -> None:
    """Serve one parent process until its end of the pipe is closed."""
    options = _parser().parse_args()
    clients: dict[int, _Client] = {}
    epoll = select.epoll()
    for _ in range(options.clients):
        client = _connect(options, os.environ["WS_TOKEN"])
        clients[client.connection.fileno()] = client
        epoll.register(client.connection, select.EPOLLIN)
    commands = sys.stdin.fileno()
    epoll.register(commands, select.EPOLLIN)
    closed = 0
    print('{"ready":true}', flush=True)
    while True:
        for descriptor, _ in epoll.poll():
            if descriptor != commands:
                if not clients[descriptor].read():
                    closed += 1
                    epoll.unregister(descriptor)
                continue
            if not os.read(commands, 4096):
                return
            counts: dict[str, Any] = {
                "least": min(client.frames for client in clients.values()),
                "frames": sum(client.frames for client in clients.values()),
                "bytes": sum(client.bytes for client in clients.values()),
                "closed": closed,
            }
            print(orjson.dumps(counts).decode(), flush=True)


if __name__ == "__main__":
    main()
