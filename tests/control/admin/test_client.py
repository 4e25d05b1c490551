"""What is said of an admin port that is none, or that refuses."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from energyws.control.admin import client as remote_module
from energyws.control.admin.client import AdminClient, AdminRequestFailed
from energyws.control.admin.server import AdminServer
from energyws.control.status.service import look
from energyws.settings import Admin

Answering = Callable[[int, bytes], str]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Starts servers that give one answer to everything; their URLs."""
    servers: list[HTTPServer] = []

    def start(status: int, body: bytes) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", "0")))
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        # A schema registry, and the WebSocket port of this very service.
        (404, b'{"error_code":404,"message":"HTTP 404 Not Found"}'),
        (404, b'{"type":"error","message":"No such path","code":"NOT_FOUND"}'),
        (405, b"<html>Method Not Allowed</html>"),
        (200, b"<html>"),
        (200, b"{}"),
        (200, b"[]"),
        (200, b"OK"),
        (302, b""),
    ],
)
def test_another_service_is_told_as_one(answering: Answering, status: int, body: bytes) -> None:
    remote = AdminClient(Admin(), answering(status, body))
    for ask in (lambda: look(remote), lambda: remote.post("/workers", {}, "before", "workers")):
        with pytest.raises(AdminRequestFailed) as refused:
            ask()
        assert str(refused.value) == (
            f"what answers on {remote.where} is not the admin port of an energyws service: "
            "its log line `admin listening` has the port"
        )


@pytest.mark.parametrize("said", [b"", b"\x15\x03\x01\x00\x02\x02\x16", b"SSH-2.0-OpenSSH\r\n"])
def test_another_protocol_is_told_as_one(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(
            AdminRequestFailed, match="is not the admin port of an energyws service"
        ):
            look(AdminClient(Admin(), url))
        thread.join()


def test_port_that_is_closed_is_told_with_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(
        AdminRequestFailed, match=r"nobody answers on 127\.0\.0\.1:\d+: Connection refused"
    ):
        look(AdminClient(Admin(), url))


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "x" * 64])
def test_host_that_does_not_exist_is_told(host: str) -> None:
    with pytest.raises(AdminRequestFailed, match=f"nobody answers on {host}:1: "):
        look(AdminClient(Admin(), f"http://{host}:1"))


def test_answer_that_does_not_come_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_module, "GET_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(AdminRequestFailed, match=r"does not answer within 0\.1 s"):
            look(AdminClient(Admin(), url))


def test_port_that_only_the_log_tells_is_told_as_such() -> None:
    with pytest.raises(AdminRequestFailed, match=r"admin\.port is 0.*use --admin http://HOST:PORT"):
        AdminClient(Admin(port=0))


@pytest.fixture
def guarded() -> Iterator[AdminClient]:
    """The real admin port, with a token; a remote control that knows it only when asked."""
    commands = {"/roll": lambda body: (200, {"replacing": True})}
    server = AdminServer(Admin(port=0, token="let me"), {}, {}, commands)
    yield AdminClient(Admin(port=server.port), token=lambda: "let me")
    server.close()


def test_token_is_looked_for_only_when_it_is_wanted(guarded: AdminClient) -> None:
    assert guarded.post("/roll", None, "replacing") == {"replacing": True}

    def never() -> str:
        raise AssertionError

    server = AdminServer(Admin(port=0), {}, {}, {"/roll": lambda body: (200, {})})
    assert AdminClient(Admin(port=server.port), token=never).post("/roll", None) == {}
    server.close()


def test_missing_and_wrong_tokens_are_told_apart(guarded: AdminClient) -> None:
    url = f"http://{guarded.where}"
    for without in (AdminClient(Admin(), url), AdminClient(Admin(), url, lambda: None)):
        with pytest.raises(
            AdminRequestFailed, match=r"wants its admin\.token: set ENERGYWS_ADMIN__TOKEN"
        ):
            without.post("/roll", None)
    for wrong in (
        AdminClient(Admin(token="let him"), url),
        AdminClient(Admin(), url, lambda: "let him"),
    ):
        with pytest.raises(AdminRequestFailed, match=r"has another admin\.token") as refused:
            wrong.post("/roll", None)
        assert "let him" not in str(refused.value)


def test_token_that_no_request_can_carry_is_told_as_such(guarded: AdminClient) -> None:
    for token in ("let\nme", "let me €"):
        with pytest.raises(
            AdminRequestFailed, match=r"admin\.token holds characters that no request"
        ) as no:
            AdminClient(Admin(token=token), f"http://{guarded.where}").post("/roll", None)
        assert "let" not in str(no.value)
