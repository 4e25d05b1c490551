"""HTTP over TLS: the effect of each response on the connection and its timeout."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from energyws.protocol.http_request import BadRequest, Request
from energyws.protocol.http_response import Response
from energyws.settings import Server
from workers.websocket.connection.http_exchange import Exchange
from workers.websocket.connection.transport_exchange import LINGER_BYTES, TransportExchange

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
DEADLINE_SECONDS = 10.0


class Gate:
    """Answers every request with 200."""

    leaving = False

    def answer(self, request: Request, peer: str) -> Response:
        return Response(200, b"OK")

    def refuse(self, bad: BadRequest, peer: str) -> Response:
        return Response(400, b"no")


class Transport:
    """Records what is written, and how it ends."""

    def __init__(self) -> None:
        self.written = b""
        self.ended: list[str] = []

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.ended.append("close")

    def abort(self) -> None:
        self.ended.append("abort")


class Connection:
    """An exchange after its TLS handshake."""

    def __init__(self, connection: socket.socket, timeout: float = 3600.0) -> None:
        self.gate = Gate()
        self.over: list[TransportExchange] = []
        self.transport: Any = Transport()
        self.exchange = TransportExchange(
            Exchange(self.gate, "192.0.2.1"),
            connection,
            Server(handshake_timeout_seconds=timeout),
            self.over.append,
        )
        self.exchange.connection_made(self.transport)

    def receive(self, data: bytes) -> None:
        while data:
            buffer = self.exchange.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            self.exchange.buffer_updated(size)
            data = data[size:]


@pytest.fixture
def accepted() -> Iterator[socket.socket]:
    server, client = socket.socketpair()
    with server, client:
        yield server


Test = Callable[[], Coroutine[Any, Any, None]]


def run(test: Test) -> None:
    asyncio.run(asyncio.wait_for(test(), DEADLINE_SECONDS))


def test_requests_are_answered_in_turn(accepted: socket.socket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.receive(GET[:5])
        assert it.transport.written == b""
        it.receive(GET[5:] + GET)
        assert it.transport.written.count(b"HTTP/1.1 200 OK") == 2
        assert it.transport.ended == []

    run(test)


def test_last_response_closes_without_waiting_for_the_client(accepted: socket.socket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.gate.leaving = True
        it.receive(GET)
        assert b"Connection: close" in it.transport.written
        # The abort keeps aiofastnet from reading further data.
        assert it.transport.ended == ["close", "abort"]

    run(test)


def test_bytes_after_an_error_are_dropped_up_to_a_bound(accepted: socket.socket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.receive(b"\0\r\n\r\n")
        response = it.transport.written
        assert response.startswith(b"HTTP/1.1 400 ")
        it.receive(GET + bytes(LINGER_BYTES - len(GET)))
        assert (it.transport.written, it.transport.ended) == (response, [])
        it.receive(b"x")
        assert it.transport.ended == ["abort"]

    run(test)


def test_client_that_does_not_read_its_responses_is_aborted(accepted: socket.socket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.exchange.pause_writing()
        assert it.transport.ended == ["abort"]

    run(test)


def test_silent_client_is_aborted_after_the_handshake_timeout(accepted: socket.socket) -> None:
    async def test() -> None:
        it = Connection(accepted, timeout=0.01)
        while it.transport.ended != ["abort"]:
            await asyncio.sleep(0.001)

    run(test)


def test_only_a_connection_between_two_requests_is_idle(accepted: socket.socket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        for sent in (b"", GET[:5]):
            it.receive(sent)
            it.exchange.close_if_idle()
            assert it.transport.ended == []
        it.receive(GET[5:])
        it.exchange.close_if_idle()
        assert it.transport.ended == ["close", "abort"]

    run(test)


def test_end_of_the_connection_is_reported(accepted: socket.socket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.exchange.connection_lost(None)
        assert it.over == [it.exchange]
        it.exchange.abort()
        assert it.transport.ended == []

    run(test)
