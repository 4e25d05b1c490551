"""How a connection reads frames, on real sockets."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvloop
from aiofastnet.selector_transport import SelectorSocketTransport
from picows import WSFrame, WSListener, WSTransport
from picows.picows import WSProtocol

from energyws.settings import Server
from tests.clients import masked
from tests.workers.websocket.connected import connected
from workers.websocket.connection import upgrade
from workers.websocket.connection.framing import Framing
from workers.websocket.connection.upgrade import Upgrade, switching

DEADLINE_SECONDS = 10.0


class Counting(WSListener):
    """Counts frames and their bytes, and records the end of the connection."""

    def __init__(self) -> None:
        self.frames = self.bytes = 0
        self.over = asyncio.Event()

    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.underlying_transport.write(upgrade.head(transport))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.frames += 1
        self.bytes += len(frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.over.set()

    def failed(self) -> None:
        raise AssertionError("no frame here is a violation")


@asynccontextmanager
async def upgraded() -> AsyncIterator[tuple[socket.socket, Framing, Counting]]:
    """A client, and the other end of its connection."""
    counting = Counting()
    connection, client = connected()
    loop = asyncio.get_running_loop()
    framing = Framing(Upgrade(counting, switching(None, None), "key"), Server(), connection)
    transport = SelectorSocketTransport(loop, connection, framing)
    loop.call_soon(framing.begin, b"")
    client.setblocking(False)
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert b" 101 " in await loop.sock_recv(client, 1000)
        yield client, framing, counting
    finally:
        client.close()
        transport.abort()
        await asyncio.wait_for(counting.over.wait(), DEADLINE_SECONDS)


def room(framing: Framing) -> int:
    """The number of free bytes in picows' read buffer."""
    return len(WSProtocol.get_buffer(framing, -1))


@pytest.mark.parametrize(
    ("size", "count", "most"), [(16_384, 99, 32 * 1024), (100, 5_000, 4 * 1024)]
)
def test_read_buffer_grows_no_larger_than_one_message(size: int, count: int, most: int) -> None:
    async def test() -> None:
        async with upgraded() as (client, framing, counting):
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(DEADLINE_SECONDS):
                await loop.sock_sendall(client, masked(2, bytes(size)) * count)
                while counting.frames < count:
                    await asyncio.sleep(0.001)
            assert counting.bytes == size * count
            assert room(framing) <= most

    uvloop.run(test())


def test_reset_after_the_last_bytes_is_noticed() -> None:
    async def test() -> None:
        async with upgraded() as (client, _, counting):
            # The frame and the reset both arrive before the loop reads.
            client.send(masked(9, b""))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            await asyncio.wait_for(counting.over.wait(), DEADLINE_SECONDS)
            assert counting.frames == 1

    uvloop.run(test())
