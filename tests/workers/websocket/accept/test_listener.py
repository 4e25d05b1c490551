"""The listener: connections after their handshake, stopping, and changed settings."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from picows import WSListener, WSTransport

from energyws.process.board import Board, Field
from energyws.protocol.http.request import BadRequest, Request
from energyws.protocol.http.response import Response
from energyws.settings import Server, Tls
from energyws.testing.certificates import trusting, write_pair
from tests.workers.websocket.recording import arrivals
from workers.websocket.accept import arrivals as arrivals_module
from workers.websocket.accept.handshake import _switching
from workers.websocket.accept.listener import Listener
from workers.websocket.accept.tls_context import tls_context
from workers.websocket.connection import upgrade
from workers.websocket.connection.upgrade import Upgrade

BOARD = Board.create()
ROW = BOARD.row(0)
SERVER = Server()
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n%b\r\n"
)
# The key of RFC 6455 section 1.3, and another one.
KEYS = {
    b"dGhlIHNhbXBsZSBub25jZQ==": b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    b"AAAAAAAAAAAAAAAAAAAAAA==": b"ICX+Yqv66kxgM0FcWaLWlFLwTAI=",
}


class Recorder(WSListener):
    """Records its transport."""

    def __init__(self) -> None:
        self.transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        transport.underlying_transport.write(upgrade.head(transport))


class Gate:
    """Accepts every request, with one listener."""

    leaving = False

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.peer = ""

    def answer(self, request: Request, peer: str) -> Response | Upgrade:
        self.peer = peer
        return _switching(self.recorder, request)

    def refuse(self, bad: BadRequest, peer: str) -> Response:
        raise AssertionError(bad)


async def _connect(
    tls: ssl.SSLContext | None, trust: ssl.SSLContext | None, key: bytes, header: bytes = b""
) -> tuple[bytes, Recorder]:
    gate = Gate()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listener = Listener(listening, Server(), tls, gate, 1_000, ROW, arrivals(BOARD, SERVER))
        listener.start()
        reader, writer = await asyncio.open_connection(*listening.getsockname(), ssl=trust)
        writer.write(REQUEST % (key, header))
        head = await reader.readuntil(b"\r\n\r\n")
        listener.close()
    assert gate.recorder.transport is not None
    assert gate.peer == "127.0.0.1"
    writer.close()
    return head, gate.recorder


@pytest.mark.parametrize("header", [b"", b"Sec-WebSocket-Protocol: energyws, bearer.x\r\n"])
def test_shared_response_has_the_accept_value_of_each_client(header: bytes) -> None:
    async def test() -> None:
        for key, accept in KEYS.items():
            head, _ = await _connect(None, None, key, header)
            assert head.count(b"Sec-WebSocket-Accept:") == 1
            assert b"Sec-WebSocket-Accept: " + accept + b"\r\n" in head
            assert (b"Sec-WebSocket-Protocol: energyws\r\n" in head) is bool(header)
            assert b"bearer" not in head

    uvloop.run(test())


def test_tls_connection_uses_no_memory_bios(tmp_path: Path) -> None:
    pair = write_pair(tmp_path)

    async def test() -> None:
        tls = tls_context(Tls(**pair))
        head, recorder = await _connect(tls, trusting(pair["cert"]), next(iter(KEYS)))
        assert head.startswith(b"HTTP/1.1 101 ")
        assert recorder.transport is not None
        extra_info = recorder.transport.underlying_transport.get_extra_info
        assert extra_info("ssl_incoming_use_membio") is False
        assert extra_info("ssl_outgoing_use_membio") is False

    uvloop.run(test())


def test_connection_accepted_before_the_stop_is_upgraded_after_it() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listener = Listener(
                listening, Server(), None, Gate(), 1_000, ROW, arrivals(BOARD, SERVER)
            )
            listener.start()
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            while not listener.waiting:
                await asyncio.sleep(0)
            listener.stop()
            settled = asyncio.ensure_future(listener.settled())
            await asyncio.sleep(0)
            assert not settled.done()
            writer.write(REQUEST % (next(iter(KEYS)), b""))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            await settled
            listener.close()
        writer.close()

    uvloop.run(test())


def test_changed_handshake_timeout_takes_effect_immediately() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            settings = Server(handshake_timeout_seconds=60)
            listener = Listener(
                listening, settings, None, Gate(), 1_000, ROW, arrivals(BOARD, SERVER)
            )
            listener.start()
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            while not listener.waiting:
                await asyncio.sleep(0)
            listener.use_settings(replace(settings, handshake_timeout_seconds=0.1), None)
            assert await asyncio.wait_for(reader.read(), 10) == b""
            listener.close()
        writer.close()

    uvloop.run(test())


class Large(Gate):
    """Answers with more than a socket's buffers hold."""

    size = 8_000_000

    def answer(self, request: Request, peer: str) -> Response | Upgrade:
        return Response(200, bytes(self.size))


class Small(Large):
    """Answers at once."""

    size = 2


@pytest.mark.parametrize("secure", [False, True], ids=["http", "https"])
def test_answers_of_any_size_are_complete_and_their_connection_is_kept(
    tmp_path: Path, secure: bool
) -> None:
    pair = write_pair(tmp_path) if secure else None
    request = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"

    async def test() -> None:
        tls, trust = (tls_context(Tls(**pair)), trusting(pair["cert"])) if pair else (None, None)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listener = Listener(
                listening, Server(), tls, Large(), 1_000, ROW, arrivals(BOARD, SERVER)
            )
            listener.start()
            reader, writer = await asyncio.open_connection(*listening.getsockname(), ssl=trust)
            for count in (3, 1):
                writer.write(request * count)
                for _ in range(count):
                    head = await reader.readuntil(b"\r\n\r\n")
                    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
                    await reader.readexactly(8_000_000)
            assert listener.waiting
            listener.stop()
            assert await reader.read() == b""
            await listener.settled()
            listener.close()
        writer.close()

    uvloop.run(asyncio.wait_for(test(), 30))


def serving(
    listening: socket.socket,
    gate: Gate,
    settings: Server = SERVER,
    tls: ssl.SSLContext | None = None,
    **limits: Any,
) -> Listener:
    """A listener that has started; nothing is pending before."""
    assert ROW[Field.PENDING] == 0
    made = arrivals(BOARD, settings, **limits)
    listener = Listener(listening, settings, tls, gate, 1_000, ROW, made)
    listener.start()
    return listener


async def ended(listener: Listener) -> None:
    """The listener has closed everything, and counted it."""
    listener.close()
    while ROW[Field.PENDING]:
        await asyncio.sleep(0)


BEHIND_PROXY = Server(trusted_proxies=("127.0.0.0/8",), proxy_protocol="required")
HEADER = b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 443\r\n"


@pytest.mark.parametrize("cut", [0, 3, len(HEADER) - 1, len(HEADER)])
def test_proxy_names_the_client_before_its_request(cut: int) -> None:
    async def test() -> None:
        gate = Gate()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listener = serving(listening, gate, BEHIND_PROXY)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            data = HEADER + REQUEST % (next(iter(KEYS)), b"")
            for part in (data[:cut], data[cut:]):
                writer.write(part)
                while part and not listener.waiting:
                    await asyncio.sleep(0)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert gate.peer == "192.0.2.1"
            await ended(listener)
        writer.close()

    uvloop.run(asyncio.wait_for(test(), 30))


def test_proxy_names_the_client_before_tls(tmp_path: Path) -> None:
    pair = write_pair(tmp_path)

    async def test() -> None:
        gate = Gate()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listener = serving(listening, gate, BEHIND_PROXY, tls_context(Tls(**pair)))
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(HEADER)
            await writer.start_tls(trusting(pair["cert"]), server_hostname="127.0.0.1")
            writer.write(REQUEST % (next(iter(KEYS)), b""))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert gate.peer == "192.0.2.1"
            await ended(listener)
        writer.close()

    uvloop.run(asyncio.wait_for(test(), 30))


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", HEADER[:-2] + b"!\r\n", b"\x16\x03\x01"]
)
def test_connection_without_its_required_header_is_closed(data: bytes) -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listener = serving(listening, Gate(), BEHIND_PROXY)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(data)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            await ended(listener)
        writer.close()

    uvloop.run(asyncio.wait_for(test(), 30))


def test_connection_over_its_limit_is_closed_and_the_next_one_served() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listener = serving(listening, Gate(), pending_per_address=1)
            silent, held = await asyncio.open_connection(*listening.getsockname())
            while not listener.waiting:
                await asyncio.sleep(0)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
            held.close()
            while listener.waiting:
                await asyncio.sleep(0)
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writer.write(REQUEST % (next(iter(KEYS)), b""))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            await ended(listener)
            assert await silent.read() == b""
        writer.close()

    uvloop.run(asyncio.wait_for(test(), 30))


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
def test_silent_connections_make_room_for_a_client(
    tmp_path: Path, secure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals_module, "PATIENCE_SECONDS", 0.0)
    pair = write_pair(tmp_path) if secure else None

    async def test() -> None:
        tls, trust = (tls_context(Tls(**pair)), trusting(pair["cert"])) if pair else (None, None)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            address = listening.getsockname()
            listener = serving(listening, Gate(), tls=tls, pending_connections=64)
            silent = []
            for _ in range(64):
                silent.append(socket.create_connection(address))
                if secure:
                    # As far as a transport of its own.
                    silent[-1].send(b"\x16")
            while listener.waiting < 64:
                await asyncio.sleep(0)
            reader, writer = await asyncio.open_connection(*address, ssl=trust)
            writer.write(REQUEST % (next(iter(KEYS)), b""))
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert listener.waiting < 64
            await ended(listener)
        writer.close()
        for each in silent:
            each.close()

    uvloop.run(asyncio.wait_for(test(), 30))


def test_connection_that_asks_again_is_no_newer() -> None:
    """Or those that ask again and again would never make room."""

    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listener = serving(listening, Small())
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            while not (waiting := listener._pending.all):
                await asyncio.sleep(0)
            (pending,) = waiting
            came, since = pending.came, pending.since
            writer.write(b"GET /1 HTTP/1.1\r\nHost: here\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
            while pending.since == since:
                await asyncio.sleep(0)
            now = pending.came
            await ended(listener)
        writer.close()
        assert now == came

    uvloop.run(asyncio.wait_for(test(), 30))


def test_half_of_the_descriptors_are_kept_for_clients() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listener = serving(listening, Gate())
            silent = [socket.create_connection(listening.getsockname()) for _ in range(2)]
            while listener.waiting < 2:
                await asyncio.sleep(0)
            for descriptors, room in ((4, 0), (5, 0), (8, 2)):
                listener._max_descriptor = descriptors
                assert listener._room() == room
            await ended(listener)
        for each in silent:
            each.close()

    uvloop.run(asyncio.wait_for(test(), 30))
