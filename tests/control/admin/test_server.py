"""The admin port's server recovers from failures, and answers and logs them."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from typing import Any

import pytest

from energyws.control.admin import server as module
from energyws.control.admin.guard import for_port
from energyws.control.admin.server import MAX_REQUESTS_AT_ONCE, AdminServer
from energyws.control.admin.sockets import listen_on_address
from energyws.logs.events import FIELDS
from energyws.logs.rate_limit import RateLimitedLog
from energyws.settings import Admin
from energyws.testing import eventually


def fail_like_a_client() -> tuple[int, Any]:
    raise OSError("a file is missing")


# Lets /slow answer.
slow = threading.Event()


def answer_later() -> tuple[int, Any]:
    assert slow.wait(20)
    return 200, {"ok": True}


@pytest.fixture
def server() -> Iterator[AdminServer]:
    made = AdminServer(
        listen_on_address("admin.port", "127.0.0.1", 0),
        for_port(Admin()),
        {"/ok": lambda: (200, {"ok": True}), "/broken": fail_like_a_client, "/slow": answer_later},
        {},
        {"/broken": lambda body: fail_like_a_client()},
    )
    yield made
    made.close()


def ask(server: AdminServer, path: str, data: bytes | None = None) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{path}", data, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


def answers(server: AdminServer) -> bool:
    try:
        return ask(server, "/ok")[0] == 200
    except OSError:
        return False


@pytest.mark.parametrize("data", [None, b"{}"], ids=["GET", "POST"])
def test_failure_is_answered(server: AdminServer, data: bytes | None) -> None:
    assert ask(server, "/broken", data) == (
        500,
        {"error": "a fault of the service: see its log"},
    )
    assert answers(server)


def test_thread_that_accepts_continues_after_a_failure(
    server: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    failed = threading.Event()

    def fail_once() -> None:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("broken on purpose")

    monkeypatch.setattr(server._server, "service_actions", fail_once)
    failed.wait(10)
    eventually(lambda: answers(server), "the server answers again")


def test_requests_that_get_no_thread_do_not_count_as_running(
    server: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    start: Callable[[threading.Thread], None] = threading.Thread.start

    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_thread)
        for _ in range(MAX_REQUESTS_AT_ONCE + 1):
            assert not answers(server)
    assert threading.Thread.start is start
    eventually(lambda: answers(server), "the server answers again")


def raw(server: AdminServer, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of the answer."""
    with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
        connection.sendall(request)
        with connection.makefile("rb") as answer:
            head, _, body = answer.read().partition(b"\r\n\r\n")
    return head, body


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /ok HTTP/1.1\r\n\r\n", 200),
        (b"GET /nowhere HTTP/1.1\r\n\r\n", 404),
        (b"canary\r\n\r\n", 400),
        (b"GET /ok canary\r\n\r\n", 400),
        (b"canary /ok HTTP/1.1\r\n\r\n", 501),
        (b"OPTIONS /ok HTTP/1.1\r\nOrigin: http://canary.example\r\n\r\n", 501),
        (b"GET /ok HTTP/3.0\r\n\r\n", 505),
        (b"GET /" + b"canary" * 12000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /ok HTTP/1.1\r\n" + b"A: canary\r\n" * 200 + b"\r\n", 431),
        (b"GET /ok HTTP/1.1\r\n" + b"A: " + b"canary" * 9000 + b"\r\n\r\n", 200),
        (b"GET /ok HTTP/1.1\r\n" + 3 * (b"A: " + b"canary" * 9000 + b"\r\n") + b"\r\n", 431),
        (b"GET /ok HTTP/1.1\r\nHost: canary.example\r\n\r\n", 421),
    ],
)
def test_no_answer_tells_versions_or_repeats_the_request(
    server: AdminServer, request_bytes: bytes, status: int
) -> None:
    head, body = raw(server, request_bytes)
    assert head.startswith(b"HTTP/1.0 %d " % status)
    fields = head.lower().split(b"\r\n")
    assert b"content-type: application/json" in fields
    assert b"x-content-type-options: nosniff" in fields
    assert b"cross-origin-resource-policy: same-origin" in fields
    assert not [field for field in fields if field.startswith((b"server:", b"access-control-"))]
    assert b"python" not in head.lower() + body.lower()
    assert b"canary" not in head + body
    assert json.loads(body).keys() <= {"ok", "error", "paths"}


def test_head_has_no_body(server: AdminServer) -> None:
    head, body = raw(server, b"HEAD /ok HTTP/1.0\r\n\r\n")
    assert b"Content-Length: 11" in head
    assert not body


def test_wrong_token_is_told_the_scheme(server: AdminServer) -> None:
    server.guard = for_port(Admin(token="a-token-of-an-operator"))
    head, body = raw(server, b"GET /ok HTTP/1.1\r\n\r\n")
    assert b"HTTP/1.0 401 Unauthorized" in head
    assert b"WWW-Authenticate: Bearer" in head
    assert b"admin.token" in body


def test_name_that_is_refused_is_in_the_log(
    server: AdminServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_limited", RateLimitedLog(module._log, 10.0))
    raw(server, b"GET /ok HTTP/1.1\r\nHost: ops.example" + b"x" * 200 + b"\r\n\r\n")
    (record,) = caplog.records
    assert record.getMessage() == "admin request by a name that is not in admin.hosts"
    host = getattr(record, FIELDS)["host"]
    assert host.startswith("ops.examplex")
    assert len(host) == 100


def test_half_requests_keep_nobody_out(server: AdminServer) -> None:
    held: list[socket.socket] = []
    try:
        for _ in range(3 * MAX_REQUESTS_AT_ONCE):
            held.append(socket.create_connection(("127.0.0.1", server.port), 5))
            held[-1].sendall(b"GET /ok HTTP/1.1\r\nHost: ")
            if len(held) % 8 == 0:
                assert answers(server)
        # The oldest have made way.
        assert held[0].recv(1) == b""
    finally:
        for each in held:
            each.close()


def test_slow_request_is_ended_however_often_a_byte_comes(
    server: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server._server.visits, "_seconds", 0.2)
    with socket.create_connection(("127.0.0.1", server.port), 5) as connection:

        def ended() -> bool:
            try:
                connection.sendall(b"x")
            except OSError:
                return True
            return False

        eventually(ended, "the connection is ended")


def test_answers_take_as_long_as_they_need(
    server: AdminServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server._server.visits, "_seconds", 0.2)
    swept = threading.Semaphore(0)
    sweep = server._server.visits.drop_overdue

    def counted() -> None:
        sweep()
        swept.release()

    monkeypatch.setattr(server._server.visits, "drop_overdue", counted)
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/slow")
    # Twice at least while the answer is being made.
    assert swept.acquire(timeout=10)
    assert swept.acquire(timeout=10)
    slow.set()
    with connection.getresponse() as answer:
        assert answer.status == 200
    connection.close()
