"""Thousands of clients in one process: every frame is checked, none is decoded.

Run by the other measurements: `python -m bench.load`; it prints {"ready": true} when all clients
are connected and subscribed, answers each line on its input with the counts so far, and ends
with it.

Bare sockets and epoll: what a client costs here must not limit what is measured there. A frame is
found by its header, and its record's number by its place (bench.record); one frame in 997 is
decoded as JSON and checked whole.
"""

from __future__ import annotations

import argparse
import base64
import os
import select
import socket
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Final

import orjson

from bench.record import ENVELOPE, N_AT, N_DIGITS, P_AT, PARTITIONS, T_AT, T_DIGITS

# 28,000 ephemeral ports per source address; a few addresses leave room.
CLIENTS_PER_ADDRESS: Final = 10_000
CHECK_EVERY: Final = 997
SAMPLE_EVERY: Final = 61
_P: Final = ENVELOPE + P_AT
_N: Final = ENVELOPE + N_AT
_T: Final = ENVELOPE + T_AT
_DATA: Final = b'{"type":"data","'
_PONG: Final = bytes((0x8A, 0x80, 0, 0, 0, 0))


@dataclass
class Counts:
    """What all clients have seen. Delays are in microseconds."""

    clients: int = 0
    frames: int = 0
    others: int = 0
    gaps: int = 0
    duplicates: int = 0
    checked: int = 0
    closed: int = 0
    least: int = 0
    most: int = 0
    delays: list[int] = field(default_factory=list)


class Crowd:
    """The clients of one target; `token` None: the target is bare TCP and just sends frames.

    resume: a position to begin at; its first record has number 0 in every partition. Without one,
    numbers begin with the first frame that comes.
    """

    def __init__(
        self, port: int, clients: int, token: str | None, resume: str | None = None
    ) -> None:
        self.counts = Counts(clients=clients)
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._rest: dict[int, bytes] = {}
        # None: any number may be the first one.
        self._next: dict[int, list[int | None]] = {}
        first = None if resume is None else 0
        self._frames: dict[int, int] = {}
        for number in range(clients):
            connection = socket.socket()
            connection.bind((f"127.0.0.{2 + number // CLIENTS_PER_ADDRESS}", 0))
            connection.connect(("127.0.0.1", port))
            if token is not None:
                _upgrade(connection, port, token, resume)
            connection.setblocking(False)
            descriptor = connection.fileno()
            self._sockets[descriptor] = connection
            self._rest[descriptor] = b""
            self._next[descriptor] = [first] * PARTITIONS
            self._frames[descriptor] = 0
            self._epoll.register(descriptor, select.EPOLLIN)
        if token is not None:
            while self.counts.others < clients:
                self.read(1.0)

    def read(self, seconds: float, also: int | None = None) -> bool:
        """Read what has come, for a while; True when descriptor `also` is readable."""
        if also is not None:
            self._epoll.register(also, select.EPOLLIN)
        try:
            deadline = time.monotonic() + seconds
            while (left := deadline - time.monotonic()) > 0:
                for descriptor, _ in self._epoll.poll(left, 512):
                    if descriptor == also:
                        return True
                    self._receive(descriptor)
            return False
        finally:
            if also is not None:
                self._epoll.unregister(also)

    def settle(self) -> dict[str, object]:
        """The counts so far."""
        counts = self.counts
        counts.least = min(self._frames.values(), default=0)
        counts.most = max(self._frames.values(), default=0)
        return asdict(counts)

    def start_over(self) -> None:
        """Forget the delays, not the numbers: what follows must still fit what was."""
        self.counts.delays.clear()

    def _receive(self, descriptor: int) -> None:
        try:
            piece = self._sockets[descriptor].recv(1 << 18)
        except BlockingIOError:
            return
        except ConnectionError:
            piece = b""
        if not piece:
            self.counts.closed += 1
            self._epoll.unregister(descriptor)
            return
        data = self._rest[descriptor] + piece if self._rest[descriptor] else piece
        self._rest[descriptor] = self._take(descriptor, data)

    def _take(self, descriptor: int, data: bytes) -> bytes:
        """Count the whole frames in `data`; returns what is left of it."""
        counts = self.counts
        expected = self._next[descriptor]
        at, end = 0, len(data)
        while end - at >= 4:
            size, begin = data[at + 1], at + 2
            if size == 126:
                size, begin = data[at + 2] << 8 | data[at + 3], at + 4
            elif size == 127:
                if end - at < 10:
                    break
                size, begin = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
            if begin + size > end:
                break
            if not data.startswith(_DATA, begin):
                if data[at] == 0x89:
                    self._sockets[descriptor].send(_PONG)
                counts.others += 1
                at = begin + size
                continue
            partition = data[begin + _P] - 48
            number = int(data[begin + _N : begin + _N + N_DIGITS])
            due = expected[partition]
            if number != due and due is not None:
                if number > due:
                    counts.gaps += number - due
                else:
                    counts.duplicates += 1
            expected[partition] = number + 1
            counts.frames += 1
            self._frames[descriptor] += 1
            if counts.frames % SAMPLE_EVERY == 0:
                written = int(data[begin + _T : begin + _T + T_DIGITS])
                counts.delays.append(time.time_ns() // 1000 - written)
            if counts.frames % CHECK_EVERY == 0:
                _check(data[begin : begin + size], partition, number)
                counts.checked += 1
            at = begin + size
        return data[at:]


def _check(payload: bytes, partition: int, number: int) -> None:
    message = orjson.loads(payload)
    assert list(message) == ["type", "stream", "timestamp", "data", "id"], message
    assert int(message["data"]["p"]) == partition
    assert int(message["data"]["n"]) == number
    assert int(message["id"].partition("-")[2].split(".")[partition]) >= number + 1


def _upgrade(connection: socket.socket, port: int, token: str, resume: str | None) -> None:
    query = "subscribe=energy" if resume is None else f"subscribe=energy&resume={resume}"
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET /ws/energy?{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        f"Authorization: Bearer {token}\r\n\r\n".encode()
    )
    response = b""
    while not response.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        assert piece, f"the handshake ended with {response!r}"
        response += piece
    assert b" 101 " in response, response


def main() -> None:
    """Serve one parent process until its end of the pipe is closed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--bare", action="store_true", help="no handshake: the target just sends")
    parser.add_argument("--resume", metavar="POSITION")
    options = parser.parse_args()
    token = None if options.bare else os.environ["WS_TOKEN"]
    crowd = Crowd(options.port, options.clients, token, options.resume)
    commands = sys.stdin.fileno()
    os.set_blocking(commands, False)
    print(orjson.dumps({"ready": True}).decode(), flush=True)
    while True:
        if not crowd.read(60.0, commands):
            continue
        command = os.read(commands, 4096)
        if not command:
            return
        for line in command.split():
            print(orjson.dumps(crowd.settle()).decode(), flush=True)
            if line == b"restart":
                crowd.start_over()


if __name__ == "__main__":
    main()
