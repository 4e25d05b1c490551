"""Answers to HTTP requests, by RFC 9110 and RFC 9112; each refusal has a body in JSON."""

from __future__ import annotations

import contextlib
import email.utils
import re
import socket
import ssl
import struct
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from energyws.testing import Broker, Service, config, eventually, token
from energyws.testing.certificates import trusting, write_pair
from tests.clients import (
    PATIENCE_SECONDS,
    bare_socket,
    first_frame,
    masked,
    response_head,
    upgrade_request,
)
from tests.conftest import new_topic

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

HANDSHAKE_SECONDS = 3.0
# Long before that.
AT_ONCE_SECONDS = 2.0


@dataclass
class Door:
    """A service, plain or with TLS."""

    service: Service
    trust: ssl.SSLContext | None

    def connect(self) -> socket.socket:
        return bare_socket(self.service, self.trust)


@pytest.fixture(scope="module", params=["http", "https"])
def door(
    request: pytest.FixtureRequest, broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Door]:
    directory: Path = tmp_path_factory.mktemp("door")
    server: dict[str, object] = {"workers": 1, "handshake_timeout_seconds": HANDSHAKE_SECONDS}
    trust = None
    if request.param == "https":
        server["tls"] = pair = write_pair(directory)
        trust = trusting(pair["cert"])
    settings = config(broker.bootstrap, new_topic(broker), server=server)
    settings["log"] = {"level": "DEBUG"}
    with Service(directory, settings) as service:
        yield Door(service.ready(), trust)


@dataclass
class Response:
    """An HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes


def response(client: socket.socket, *, head: bool = False) -> Response:
    """The next response; head: it answers a HEAD request."""
    client.settimeout(PATIENCE_SECONDS)
    line, *fields = response_head(client).split("\r\n")
    assert line, "the connection ended without an answer"
    headers = {
        name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)
    }
    body = b""
    while not head and len(body) < int(headers["content-length"]):
        body += client.recv(int(headers["content-length"]) - len(body))
    return Response(int(line.split(" ")[1]), headers, body)


def ended(client: socket.socket) -> bool:
    """Whether the server ends the connection now, without another byte and without a reset."""
    client.settimeout(AT_ONCE_SECONDS)
    with contextlib.suppress(ssl.SSLEOFError):
        return client.recv(1) == b""
    return True


GOOD = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
HOST = b"Host: x\r\n"
KEY = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" + KEY

REFUSED: dict[str, tuple[bytes, int, str]] = {
    "POST": (b"POST /health HTTP/1.1\r\nHost: x\r\n\r\n", 405, "METHOD_NOT_ALLOWED"),
    "POST with a body": (
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
        405,
        "METHOD_NOT_ALLOWED",
    ),
    "PUT of the endpoint": (
        b"PUT /ws/energy HTTP/1.1\r\nHost: x\r\n\r\n",
        405,
        "METHOD_NOT_ALLOWED",
    ),
    "OPTIONS": (b"OPTIONS /health HTTP/1.1\r\nHost: x\r\n\r\n", 405, "METHOD_NOT_ALLOWED"),
    "OPTIONS of everything": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 405, "METHOD_NOT_ALLOWED"),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 405, "METHOD_NOT_ALLOWED"),
    "HAProxy's old check": (b"OPTIONS / HTTP/1.0\r\n\r\n", 404, "NOT_FOUND"),
    "unknown method": (b"BREW /health HTTP/1.1\r\nHost: x\r\n\r\n", 501, "NOT_IMPLEMENTED"),
    "method in small letters": (
        b"get /health HTTP/1.1\r\nHost: x\r\n\r\n",
        501,
        "NOT_IMPLEMENTED",
    ),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "VERSION_NOT_SUPPORTED"),
    "HTTP/1.2": (b"GET /health HTTP/1.2\r\nHost: x\r\n\r\n", 505, "VERSION_NOT_SUPPORTED"),
    "HTTP/0.9": (b"GET /health\r\n\r\n", 400, "BAD_REQUEST"),
    "two blanks": (b"GET  /health HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
    "NUL": (b"GET /health\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
    "CR": (b"GET /health?a\rb HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
    "LF": (b"GET /health?a\nb HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
    "ESC": (b"GET /health?a\x1bb HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
    "DEL": (b"GET /health?a\x7fb HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
    "no ASCII": (b"GET /health?a\xff HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
    "fragment": (b"GET /health#a HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
    "asterisk": (b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
    "authority": (b"GET example.com:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
    "another scheme": (b"GET ftp://x/health HTTP/1.1\r\nHost: x\r\n\r\n", 400, "BAD_REQUEST"),
    "no Host": (b"GET /health HTTP/1.1\r\n\r\n", 400, "BAD_REQUEST"),
    "two Hosts": (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "BAD_REQUEST"),
    "bad Host": (b"GET /health HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "BAD_REQUEST"),
    "folded field": (b"GET /health HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400, "BAD_REQUEST"),
    "blank in a name": (b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n", 400, "BAD_REQUEST"),
    "field without a colon": (b"GET /health HTTP/1.1\r\nHost\r\n\r\n", 400, "BAD_REQUEST"),
    "bare LF": (b"GET /health HTTP/1.1\nHost: x\n\n", 400, "BAD_REQUEST"),
    "two lengths": (
        b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        400,
        "BAD_REQUEST",
    ),
    "length and chunks": (
        b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n",
        400,
        "BAD_REQUEST",
    ),
    "TLS where none is": (bytes.fromhex("1603010200010001fc0303") + bytes(500), 400, "BAD_REQUEST"),
    "PROXY protocol": (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + GOOD, 400, "BAD_REQUEST"),
    "PROXY protocol 2": (b"\r\n\r\n\x00\r\nQUIT\n" + bytes(16), 400, "BAD_REQUEST"),
    "long target": (
        b"GET /health?" + b"a" * 13_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        414,
        "URI_TOO_LONG",
    ),
    "target without an end": (b"GET /" + b"a" * 20_000, 414, "URI_TOO_LONG"),
    "20 KB of cookies": (
        b"GET /health HTTP/1.1\r\nHost: x\r\nCookie: " + b"a" * 20_000 + b"\r\n\r\n",
        431,
        "HEADERS_TOO_LARGE",
    ),
    "many fields": (
        b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100 + b"\r\n",
        431,
        "HEADERS_TOO_LARGE",
    ),
    "no upgrade": (b"GET /ws/energy HTTP/1.1\r\nHost: x\r\n\r\n", 426, "UPGRADE_REQUIRED"),
    "h2c": (
        b"GET /ws/energy HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        426,
        "UPGRADE_REQUIRED",
    ),
    "upgrade of HTTP/1.0": (
        b"GET /ws/energy HTTP/1.0\r\n" + HOST + UPGRADE + b"\r\n",
        426,
        "UPGRADE_REQUIRED",
    ),
    "handshake with a body": (
        b"GET /ws/energy HTTP/1.1\r\n" + HOST + UPGRADE + b"Content-Length: 3\r\n\r\nabc",
        400,
        "BAD_REQUEST",
    ),
    "two keys": (
        b"GET /ws/energy HTTP/1.1\r\n" + HOST + UPGRADE + KEY + b"\r\n",
        400,
        "BAD_REQUEST",
    ),
    "two versions": (
        b"GET /ws/energy HTTP/1.1\r\n" + HOST + UPGRADE + b"Sec-WebSocket-Version: 13\r\n\r\n",
        400,
        "BAD_REQUEST",
    ),
    "two origins": (
        b"GET /ws/energy HTTP/1.1\r\n" + HOST + UPGRADE + b"Origin: a://b\r\nOrigin: c://d\r\n\r\n",
        400,
        "BAD_REQUEST",
    ),
    "unknown path": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 404, "NOT_FOUND"),
    "POST to an unknown path": (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", 404, "NOT_FOUND"),
}
EXTRA = {405: ("allow", "GET, HEAD"), 426: ("sec-websocket-version", "13")}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_requests(door: Door, name: str) -> None:
    request, status, error = REFUSED[name]
    before = counted(door.service, error)
    with door.connect() as client:
        client.sendall(request)
        answer = response(client)
        body = orjson.loads(answer.body)
        assert (answer.status, body["type"], body["code"]) == (status, "error", error)
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["connection"] == "close"
        name, value = EXTRA.get(status, ("connection", "close"))
        assert answer.headers[name] == value
        # Unread bytes do not turn the end into a reset.
        if door.trust is None:
            assert ended(client)
    assert counted(door.service, error) == before + 1
    door.service.wait_logged("request refused", f"reason={error.lower()}")


def counted(service: Service, error: str) -> float:
    """The number of requests refused with this code."""
    with urllib.request.urlopen(
        f"http://127.0.0.1:{service.admin_port}/metrics", timeout=PATIENCE_SECONDS
    ) as answer:
        text = answer.read().decode()
    found = re.search(rf'^energyws_handshakes_total{{result="{error.lower()}"}} (.+)$', text, re.M)
    assert found is not None
    return float(found[1])


@pytest.mark.parametrize(
    "request_",
    [
        GOOD,
        b"GET /health HTTP/1.0\r\n\r\n",
        b"GET /health?from=a-probe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://example.com/health HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"\r\n" + GOOD,
        b"GET /health HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 99 + b"\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nCookie: " + b"a" * 16_000 + b"\r\n\r\n",
    ],
)
def test_health(door: Door, request_: bytes) -> None:
    with door.connect() as client:
        client.sendall(request_)
        answer = response(client)
    assert (answer.status, answer.body) == (200, b"OK")
    date = email.utils.parsedate_to_datetime(answer.headers["date"])
    assert abs(date.timestamp() - time.time()) < 60


def test_head_is_get_without_the_body(door: Door) -> None:
    with door.connect() as client:
        client.sendall(GOOD + GOOD.replace(b"GET", b"HEAD"))
        get, head = response(client), response(client, head=True)
        del get.headers["date"], head.headers["date"]
        assert (head.status, head.headers) == (200, get.headers)
        # The next answer follows immediately.
        client.sendall(GOOD)
        assert response(client).body == b"OK"


def test_requests_one_by_one_and_pipelined(door: Door) -> None:
    with door.connect() as client:
        for count in (1, 3, 1):
            client.sendall(GOOD * count)
            for _ in range(count):
                answer = response(client)
                assert (answer.status, answer.body) == (200, b"OK")
                assert "connection" not in answer.headers
        client.sendall(GOOD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert response(client).headers["connection"] == "close"
        assert ended(client)


def test_a_connection_ends_after_100_requests(door: Door) -> None:
    with door.connect() as client:
        client.sendall(GOOD * 101)
        closing = [response(client).headers.get("connection") for _ in range(100)]
        assert closing == [None] * 99 + ["close"]


def test_an_error_does_not_drop_the_answers_before_it(door: Door) -> None:
    with door.connect() as client:
        client.sendall(GOOD + b"\x16\x03\x01")
        assert [response(client).status for _ in range(2)] == [200, 400]


def test_answer_arrives_although_the_client_is_still_sending(door: Door) -> None:
    with door.connect() as client:
        client.sendall(
            b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 150000\r\n\r\n" + bytes(100_000)
        )
        client.sendall(bytes(50_000))
        assert response(client).status == 405
        if door.trust is None:
            assert ended(client)


def test_head_in_slices_and_a_frame_right_behind_it(door: Door) -> None:
    request = upgrade_request(door.service, "Connection: keep-alive, Upgrade")
    with door.connect() as client:
        for at in range(0, len(request), 7):
            client.sendall(request[at : at + 7])
        assert " 101 " in response_head(client)
    with door.connect() as client:
        client.sendall(request + masked(1, b'{"type":"ping"}') * 20)
        assert " 101 " in response_head(client)
        data = b""
        while data.count(b'"pong"') < 20:
            data += client.recv(65536)


def test_upgrade_after_another_request(door: Door) -> None:
    with door.connect() as client:
        client.sendall(GOOD + upgrade_request(door.service) + masked(9, b"x"))
        assert response(client).status == 200
        assert " 101 " in response_head(client)
        assert first_frame(client.recv(100)) == (b"x", b"")


def test_accept_is_the_clients_own(door: Door) -> None:
    # RFC 6455 section 1.3.
    with door.connect() as client:
        line = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        client.sendall(upgrade_request(door.service, line))
        assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in response_head(client)


def test_long_token_in_the_query_is_accepted(door: Door) -> None:
    query = "?token=" + token(streams=["energy"] + ["s" * 60] * 80)
    assert len(query) > 6_000
    with door.connect() as client:
        client.sendall(upgrade_request(door.service, "Authorization:", query=query))
        assert " 101 " in response_head(client)


@pytest.mark.parametrize("said", [b"", b"GET /health HT", GOOD + b"GET"])
def test_unfinished_request_is_closed_at_the_handshake_timeout(door: Door, said: bytes) -> None:
    with door.connect() as client:
        start = time.monotonic()
        client.sendall(said)
        client.settimeout(PATIENCE_SECONDS)
        with contextlib.suppress(OSError):
            while client.recv(1000):
                pass
        assert HANDSHAKE_SECONDS - 0.5 < time.monotonic() - start < 2 * HANDSHAKE_SECONDS


def test_half_a_request_and_a_reset_are_noticed(door: Door) -> None:
    worker = door.service.children()["worker-0"]
    before = worker.num_fds()
    clients = []
    for _ in range(30):
        client = door.connect()
        client.sendall(b"GET /health HT")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        clients.append(client)
    start = time.monotonic()
    for client in clients:
        client.close()
    eventually(lambda: worker.num_fds() <= before, "the descriptors are closed")
    assert time.monotonic() - start < AT_ONCE_SECONDS
