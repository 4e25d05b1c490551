"""How a connection reads frames, on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop
from aiofastnet.selector_transport import SelectorSocketTransport
from picows import WSFrame, WSListener, WSMsgType, WSTransport
from picows.picows import WSProtocol

from energyws.errors import RESTART, Close
from energyws.settings import Server
from tests.clients import first_frame, masked
from tests.workers.websocket.connected import connected
from workers.websocket.connection import framing, upgrade
from workers.websocket.connection.framing import (
    AFTER_CLOSE_BYTES,
    BUFFER_BYTES,
    READ_BYTES,
    READS_PER_TURN,
    Framing,
    continues,
)
from workers.websocket.connection.upgrade import Upgrade, send_close, switching

DEADLINE_SECONDS = 10.0
PING = masked(9, b"")


class Recorder(WSListener):
    """Records what it receives, and the end of the connection. Ends it at a close frame."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bytes]] = []
        self.violations: list[Close] = []
        self.over = asyncio.Event()
        self.paused = False
        self.transport: WSTransport

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        transport.underlying_transport.write(upgrade.head(transport))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if continues(frame):
            opcode, before = self.frames.pop()
            self.frames.append((opcode, before + payload))
        else:
            self.frames.append((frame.msg_type.value, payload))
        if frame.msg_type == WSMsgType.CLOSE:
            send_close(transport, Close(1000, "", False))
            framing.of(transport).end()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.over.set()

    def violated(self, close: Close) -> None:
        self.violations.append(close)
        send_close(self.transport, close)
        framing.of(self.transport).fail()


class Client:
    """A client's socket."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        connection.setblocking(False)

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.connection, data)

    async def frames(self) -> list[tuple[int, bytes]]:
        """What it gets until the connection ends: opcodes and payloads."""
        data = b""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while piece := await asyncio.get_running_loop().sock_recv(self.connection, 65536):
                data += piece
        found = []
        while (frame := first_frame(data)) is not None:
            found.append((data[0] & 0xF, frame[0]))
            data = frame[1]
        return found


@asynccontextmanager
async def upgraded(rest: bytes = b"") -> AsyncIterator[tuple[Client, Recorder, Framing]]:
    """A client, and the other end of its connection. rest: what came with its handshake."""
    recorder = Recorder()
    connection, there = connected()
    client = Client(there)
    loop = asyncio.get_running_loop()
    protocol = Framing(Upgrade(recorder, switching(None, None), "key"), Server(), connection)
    transport = SelectorSocketTransport(loop, connection, protocol)
    loop.call_soon(protocol.begin, rest)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += await loop.sock_recv(there, 1)
        yield client, recorder, protocol
    finally:
        there.close()
        transport.abort()
        await asyncio.wait_for(recorder.over.wait(), DEADLINE_SECONDS)


def test_what_came_with_the_handshake_is_received_first() -> None:
    async def test() -> None:
        rest = masked(9, b"1") + masked(2, bytes(4000)) + masked(9, b"2")[:3]
        async with upgraded(rest) as (client, recorder, _):
            await client.send(masked(9, b"2")[3:] + masked(8, b""))
            assert await client.frames() == [(8, b"\x03\xe8")]
        assert recorder.frames == [(9, b"1"), (2, bytes(4000)), (9, b"2"), (8, b"")]

    uvloop.run(test())


@pytest.mark.parametrize(("size", "count"), [(16_384, 99), (1_000, 500), (100, 5_000)])
def test_buffer_of_picows_never_grows(size: int, count: int) -> None:
    async def test() -> None:
        async with upgraded() as (client, recorder, protocol):
            await client.send(masked(2, bytes(size)) * count + masked(8, b""))
            await client.frames()
            assert recorder.frames == [(2, bytes(size))] * count + [(8, b"")]
            assert len(WSProtocol.get_buffer(protocol, -1)) < BUFFER_BYTES

    uvloop.run(test())


def queued(client: Client) -> int:
    """Send pings until no more fit into the sockets' buffers; the number of whole ones."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += client.connection.send(PING * 100)
    return sent // len(PING)


def test_others_have_their_turn_while_a_client_sends_much() -> None:
    async def test() -> None:
        async with upgraded() as (client, recorder, _):
            sent = queued(client)
            most = READS_PER_TURN * READ_BYTES // len(PING) + 1
            assert sent > 4 * most
            async with asyncio.timeout(DEADLINE_SECONDS):
                while (before := len(recorder.frames)) < sent:
                    await asyncio.sleep(0)
                    assert len(recorder.frames) - before <= most

    uvloop.run(test())


def test_client_that_is_paused_meanwhile_is_read_from_only_when_it_resumes() -> None:
    async def test() -> None:
        async with upgraded() as (client, recorder, _):
            sent = queued(client)
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not recorder.frames:
                    await asyncio.sleep(0)
                recorder.paused = True
                under = recorder.transport.underlying_transport
                while under.is_reading():
                    await asyncio.sleep(0)
                await asyncio.sleep(0)
                received = len(recorder.frames)
                assert received < sent
                await asyncio.sleep(0)
                assert len(recorder.frames) == received
                recorder.paused = False
                under.resume_reading()
                while len(recorder.frames) < sent:
                    await asyncio.sleep(0)

    uvloop.run(test())


def test_nothing_is_received_after_the_end() -> None:
    async def test() -> None:
        async with upgraded() as (client, recorder, _):
            # The second close frame would be a violation, and so would what follows it.
            await client.send(masked(8, b"\x03\xe8") + masked(8, b"\0") + masked(3, b""))
            assert await client.frames() == [(8, b"\x03\xe8")]
        assert recorder.frames == [(8, b"\x03\xe8")]
        assert recorder.violations == []

    uvloop.run(test())


def test_what_comes_before_a_violation_is_received_and_nothing_after_it() -> None:
    async def test() -> None:
        async with upgraded() as (client, recorder, _):
            await client.send(masked(9, b"a") + masked(3, b"") + masked(9, b"b"))
            ((opcode, payload),) = await client.frames()
            assert (opcode, payload[:2]) == (8, b"\x03\xea")
            # We have closed one direction; it may still send, and is not heard.
            await client.send(masked(9, b"c"))
        assert recorder.frames == [(9, b"a")]
        assert len(recorder.violations) == 1

    uvloop.run(test())


def test_nothing_is_received_after_a_violation_that_came_with_the_handshake() -> None:
    async def test() -> None:
        async with upgraded(masked(3, b"") + PING * 1000) as (client, recorder, _):
            assert [opcode for opcode, _ in await client.frames()] == [8]
        assert recorder.frames == []
        assert len(recorder.violations) == 1

    uvloop.run(test())


def test_flood_after_our_close_frame_is_cut_off() -> None:
    async def test() -> None:
        async with upgraded() as (client, recorder, _):
            send_close(recorder.transport, RESTART)
            flood = AFTER_CLOSE_BYTES + 2 * Server().max_message_bytes
            async with asyncio.timeout(DEADLINE_SECONDS):
                with contextlib.suppress(ConnectionError):
                    while not recorder.over.is_set():
                        await client.send(PING * (flood // len(PING)))
                await recorder.over.wait()

    uvloop.run(test())


def reset(client: Client) -> None:
    client.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.connection.close()


def test_reset_after_the_last_bytes_is_noticed() -> None:
    async def test() -> None:
        async with upgraded() as (client, recorder, _):
            # The frame and the reset both arrive before the loop reads.
            client.connection.send(PING)
            reset(client)
            await asyncio.wait_for(recorder.over.wait(), DEADLINE_SECONDS)
            assert recorder.frames == [(9, b"")]

    uvloop.run(test())


def test_connection_that_was_reset_can_be_dropped() -> None:
    async def test() -> None:
        async with upgraded() as (client, recorder, protocol):
            send_close(recorder.transport, RESTART)
            reset(client)
            protocol.drop()
            await asyncio.wait_for(recorder.over.wait(), DEADLINE_SECONDS)

    uvloop.run(test())
