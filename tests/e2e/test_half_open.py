"""Clients that reset their connection before they are known, and what they took, are forgotten."""

from __future__ import annotations

import socket
import ssl
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import psutil
import pytest

from energyws.testing import Broker, Service, config, eventually, token
from energyws.testing.certificates import trusting, write_pair
from tests.clients import bare_socket, masked, response_head, upgrade_request
from tests.conftest import new_topic

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

COUNT = 12
HALF = b"GET /ws/energy HTTP/1.1\r\nHost: x\r\n"
WHOLE = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
# Nothing but the reset can end a connection within a test.
SETTINGS = {
    "workers": 1,
    "handshake_timeout_seconds": 600,
    "tcp_user_timeout_seconds": 600,
    "ping_interval_seconds": 600,
    "close_timeout_seconds": 600,
}
# A crowd of half requests of this size takes a clear part of a worker's memory.
CROWD, REQUEST_BYTES = 1_500, 15_000

Opens = Callable[[Service], socket.socket]


def plain(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port))


def over_tls(service: Service) -> socket.socket:
    return bare_socket(service, trusting(service.config["server"]["tls"]["cert"]))


def answered(opens: Opens, request: bytes, service: Service) -> socket.socket:
    """A client whose request has had an answer."""
    client = opens(service)
    client.sendall(request)
    response_head(client)
    return client


def asks(opens: Opens, path: str, service: Service) -> socket.socket:
    bearer = f"Authorization: Bearer {token()}"
    return answered(opens, f"GET {path} HTTP/1.1\r\nHost: x\r\n{bearer}\r\n\r\n".encode(), service)


def connects(opens: Opens, service: Service) -> socket.socket:
    return answered(opens, upgrade_request(service), service)


def refused(opens: Opens, service: Service) -> socket.socket:
    """A client that has been told so over WebSocket, and has not closed."""
    lines = "Origin: http://x\r\nAuthorization: Bearer bad"
    return answered(opens, upgrade_request(service, lines), service)


def hello() -> bytes:
    """A TLS client's first bytes."""
    sent = ssl.MemoryBIO()
    client = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), sent, server_hostname="x")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return sent.read()


def phases(opens: Opens) -> dict[str, tuple[Opens, bytes]]:
    """What a client does, and its last bytes before the reset."""
    return {
        "silent": (opens, b""),
        "half a request": (opens, HALF),
        "a request and a half": (opens, WHOLE + HALF),
        "between two requests": (partial(answered, opens, WHOLE), b""),
        "half of a later request": (partial(answered, opens, WHOLE), HALF),
        "a bad request": (opens, b"GARBAGE\r\n\r\n"),
        "an event stream": (partial(asks, opens, "/sse/energy"), b"x"),
        "a session": (partial(connects, opens), masked(1, b'{"type":"ping"}')),
        "half a frame": (partial(connects, opens), masked(1, b'{"type":"ping"}')[:5]),
        "a refused client": (partial(refused, opens), masked(9, b"")),
    }


PHASES = {
    **{f"plain, {name}": ("plain", *phase) for name, phase in phases(plain).items()},
    "TLS, no handshake": ("tls", plain, b""),
    "TLS, half a hello": ("tls", plain, hello()[:100]),
    "TLS, a hello": ("tls", plain, hello()),
    "TLS, garbage": ("tls", plain, b"GARBAGE"),
    **{f"TLS, {name}": ("tls", *phase) for name, phase in phases(over_tls).items()},
}


@pytest.fixture(scope="module")
def services(
    broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Service]]:
    topic = new_topic(broker)
    with ExitStack() as running:

        def serve(name: str, **more: object) -> Service:
            directory: Path = tmp_path_factory.mktemp(name)
            if name == "tls":
                more["tls"] = write_pair(directory)
            settings = config(broker.bootstrap, topic, server={**SETTINGS, **more})
            return running.enter_context(Service(directory / "service", settings)).ready()

        yield {name: serve(name) for name in ("plain", "tls")}


def reset(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def worker(service: Service) -> psutil.Process:
    return service.children()["worker-0"]


@pytest.mark.parametrize("phase", PHASES)
def test_reset_is_noticed_at_once_at_every_phase(services: dict[str, Service], phase: str) -> None:
    kind, opens, last = PHASES[phase]
    service = services[kind]
    before = worker(service).num_fds()
    for _ in range(COUNT):
        client = opens(service)
        if last:
            client.sendall(last)
        reset(client)
    eventually(lambda: worker(service).num_fds() <= before, "the descriptors are free", 5)


def test_memory_of_half_requests_is_given_back(services: dict[str, Service]) -> None:
    process = worker(services["plain"])
    before, free = process.memory_info().rss, process.num_fds()
    with ExitStack() as clients:
        for _ in range(CROWD):
            client = clients.enter_context(plain(services["plain"]))
            client.sendall(HALF + b"A: " + b"x" * REQUEST_BYTES)
        crowd = CROWD * REQUEST_BYTES
        eventually(lambda: process.memory_info().rss > before + crowd, "all of it was read")
        # No more than was sent, and some bytes for each.
        assert process.memory_info().rss < before + crowd + CROWD * 4096
    eventually(lambda: process.num_fds() <= free, "the descriptors are free")
    eventually(
        lambda: process.memory_info().rss < before + crowd / 4, "the memory has been given back"
    )
