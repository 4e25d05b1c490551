"""TLS handshakes that fail, take too long or are ended, by a listener with real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress

import aiofastnet
import pytest
import uvloop

from energyws.process.board import Board
from energyws.protocol.http.request import BadRequest, Request
from energyws.protocol.http.response import Response
from energyws.settings import Server, Tls
from energyws.testing.certificates import trusting, write_pair
from tests.workers.websocket.recording import arrivals
from workers.websocket.accept.listener import Listener
from workers.websocket.accept.tls_context import tls_context
from workers.websocket.accept.tls_handshake import TlsHandshake

BOARD = Board.create()
# Of a record with 512 bytes of a handshake (RFC 8446 section 5.1): only a beginning of them.
HALF_A_CLIENT_HELLO = bytes.fromhex("16 03 01 02 00 01 00 01 fc 03 03") + bytes(100)
HTTP = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"


class Gate:
    """Answers every request."""

    leaving = False

    def answer(self, request: Request, peer: str) -> Response:
        return Response(200, b"hello")

    def refuse(self, bad: BadRequest, peer: str) -> Response:
        raise AssertionError(bad)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return write_pair(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["dynamic", "static"])
def tls(
    request: pytest.FixtureRequest, pair: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext:
    """Also as with an interpreter that OpenSSL is a part of."""
    context = tls_context(Tls(**pair))
    if request.param == "static":
        monkeypatch.setattr(aiofastnet, "OPENSSL_DYN_LIBS", None)
        context._aiofastnet_force_fallback_ssl = True  # type: ignore[attr-defined]
    return context


@asynccontextmanager
async def serving(tls: ssl.SSLContext, seconds: float = 60) -> AsyncIterator[Listener]:
    """A listener, closed at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        settings = Server(handshake_timeout_seconds=seconds)
        made = arrivals(BOARD, settings)
        listener = Listener(listening, settings, tls, Gate(), 1_000, BOARD.row(0), made)
        listener.start()
        try:
            yield listener
        finally:
            listener.close()


async def connected(listener: Listener) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*listener._listening.getsockname())


async def waiting(listener: Listener, count: int) -> None:
    while listener.waiting != count or (count and listener._pending.all):
        await asyncio.sleep(0)


def run(test: Coroutine[None, None, None]) -> None:
    uvloop.run(asyncio.wait_for(test, 30))


async def ended(reader: asyncio.StreamReader) -> None:
    """Wait until the server has closed the connection, perhaps after an alert."""
    with suppress(OSError):
        await reader.read()


def test_handshake_is_followed_by_requests(tls: ssl.SSLContext, pair: dict[str, str]) -> None:
    async def test() -> None:
        async with serving(tls) as listener:
            trust = trusting(pair["cert"])
            address = listener._listening.getsockname()
            reader, writer = await asyncio.open_connection(*address, ssl=trust)
            await waiting(listener, 1)
            for _ in range(2):
                writer.write(HTTP)
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
                assert await reader.readexactly(5) == b"hello"
            writer.close()
            await waiting(listener, 0)
            await listener.settled()

    run(test())


@pytest.mark.parametrize("garbage", [HTTP, b"\0", bytes(1000)], ids=["http", "byte", "zeros"])
def test_client_that_does_not_speak_tls_is_logged_and_closed(
    tls: ssl.SSLContext, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with serving(tls) as listener:
            reader, writer = await connected(listener)
            writer.write(garbage)
            writer.write_eof()
            await ended(reader)
            await listener.settled()
            assert listener.waiting == 0
            writer.close()

    with caplog.at_level(logging.DEBUG, "energyws.listener"):
        run(test())
    assert [line for line in caplog.messages if line.startswith("TLS handshake failed")]


@pytest.mark.parametrize("sent", [b"", HALF_A_CLIENT_HELLO], ids=["nothing", "half"])
def test_client_that_does_not_go_on_is_closed_after_the_timeout(
    tls: ssl.SSLContext, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with serving(tls, seconds=0.2) as listener:
            reader, writer = await connected(listener)
            writer.write(sent)
            await ended(reader)
            await listener.settled()
            assert listener.waiting == 0
            writer.close()

    with caplog.at_level(logging.DEBUG, "energyws.listener"):
        run(test())
    # One that has sent nothing has no handshake yet.
    logged = [line for line in caplog.messages if line.startswith("TLS handshake failed")]
    assert bool(logged) is bool(sent)


def test_reset_in_the_handshake_is_logged_and_leaves_nothing(
    tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        # uvloop does not watch a socket that has an error when it is to be watched.
        seconds = 60 if aiofastnet.OPENSSL_DYN_LIBS else 0.2
        async with serving(tls, seconds) as listener:
            client = socket.create_connection(listener._listening.getsockname())
            client.send(HALF_A_CLIENT_HELLO)
            await waiting(listener, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            await listener.settled()
            assert listener.waiting == 0

    with caplog.at_level(logging.DEBUG, "energyws.listener"):
        run(test())
    assert [line for line in caplog.messages if line.startswith("TLS handshake failed")]


@pytest.mark.parametrize("failed", [True, False])
def test_handshake_that_is_over_says_so_once_and_holds_nothing(failed: bool) -> None:
    protocol = asyncio.BufferedProtocol()
    seen: list[tuple[object, str | None]] = []
    handshake = TlsHandshake(
        protocol, lambda handshake, failure: seen.append((handshake.protocol, failure))
    )
    assert not handshake.done()
    for _ in range(2):
        if failed:
            # aiofastnet passes classes, too.
            handshake.set_exception(ConnectionResetError)
        else:
            handshake.set_result(None)
    assert handshake.done()
    assert seen == [(protocol, "ConnectionResetError" if failed else None)]
    assert handshake.protocol is None


def test_worker_that_closes_ends_handshakes(
    tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with serving(tls) as listener:
            reader, writer = await connected(listener)
            writer.write(HALF_A_CLIENT_HELLO)
            await waiting(listener, 1)
            listener.stop()
            await listener.flushed(60)
        await ended(reader)
        writer.close()

    with caplog.at_level(logging.DEBUG, "energyws.listener"):
        run(test())
    assert not caplog.messages


def test_worker_that_leaves_waits_for_handshakes(tls: ssl.SSLContext, pair: dict[str, str]) -> None:
    async def test() -> None:
        async with serving(tls) as listener:
            reader, writer = await connected(listener)
            # The client's own handshake, by hand: its first bytes, and later the rest.
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = trusting(pair["cert"]).wrap_bio(
                incoming, outgoing, server_hostname="127.0.0.1"
            )
            with pytest.raises(ssl.SSLWantReadError):
                client.do_handshake()
            writer.write(outgoing.read())
            incoming.write(await reader.read(65536))
            listener.stop()
            settled = asyncio.ensure_future(listener.settled())
            await asyncio.sleep(0)
            assert not settled.done()
            while True:
                with suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                    break
                incoming.write(await reader.read(65536))
            client.write(HTTP)
            writer.write(outgoing.read())
            while True:
                with suppress(ssl.SSLWantReadError):
                    assert client.read().startswith(b"HTTP/1.1 200 OK\r\n")
                    break
                incoming.write(await reader.read(65536))
            assert not settled.done()
            writer.close()
            await settled

    run(test())
