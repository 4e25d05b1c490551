"""What a connection holds once its handshake is done."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
import uvloop
from picows import WSListener, WSTransport, WSUpgradeRequest, WSUpgradeResponseWithListener

from energyws.settings import Server, Tls
from workers import upgrade
from workers.handshake import _switching
from workers.listener import Listener
from workers.websocket import tls_context

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n%b\r\n"
)
# RFC 6455 section 1.3, and another.
KEYS = {
    b"dGhlIHNhbXBsZSBub25jZQ==": b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    b"AAAAAAAAAAAAAAAAAAAAAA==": b"ICX+Yqv66kxgM0FcWaLWlFLwTAI=",
}


class Recorder(WSListener):
    """Keeps its transport."""

    def __init__(self) -> None:
        self.transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        transport.underlying_transport.write(upgrade.head(transport))


async def _connect(
    tls: ssl.SSLContext | None, trust: ssl.SSLContext | None, key: bytes, header: bytes = b""
) -> tuple[bytes, Recorder]:
    recorder = Recorder()

    def answer(request: WSUpgradeRequest, peer: str) -> WSUpgradeResponseWithListener:
        assert peer == "127.0.0.1"
        return _switching(recorder, request)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listener = Listener(listening, Server(), tls, answer, 1_000)
        listener.start()
        reader, writer = await asyncio.open_connection(*listening.getsockname(), ssl=trust)
        writer.write(REQUEST % (key, header))
        head = await reader.readuntil(b"\r\n\r\n")
        listener.close()
    assert recorder.transport is not None
    writer.close()
    return head, recorder


@pytest.mark.parametrize("header", [b"", b"Sec-WebSocket-Protocol: energyws, bearer.x\r\n"])
def test_responses_that_share_an_object_are_each_client_s_own(header: bytes) -> None:
    async def test() -> None:
        for key, accept in KEYS.items():
            head, _ = await _connect(None, None, key, header)
            assert head.count(b"Sec-WebSocket-Accept:") == 1
            assert b"Sec-WebSocket-Accept: " + accept + b"\r\n" in head
            assert (b"Sec-WebSocket-Protocol: energyws\r\n" in head) is bool(header)
            assert b"bearer" not in head

    uvloop.run(test())


def test_tls_connection_has_no_buffers_of_its_own_beside_openssl_s(tmp_path: Path) -> None:
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "
        f"-keyout {key} -out {cert} -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1",
        shell=True,
        check=True,
        capture_output=True,
    )

    async def test() -> None:
        trust = ssl.create_default_context(cafile=cert)
        head, recorder = await _connect(
            tls_context(Tls(cert=cert, key=key)), trust, next(iter(KEYS))
        )
        assert head.startswith(b"HTTP/1.1 101 ")
        assert recorder.transport is not None
        told = recorder.transport.underlying_transport.get_extra_info
        assert told("ssl_incoming_use_membio") is False
        assert told("ssl_outgoing_use_membio") is False

    uvloop.run(test())


def test_who_was_accepted_before_the_stop_is_let_in_after_it() -> None:
    async def test() -> None:
        recorder = Recorder()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listener = Listener(
                listening,
                Server(),
                None,
                lambda request, peer: _switching(recorder, request),
                1_000,
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
