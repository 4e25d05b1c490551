from __future__ import annotations

import http.client
import io
import socket
import threading
from typing import cast

import pytest

from energyws.testing.conformance.target import Fault, Target, events, features, json_of
from tests.testing.conformance.servers import correct, server

TARGET = Target("ws://127.0.0.1:1/ws/energy", "a.b+c")


@pytest.mark.parametrize(
    ("kind", "headers", "query"),
    [
        ("header", {"Authorization": "Bearer a.b+c"}, ""),
        ("wrong", {"Authorization": "Bearer header.payload.signature"}, ""),
        ("subprotocol", {"Sec-WebSocket-Protocol": "energyws, bearer.a.b+c"}, ""),
        ("query", {}, "token=a.b%2Bc"),
        ("none", {}, ""),
    ],
)
def test_credentials(kind: str, headers: dict[str, str], query: str) -> None:
    assert TARGET.credentials(kind) == (headers, query)


def test_token_is_not_shown() -> None:
    assert TARGET.token not in repr(TARGET)


def test_events_of_a_stream() -> None:
    text = (
        b'retry: 1000\n\n: comment\n\nevent: subscribed\nid: aa-1\ndata: {"a":1}\n\n'
        b'id: aa-2\r\ndata:{"b":2}\r\n\r\n:\n\ndata: {"cut":"off"}\n'
    )
    response = cast("http.client.HTTPResponse", io.BytesIO(text))
    assert list(events(response)) == [
        {"event": "subscribed", "id": "aa-1", "data": {"a": 1}, "retry": "1000"},
        {"id": "aa-2", "data": {"b": 2}, "retry": "1000"},
    ]


def test_what_the_server_lacks_is_named() -> None:
    with server(correct) as target:
        assert features(target) == {
            "keys": "the newest records of the stream energy have no key",
            **{name: f"the server has no /{name}" for name in ("sse", "last", "history")},
        }
    with server(lambda message: [{**each, "key": "a"} for each in correct(message)]) as target:
        assert "keys" not in features(target)
    with server(lambda message: correct(message)[:2], seconds=0.3) as target:
        assert features(target)["records"] == "the stream energy has 1 records, and 2 are needed"


def test_server_that_cannot_be_judged() -> None:
    with (
        server(correct, status=401) as target,
        pytest.raises(Fault, match="token is refused"),
    ):
        features(target)
    unknown = [{"type": "error", "code": "UNKNOWN_STREAM", "message": ""}]
    with server(lambda _: unknown) as target, pytest.raises(Fault, match="no stream 'energy'"):
        features(target)
    with pytest.raises(OSError, match="refused"):
        features(TARGET)


@pytest.mark.parametrize("payload", [b"{", b"[]", b"null", b"\xff"])
def test_message_that_is_no_object(payload: bytes) -> None:
    with pytest.raises(Fault, match="a message is no"):
        json_of(payload)


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"HTTP/1.1 \r\n\r\n", b""])
def test_server_that_speaks_no_http(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        target = Target(f"ws://127.0.0.1:{listener.getsockname()[1]}/", "a.b.c", seconds=20)
        with pytest.raises((Fault, ConnectionError)):
            features(target)
        with pytest.raises((Fault, ConnectionError)):
            target.request("GET", "/", {})
        thread.join()
