"""What it costs those who stay live when a crowd comes back after a long time.

    python -m bench.resume --resuming 1000 --records 10000 --live 1000

Clients that were away resume from Kafka's log, far behind what the service has in memory, while
others stay live. Their delay is measured before, and meanwhile, in the same run; the records of
the resuming ones are counted, and those of some of them checked one by one. Ends with status 1 if
anybody lost or got twice anything.
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
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import orjson

from bench.load import CLIENTS_PER_ADDRESS, Load
from bench.record import padded
from bench.service import Service, Writer, measured, percentile, report

# Checked record by record; the others only count.
CHECKED: Final = 20
BASELINE_SECONDS: Final = 20.0
# Far less than the log has.
MEMORY: Final = {"max_frames": 500, "warm": 100}
WRITE_RATE: Final = 5_000
_PATIENCE_SECONDS: Final = 300.0
_DATA: Final = b'{"type":"data"'


class Counting:
    """Clients that resume and count frames: a header each, nothing else."""

    def __init__(self, port: int, clients: int, token: str, position: str) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._rest: dict[int, bytes] = {}
        self.frames: dict[int, int] = {}
        key = base64.b64encode(bytes(16)).decode()
        request = (
            f"GET /ws/energy?subscribe=energy&resume={position} HTTP/1.1\r\n"
            f"Host: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Authorization: Bearer {token}\r\n\r\n"
        ).encode()
        for number in range(clients):
            connection = socket.socket()
            connection.bind((f"127.0.0.{2 + number // CLIENTS_PER_ADDRESS}", 0))
            connection.connect(("127.0.0.1", port))
            connection.sendall(request)
            connection.setblocking(False)
            descriptor = connection.fileno()
            self._sockets[descriptor] = connection
            self._rest[descriptor] = b""
            self.frames[descriptor] = -1
            self._epoll.register(descriptor, select.EPOLLIN)

    def read_until(self, frames: int) -> None:
        """Read until everybody has so many frames; raises AssertionError."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        waiting = len(self._sockets)
        while waiting:
            assert time.monotonic() < deadline, f"{waiting} clients never got {frames} frames"
            for descriptor, _ in self._epoll.poll(1.0, 512):
                before = self.frames[descriptor]
                self._receive(descriptor)
                waiting -= before < frames <= self.frames[descriptor]

    def _receive(self, descriptor: int) -> None:
        try:
            piece = self._sockets[descriptor].recv(1 << 18)
        except BlockingIOError:
            return
        assert piece, "a connection was closed"
        data = self._rest[descriptor] + piece
        at, end, count = 0, len(data), self.frames[descriptor]
        if count < 0:
            head = data.find(b"\r\n\r\n")
            if head < 0:
                self._rest[descriptor] = data
                return
            assert b" 101 " in data[:32], data[:head]
            at, count = head + 4, 0
        while end - at >= 4:
            size, begin = data[at + 1], at + 2
            if size == 126:
                size, begin = data[at + 2] << 8 | data[at + 3], at + 4
            if begin + size > end:
                break
            count += data.startswith(_DATA, begin)
            at = begin + size
        self.frames[descriptor] = count
        self._rest[descriptor] = data[at:]


def count(options: argparse.Namespace) -> None:
    """The process of the resuming clients: a line when they have connected, one at the end."""
    began = time.monotonic()
    clients = Counting(options.port, options.resuming, os.environ["WS_TOKEN"], options.position)
    print(orjson.dumps({"connected_seconds": time.monotonic() - began}).decode(), flush=True)
    clients.read_until(options.records)
    # Whoever got more than was written before it came has got it live.
    most = max(clients.frames.values())
    print(
        orjson.dumps({"seconds": time.monotonic() - began, "most_frames": most}).decode(),
        flush=True,
    )


@contextmanager
def writing(writer: Writer, rate: float) -> Iterator[None]:
    """Records are written meanwhile, evenly; rate: at least 2."""
    ending = threading.Event()

    def run() -> None:
        while not ending.is_set():
            due = time.monotonic() + 0.5
            writer.write(rate, 0.5)
            # The last one is written before its time is over.
            ending.wait(due - time.monotonic())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


def first_position(service: Service, *, tls: bool = False) -> str:
    """The position of a client that has seen nothing yet."""
    connection = socket.create_connection(("127.0.0.1", service.port))
    if tls:
        # Whom we connect to is not in question here.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = context.wrap_socket(connection)
    with connection:
        key = base64.b64encode(bytes(16)).decode()
        connection.sendall(
            f"GET /ws/energy?subscribe=energy HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Authorization: Bearer {service.token}\r\n\r\n".encode()
        )
        data = b""
        while b'"position":"' not in data or not data.endswith(b"}"):
            data += connection.recv(4096)
    return data.partition(b'"position":"')[2].partition(b'"')[0].decode()


def delays(load: Load) -> dict[str, float]:
    """The live clients' delays since the last restart, in milliseconds."""
    seen = load.counts(restart=True)["delays"]
    return {f"p{p:g}": percentile(seen, p / 100) / 1000 for p in (50, 99, 100)}


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.resume", description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--live", type=int, default=1000)
    parser.add_argument("--resuming", type=int, default=1000)
    parser.add_argument("--records", type=int, default=10_000, help="that each lacks")
    parser.add_argument("--rate", type=float, default=20, help="records a second meanwhile")
    parser.add_argument("--bytes", type=int, default=440, help="size of a frame's payload")
    parser.add_argument("--out", help="write the results here, as JSON")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--position", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.port is not None:
        count(options)
        return 0
    with Service(options.workers, history=MEMORY) as service:
        position = first_position(service)
        writer = Writer(service.brokers, lambda p, n: padded(p, n, options.bytes))
        writer.write(WRITE_RATE, options.records / WRITE_RATE)
        live = service.load(options.live)
        checked: Load | None = None
        try:
            with writing(writer, options.rate):
                time.sleep(2)
                live.counts(restart=True)
                time.sleep(BASELINE_SECONDS)
                before = delays(live)
                with measured(service.processes()) as used:
                    role = (f"--port={service.port}", f"--position={position}")
                    process = subprocess.Popen(
                        [sys.executable, "-m", "bench.resume", *sys.argv[1:], *role],
                        stdout=subprocess.PIPE,
                        env={**os.environ, "WS_TOKEN": service.token},
                    )
                    assert process.stdout is not None
                    with process.stdout:
                        lines = [orjson.loads(line) for line in process.stdout]
                    assert process.wait() == 0
                meanwhile = delays(live)
                asked = service.totals()["read_back"]
                checked = Load(service.port, CHECKED, service.token, position).ready()
                checked.all_have(options.records)
            total = writer.sent
            seen = {"live": live.counts(), "checked": checked.all_have(total)}
        finally:
            live.close()
            if checked is not None:
                checked.close()
    exact = all(one["gaps"] == one["duplicates"] == one["closed"] == 0 for one in seen.values())
    exact = exact and seen["checked"]["least"] == seen["checked"]["most"] == total
    exact = exact and lines[-1]["most_frames"] <= total
    results: dict[str, Any] = {
        "resuming": options.resuming,
        "records_each": options.records,
        "seconds_until_all_have_them": round(lines[-1]["seconds"], 2),
        "records_read_from_kafka": asked,
        "live": options.live,
        "live_delay_ms_before": before,
        "live_delay_ms_meanwhile": meanwhile,
        "p99_ratio": round(meanwhile["p99"] / before["p99"], 2),
        "cpu_seconds_meanwhile": {name: round(usage.total, 2) for name, usage in used.items()},
        "exactly_once": exact,
    }
    for name, value in results.items():
        print(f"{name:28} {value}")
    report(options.out, results)
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
