"""The errors for an address that is no admin port, or that refuses."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from energyws.control.admin import client as module
from energyws.control.admin.client import AdminClient, AdminRequestFailed
from energyws.control.admin.guard import for_port
from energyws.control.admin.server import AdminServer, Answers, Commands
from energyws.control.admin.sockets import listen_on_address
from energyws.control.status.service import look
from energyws.settings import Admin

Answering = Callable[[int, bytes], str]


@pytest.fixture
def answering() -> Iterator[Answering]:
    """Starts servers that give the same answer to every request; returns their URLs."""
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
def test_another_service_is_recognised(answering: Answering, status: int, body: bytes) -> None:
    client = AdminClient(Admin(), answering(status, body))
    for ask in (lambda: look(client), lambda: client.post("/workers", {}, "before", "workers")):
        with pytest.raises(AdminRequestFailed) as refused:
            ask()
        assert str(refused.value) == (
            f"{client.where} is not the admin port of an energyws service: "
            "its log line `admin listening` has the port"
        )


@pytest.mark.parametrize("greeting", [b"", b"\x15\x03\x01\x00\x02\x02\x16", b"SSH-2.0-OpenSSH\r\n"])
def test_another_protocol_is_recognised(greeting: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(greeting)

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(
            AdminRequestFailed, match="is not the admin port of an energyws service"
        ):
            look(AdminClient(Admin(), url))
        thread.join()


def test_closed_port_is_an_error_with_the_reason() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(
        AdminRequestFailed, match=r"cannot connect to 127\.0\.0\.1:\d+: Connection refused"
    ):
        look(AdminClient(Admin(), url))


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b", "x" * 64])
def test_host_that_does_not_exist_is_an_error(host: str) -> None:
    with pytest.raises(AdminRequestFailed, match=f"cannot connect to {host}:1: "):
        look(AdminClient(Admin(), f"http://{host}:1"))


def test_missing_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GET_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(AdminRequestFailed, match=r"does not answer within 0\.1 s"):
            look(AdminClient(Admin(), url))


def test_port_0_is_an_error_that_names_the_log_line() -> None:
    with pytest.raises(AdminRequestFailed, match=r"admin\.port is 0.*use --admin http://HOST:PORT"):
        AdminClient(Admin(port=0))


def served(admin: Admin, commands: Commands) -> AdminServer:
    answers: Answers = {"/workers": lambda: (200, [])}
    listening = listen_on_address("admin.port", "127.0.0.1", 0)
    return AdminServer(listening, for_port(admin), answers, {}, commands)


@pytest.fixture
def guarded() -> Iterator[AdminClient]:
    """The real admin port with a token, and a client that looks the token up when it needs it."""
    commands = {"/roll": lambda body: (200, {"replacing": True})}
    server = served(Admin(token="let me"), commands)
    yield AdminClient(Admin(port=server.port), token=lambda: "let me")
    server.close()


def test_token_is_looked_up_only_when_the_service_requires_one(guarded: AdminClient) -> None:
    assert guarded.get("/workers") == []
    assert guarded.post("/roll", None, "replacing") == {"replacing": True}

    def never() -> str:
        raise AssertionError

    server = served(Admin(), {"/roll": lambda body: (200, {})})
    assert AdminClient(Admin(port=server.port), token=never).post("/roll", None) == {}
    assert AdminClient(Admin(port=server.port), token=never).get("/workers") == []
    server.close()


def test_missing_and_wrong_tokens_are_different_errors(guarded: AdminClient) -> None:
    url = f"http://{guarded.where}"
    for without in (AdminClient(Admin(), url), AdminClient(Admin(), url, lambda: None)):
        with pytest.raises(
            AdminRequestFailed, match=r"requires admin\.token: set ENERGYWS_ADMIN__TOKEN"
        ):
            without.get("/workers")
        with pytest.raises(AdminRequestFailed, match=r"requires admin\.token"):
            without.post("/roll", None)
    for wrong in (
        AdminClient(Admin(token="let him"), url),
        AdminClient(Admin(), url, lambda: "let him"),
    ):
        with pytest.raises(
            AdminRequestFailed, match=r"does not accept this admin\.token"
        ) as refused:
            wrong.post("/roll", None)
        assert "let him" not in str(refused.value)


def test_token_that_no_header_can_have_is_an_error(guarded: AdminClient) -> None:
    for token in ("let\nme", "let me €"):
        with pytest.raises(
            AdminRequestFailed, match=r"admin\.token has characters that no HTTP header"
        ) as no:
            AdminClient(Admin(token=token), f"http://{guarded.where}").post("/roll", None)
        assert "let" not in str(no.value)


@pytest.mark.parametrize("url", ["unix:", "unix", "http://", "https://127.0.0.1:1"])
def test_address_that_is_none(url: str) -> None:
    with pytest.raises(AdminRequestFailed, match="--admin: use http://HOST:PORT or unix:PATH"):
        AdminClient(Admin(), url)
