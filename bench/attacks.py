"""The effect of one hostile client, or of one leaked token, on all other clients.

    python -m bench.attacks                          every attack, one after the other
    python -m bench.attacks --only refused           one of them
    python -m bench.attacks --rounds 3 --out FILE    medians of three rounds

A service with one worker serves 20 honest clients at 20 records a second. Three probes run as well:
one client pings, a new client connects four times a second, and a client resumes from Kafka's log
twice a second. Everything is measured for some seconds without an attack, then during it:

refused        one socket without a valid token. Because of its `Origin`, the worker upgrades it to
               send it the reason; it then sends pings without a pause, and reconnects when closed
closed         the same by a client with a valid token, which sends too many messages, is closed
               with 1008, and keeps sending
requests       250 connections with one token. Each unsubscribes and subscribes 25 times a second,
               always with another invented position, so that each subscribe requests history; this
               is within the message rate
wide-requests  100 such connections, whose positions have 1,003 partitions
chatter        for comparison: 250 connections with one token that send as many pings, which is
               allowed

Attackers share the machine's cores with the service, so part of the effect is their own CPU time.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Final

import orjson
import psutil
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from bench.kit.handshake import bearer, upgrade_request
from bench.kit.load import Load
from bench.kit.measuring import medians, percentile
from bench.kit.record import padded
from bench.kit.results import arguments, save
from bench.kit.service import MeasuredService
from bench.kit.writer import Writer, writing

HONEST: Final = 20
RATE: Final = 20.0
FRAME_BYTES: Final = 1138
# Records in the log but not in the worker's memory.
OLD_RECORDS: Final = 6_000
RING_FRAMES: Final = 300
PATIENCE_SECONDS: Final = 30.0
ATTACKS: Final = ("refused", "closed", "requests", "wide-requests", "chatter")
CONNECTIONS: Final = {"requests": 250, "wide-requests": 100, "chatter": 250}
# Masked pings without a payload, and a masked text message that is not JSON.
_PINGS: Final = bytes((0x89, 0x80, 1, 2, 3, 4)) * 10_000
_WORDS: Final = bytes((0x81, 0x81, 0, 0, 0, 0)) + b"x"
MESSAGES_PER_SECOND: Final = 45.0


def main() -> int:
    parser = arguments(__doc__, rounds=1)
    parser.add_argument("--only", choices=ATTACKS, action="append")
    parser.add_argument("--seconds", type=float, default=12.0, help="of each part")
    options = parser.parse_args()
    results = {}
    for name in options.only or ATTACKS:
        rounds = [measure(name, options.seconds) for _ in range(options.rounds)]
        results[name] = row = medians(rounds, 2)
        print(name)
        for what, calm in row["calm"].items():
            attacked = row["attacked"][what]
            ratio = f"  x {attacked / calm:.2f}" if calm else ""
            print(f"  {what:28} {calm:10.2f} -> {attacked:10.2f}{ratio}", flush=True)
    save(options.out, {"seconds": options.seconds, "rounds": options.rounds, "attacks": results})
    return 0


def measure(name: str, seconds: float) -> dict[str, dict[str, float]]:
    """One service, calm, then under one attack. Times are in milliseconds, memory in MiB."""
    with MeasuredService(1, history={"max_frames": RING_FRAMES, "warm": 50}) as service:
        writer = Writer(service.brokers, lambda p, n: padded(p, n, FRAME_BYTES))
        writer.write(3_000, OLD_RECORDS / 3_000)
        epoch = service.position().partition("-")[0]
        with (
            Load(service.port, HONEST, service.token, sample=1) as honest,
            writing(writer, RATE),
        ):
            time.sleep(2)
            calm = _watched(service, honest, epoch, seconds)
            attacker = multiprocessing.get_context("spawn").Process(
                target=attack, args=(name, service.port, service.token, epoch, seconds + 2)
            )
            attacker.start()
            try:
                time.sleep(1)
                attacked = _watched(service, honest, epoch, seconds)
            finally:
                attacker.terminate()
                attacker.join(PATIENCE_SECONDS)
    return {"calm": calm, "attacked": attacked}


def _watched(
    service: MeasuredService, honest: Load, epoch: str, seconds: float
) -> dict[str, float]:
    worker: psutil.Process = service.children()["worker-0"]
    frames = honest.counts(restart=True)["frames"]
    until = time.monotonic() + seconds
    pongs: list[float] = []
    newcomers: list[float] = []
    resumes: list[float] = []
    with _connected(service, "") as pinging:
        probes = [
            threading.Thread(target=_every, args=(pause, until, took, probe))
            for pause, took, probe in (
                (0.05, pongs, lambda: _ping(pinging)),
                (0.25, newcomers, lambda: _newcomer(service, "")),
                (0.5, resumes, lambda: _newcomer(service, f"&resume={epoch}-0.0.0")),
            )
        ]
        most = 0
        for each in probes:
            each.start()
        while any(each.is_alive() for each in probes):
            most = max(most, worker.memory_info().rss)
            time.sleep(0.05)
    counts = honest.counts()
    delays = counts["delays"]
    return {
        "deliveries": float(counts["frames"] - frames),
        "live p50, ms": percentile(delays, 0.5) / 1000,
        "live p99, ms": percentile(delays, 0.99) / 1000,
        "pong p50, ms": 1000 * median(pongs),
        "pong worst, ms": 1000 * max(pongs),
        "newcomer p50, ms": 1000 * median(newcomers),
        "newcomer worst, ms": 1000 * max(newcomers),
        "resume from the log p50, ms": 1000 * median(resumes),
        "resume worst, ms": 1000 * max(resumes),
        "worker's memory, MiB": most / (1 << 20),
    }


def _every(pause: float, until: float, took: list[float], probe: Callable[[], float]) -> None:
    """Probe at an interval; a probe that fails counts as PATIENCE_SECONDS."""
    while (began := time.monotonic()) < until:
        try:
            took.append(probe())
        except (OSError, WebSocketException):
            took.append(PATIENCE_SECONDS)
        time.sleep(max(0.0, began + pause - time.monotonic()))


@contextlib.contextmanager
def _connected(service: MeasuredService, query: str) -> Iterator[ClientConnection]:
    with connect(
        service.url + query,
        additional_headers={"Authorization": f"Bearer {service.token}"},
        compression=None,
        open_timeout=PATIENCE_SECONDS,
        close_timeout=1,
        max_size=None,
    ) as client:
        yield client


def _ping(client: ClientConnection) -> float:
    began = time.monotonic()
    client.send('{"type":"ping"}')
    client.recv(PATIENCE_SECONDS)
    return time.monotonic() - began


def _newcomer(service: MeasuredService, query: str) -> float:
    """The seconds from the first SYN to `subscribed` or, with a resume, to the first record."""
    began = time.monotonic()
    with _connected(service, f"?subscribe=energy{query}") as client:
        client.recv(PATIENCE_SECONDS)
        if query:
            client.recv(PATIENCE_SECONDS)
        return time.monotonic() - began


def attack(name: str, port: int, token: str, epoch: str, seconds: float) -> None:
    """One attack, in a separate process."""
    until = time.monotonic() + seconds
    if name in ("refused", "closed"):
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                _flood(port, None if name == "refused" else token, until)
        return
    partitions = 1_003 if name == "wide-requests" else 3
    chooser = random.Random(1)

    def subscribe() -> bytes:
        offsets = ".".join(str(chooser.randrange(500)) for _ in range(partitions))
        message = {
            "type": "subscribe",
            "streams": ["energy"],
            "resume": {"energy": f"{epoch}-{offsets}"},
        }
        return _UNSUBSCRIBE + _masked(orjson.dumps(message))

    messages = subscribe if name != "chatter" else lambda: _PING * 2
    _send_steadily(port, token, CONNECTIONS[name], messages, until)


def _opened(port: int, *headers: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
    connection.sendall(upgrade_request("/ws/energy", *headers).encode())
    return connection


def _flood(port: int, token: str | None, until: float) -> None:
    headers = [bearer(token)] if token else [bearer("none"), "Origin: https://attacker.example"]
    with _opened(port, *headers) as connection:
        connection.recv(1 << 16)
        if token:
            connection.sendall(_WORDS * 200)
        connection.setblocking(False)
        poll = select.poll()
        poll.register(connection, select.POLLIN | select.POLLOUT)
        while time.monotonic() < until:
            for _, events in poll.poll(100):
                if events & select.POLLIN and not connection.recv(1 << 16):
                    return
                if events & select.POLLOUT:
                    connection.send(_PINGS)
                elif events & (select.POLLERR | select.POLLHUP):
                    return


def _send_steadily(
    port: int, token: str, count: int, messages: Callable[[], bytes], until: float
) -> None:
    """Send two messages on each of `count` connections, as often as the message rate permits."""
    connections: list[socket.socket] = []
    pause = 2 / MESSAGES_PER_SECOND
    while time.monotonic() < until:
        began = time.monotonic()
        while len(connections) < count and time.monotonic() < min(until, began + pause):
            # Closed connections are replaced.
            with contextlib.suppress(OSError):
                connections.append(_opened(port, bearer(token)))
                connections[-1].setblocking(False)
        for connection in list(connections):
            try:
                connection.send(messages())
                while True:
                    if not connection.recv(1 << 18):
                        raise ConnectionResetError
            except BlockingIOError:
                continue
            except OSError:
                connections.remove(connection)
                connection.close()
        time.sleep(max(0.0, began + pause - time.monotonic()))
    for connection in connections:
        connection.close()


def _masked(payload: bytes) -> bytes:
    """A client's text message, with a mask of zeros."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return b"\x81" + length + bytes(4) + payload


_UNSUBSCRIBE: Final = _masked(b'{"type":"unsubscribe","streams":["energy"]}')
_PING: Final = _masked(b'{"type":"ping"}')


if __name__ == "__main__":
    sys.exit(main())
