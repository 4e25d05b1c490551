from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from websockets.sync.server import ServerConnection, serve

from energyws.testing.conformance.target import Target
from energyws.testing.conformance.wire import BINARY, PING, PONG, Event, Wire, accept

Pair = tuple[Wire, Wire]


def soon() -> float:
    return time.monotonic() + 20


@pytest.fixture
def pair() -> Iterator[Pair]:
    """The two ends of a connection: client and server."""
    ends = socket.socketpair()
    client, server = Wire(ends[0], masks=True), Wire(ends[1], masks=False)
    yield client, server
    client.shut()
    server.shut()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 70_001])
@pytest.mark.parametrize("fragments", [1, 3])
def test_message_arrives(pair: Pair, size: int, fragments: int) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    for sender, receiver in (pair, pair[::-1]):
        message = threading.Thread(
            target=sender.message, args=(payload[:size],), kwargs={"fragments": fragments}
        )
        message.start()
        assert receiver.receive(soon()) == Event("message", payload[:size])
        message.join()


def test_ping_is_answered_between_the_fragments_of_a_message(pair: Pair) -> None:
    client, server = pair
    client.frame(BINARY, b"a", final=False)
    client.frame(PING, b"hello")
    client.frame(0, b"b")
    assert server.receive(soon()) == Event("message", b"ab")
    assert client.receive(soon()) == Event("pong", b"hello")


def test_close_is_answered_once(pair: Pair) -> None:
    client, server = pair
    client.close(1000, "bye")
    assert server.receive(soon()) == Event("close", b"bye", 1000)
    assert client.receive(soon()) == Event("close", b"", 1000)
    server.shut()
    assert client.receive(soon()) == Event("end")


def test_end_in_the_middle_of_a_frame(pair: Pair) -> None:
    client, server = pair
    client.write(b"\x81\x85abcd12")
    client.shut()
    assert server.receive(soon()) == Event("end")


def test_silence_ends_at_the_deadline(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        pair[0].receive(time.monotonic())


def test_head_and_body_of_http(pair: Pair) -> None:
    client, server = pair
    client.write(b"GET / HTTP/1.1\r\nA: 1\r\nb:2 \r\n\r\nbody and more")
    assert server.head(soon()) == ("GET / HTTP/1.1", {"a": "1", "b": "2"})
    assert server.body(4, soon()) == b"body"
    client.shut()
    assert server.body(None, soon()) == b" and more"
    with pytest.raises(ConnectionError):
        server.head(soon())


def test_accept_is_that_of_the_standard() -> None:
    assert accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_an_independent_library_understands_it() -> None:
    got: list[object] = []

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            got.append(message)
            connection.send([message[:1], message[1:]])

    with serve(echo, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        port = server.socket.getsockname()[1]
        wire, status, _ = Target(f"ws://127.0.0.1:{port}/", "token").open("a=b", {})
        assert status == 101
        wire.message("grün".encode(), fragments=2)
        assert wire.receive(soon()) == Event("message", "grün".encode())
        wire.frame(PING, b"x")
        assert wire.receive(soon()) == Event("pong", b"x")
        wire.frame(PONG, b"unasked")
        wire.close(1000)
        assert wire.receive(soon()).code == 1000
        wire.shut()
        server.shutdown()
        thread.join()
    assert got == ["grün"]
