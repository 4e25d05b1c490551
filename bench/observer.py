"""Clients that time every frame, in a process of their own.

`python -m bench.observer` prints {"ready": true} once all are subscribed, then answers each line of
its input with the delays since the line before, and ends with its input.

Two delays of each frame, both until the socket's bytes are in hand: from the record's own
microsecond, at which it was handed to the producer, and from the millisecond that the frame's
`timestamp` gives, which is Kafka's time of the record. A millisecond is known to be rounded down,
so half of one is taken off the latter. Records that are not bench.record's have only that one.
"""

from __future__ import annotations

import argparse
import base64
import os
import select
import socket
import subprocess
import sys
import time
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Self

import orjson

from bench.record import ENVELOPE, T_AT, T_DIGITS
from bench.service import Service

_DATA: Final = b'{"type":"data","stream":"energy","timestamp":"'
_PING: Final = 0x89
_PONG: Final = bytes((0x8A, 0x80, 0, 0, 0, 0))
_TIMESTAMP: Final = ENVELOPE - len('2026-01-01T00:00:00.000Z","data":')
_T: Final = ENVELOPE + T_AT


@lru_cache(maxsize=1024)
def _microseconds(timestamp: bytes) -> int:
    return round(datetime.fromisoformat(timestamp.decode()).timestamp() * 1000) * 1000


class Observer:
    """Subscribed clients of one service. Delays are in microseconds."""

    def __init__(self, port: int, clients: int, token: str, *, foreign: bool) -> None:
        self._foreign = foreign
        self._epoll = select.epoll()
        self._rest: dict[int, bytes] = {}
        self._sockets = [self._connect(port, token) for _ in range(clients)]
        self._by_descriptor = {one.fileno(): one for one in self._sockets}
        self.from_write: list[int] = []
        self.from_record: list[int] = []

    def _connect(self, port: int, token: str) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", port))
        key = base64.b64encode(os.urandom(16)).decode()
        connection.sendall(
            f"GET /ws/energy?subscribe=energy HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        )
        data = b""
        while b'"subscribed"' not in data:
            piece = connection.recv(1 << 16)
            assert piece, f"the handshake ended with {data!r}"
            data += piece
        assert b" 101 " in data[:32], data
        # What follows the answer's headers: the `subscribed` message, and maybe more.
        self._rest[connection.fileno()] = data[data.index(b"\r\n\r\n") + 4 :]
        connection.setblocking(False)
        self._epoll.register(connection, select.EPOLLIN)
        return connection

    def read(self, seconds: float, also: int) -> bool:
        """Read what comes for so long at most; True as soon as descriptor `also` is readable."""
        self._epoll.register(also, select.EPOLLIN)
        try:
            deadline = time.monotonic() + seconds
            while (left := deadline - time.monotonic()) > 0:
                for descriptor, _ in self._epoll.poll(left):
                    if descriptor == also:
                        return True
                    self._receive(descriptor)
            return False
        finally:
            self._epoll.unregister(also)

    def _receive(self, descriptor: int) -> None:
        piece = self._by_descriptor[descriptor].recv(1 << 18)
        now = time.time_ns() // 1000
        assert piece, "a connection was closed"
        data = self._rest[descriptor] + piece
        at, end = 0, len(data)
        while end - at >= 4:
            size, begin = data[at + 1], at + 2
            if size == 126:
                size, begin = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            if begin + size > end:
                break
            if data.startswith(_DATA, begin):
                if not self._foreign:
                    written = int(data[begin + _T : begin + _T + T_DIGITS])
                    self.from_write.append(now - written)
                stamp = data[begin + _TIMESTAMP : begin + _TIMESTAMP + 24]
                self.from_record.append(now - _microseconds(stamp) - 500)
            elif data[at] == _PING:
                self._by_descriptor[descriptor].send(_PONG)
            at = begin + size
        self._rest[descriptor] = data[at:]


class Observers:
    """The process, seen from the measurement. `foreign`: records are not bench.record's."""

    def __init__(self, service: Service, clients: int, *, foreign: bool = False) -> None:
        arguments = [f"--port={service.port}", f"--clients={clients}"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.observer", *arguments, *["--foreign"] * foreign],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "WS_TOKEN": service.token},
        )
        self.pid = self._process.pid
        assert self._line() == {"ready": True}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def delays(self) -> dict[str, list[int]]:
        """Those since the last call, in microseconds: `from_write` and `from_record`."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"delays\n")
        self._process.stdin.flush()
        found: dict[str, list[int]] = self._line()
        return found

    def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the observer has ended: see above"
        found: dict[str, Any] = orjson.loads(line)
        return found


def main() -> None:
    """Serve one parent process until its end of the pipe is closed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--foreign", action="store_true", help="records are not bench.record's")
    options = parser.parse_args()
    token = os.environ["WS_TOKEN"]
    observer = Observer(options.port, options.clients, token, foreign=options.foreign)
    print(orjson.dumps({"ready": True}).decode(), flush=True)
    while True:
        if not observer.read(60.0, sys.stdin.fileno()):
            continue
        command = os.read(sys.stdin.fileno(), 4096)
        if not command:
            return
        for _ in command.split():
            told = {"from_write": observer.from_write, "from_record": observer.from_record}
            print(orjson.dumps(told).decode(), flush=True)
            observer.from_write, observer.from_record = [], []


if __name__ == "__main__":
    main()
