"""Clients that count frames and bytes, whatever these hold, and time them on request.

`python -m bench.kit.listeners OPTIONS` prints {"ready": true} when all are connected, answers each
line of its input with what came so far, and ends with its input. One frame in 997 of each
connection is read as JSON, unless it may refer to frames before it.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Self

import orjson

from bench.kit.handshake import bearer, upgrade_request
from bench.kit.line_process import LineProcess
from bench.kit.record import ENVELOPE, T_AT, T_DIGITS
from energyws.protocol.deflate import inflate
from energyws.testing import eventually

CHECK_EVERY: Final = 997
MAX_BYTES: Final = 1 << 24
PATIENCE_SECONDS: Final = 120.0
_OFFER: Final = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
_DATA: Final = b'{"type":"data","stream":"energy","timestamp":"'
_STAMP: Final = slice(len(_DATA), len(_DATA) + len("2026-01-01T00:00:00.000Z"))
_WRITTEN: Final = slice(ENVELOPE + T_AT, ENVELOPE + T_AT + T_DIGITS)
_PONG: Final = bytes((0x8A, 0x80, 0, 0, 0, 0))


@dataclass(frozen=True)
class Options:
    """offer: the clients offer compression. context: each gets a compression context of its own.

    timed: "write", from the record's own microsecond, at which it was handed to the producer;
    "record", only from the millisecond of the frame's `timestamp`, which is Kafka's time of the
    record; "" for no delays.
    """

    port: int
    clients: int
    path: str = "/ws/energy?subscribe=energy"
    offer: bool = False
    tls: bool = False
    context: bool = False
    timed: str = ""


class Listeners:
    """The clients, in a process of their own."""

    def __init__(self, token: str = "", **options: Any) -> None:
        text = orjson.dumps(asdict(Options(**options))).decode()
        self._process = LineProcess(
            [sys.executable, "-m", "bench.kit.listeners", text], token=token
        )
        self.pid = self._process.pid
        assert self._process.answer() == {"ready": True}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def counts(self) -> dict[str, Any]:
        """Totals so far; delays in microseconds since the last call: from_write, from_record."""
        counts: dict[str, Any] = self._process.ask("counts")
        return counts

    def all_have(self, frames: int) -> dict[str, Any]:
        """Wait until every client has so many frames, `subscribed` included; the counts then."""
        counts: dict[str, Any] = {}

        def complete() -> bool:
            counts.update(self.counts())
            assert not counts["closed"], f"{counts['closed']} connections were closed"
            return bool(counts["least"] >= frames)

        eventually(complete, f"{frames} frames for each client", PATIENCE_SECONDS, interval=0.1)
        return counts

    def close(self) -> None:
        self._process.close()


@lru_cache(maxsize=1024)
def _microseconds(timestamp: bytes) -> int:
    return round(datetime.fromisoformat(timestamp.decode()).timestamp() * 1000) * 1000


class _Client:
    """One connection: frames and bytes so far, and the beginning of the next frame."""

    def __init__(self, options: Options, token: str, delays: dict[str, list[int]]) -> None:
        self._options = options
        self._delays = delays
        plain = socket.create_connection(("127.0.0.1", options.port))
        self.connection = _unverified().wrap_socket(plain) if options.tls else plain
        headers = [bearer(token), *[_OFFER] * options.offer]
        self.connection.sendall(upgrade_request(options.path, *headers).encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            piece = self.connection.recv(1)
            assert piece, f"the handshake ended with {head!r}"
            head += piece
        assert b" 101 " in head, head
        assert (b"permessage-deflate" in head) == options.offer, head
        self.connection.setblocking(False)
        self.frames = self.bytes = 0
        self._rest = b""

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
            self._take(self._rest + piece, time.time_ns() // 1000)
            if not self._options.tls:
                return True

    def _take(self, data: bytes, now: int) -> None:
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
                self._count(data[at], data[begin : begin + size], now)
                self.bytes += begin + size - at
            at = begin + size
        self._rest = data[at:]

    def _count(self, first: int, payload: bytes, now: int) -> None:
        self.frames += 1
        if self._options.timed and payload.startswith(_DATA):
            if self._options.timed == "write":
                self._delays["from_write"].append(now - int(payload[_WRITTEN]))
            # The millisecond is rounded down: on average by half of one.
            self._delays["from_record"].append(now - _microseconds(payload[_STAMP]) - 500)
        if self.frames % CHECK_EVERY == 0 and not (self._options.context and first & 0x40):
            text = inflate(payload, MAX_BYTES) if first & 0x40 else payload
            assert orjson.loads(text)["type"] == "data", text


def _unverified() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def main() -> None:
    """Serve the parent process until its end of the pipe is closed."""
    options = Options(**orjson.loads(sys.argv[1]))
    delays: dict[str, list[int]] = {"from_write": [], "from_record": []}
    clients: dict[int, _Client] = {}
    epoll = select.epoll()
    for _ in range(options.clients):
        client = _Client(options, os.environ["WS_TOKEN"], delays)
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
            counts = {
                "least": min(client.frames for client in clients.values()),
                "frames": sum(client.frames for client in clients.values()),
                "bytes": sum(client.bytes for client in clients.values()),
                "closed": closed,
                **delays,
            }
            print(orjson.dumps(counts).decode(), flush=True)
            for values in delays.values():
                values.clear()


if __name__ == "__main__":
    main()
