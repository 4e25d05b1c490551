"""The connection of one response that goes on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop
from aiofastnet.selector_transport import SelectorSocketTransport

from tests.workers.websocket.connected import connected
from workers.websocket.connection.stream import DROPPED_BYTES, Stream

DEADLINE_SECONDS = 10.0


class Recorder(Stream):
    """Records how it ends."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []
        self.over = asyncio.Event()

    def left(self) -> None:
        self.calls.append("left")

    def lost(self) -> None:
        self.calls.append("lost")
        self.over.set()


def run(test: Callable[[Recorder, socket.socket], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        server, client = connected()
        with server, client:
            client.setblocking(False)
            stream = Recorder()
            stream.connection = server
            SelectorSocketTransport(asyncio.get_running_loop(), server, stream)
            while stream.transport is None:
                await asyncio.sleep(0)
            await test(stream, client)
            await stream.over.wait()
            assert stream.transport is None

    uvloop.run(asyncio.wait_for(main(), DEADLINE_SECONDS))


def test_client_that_ends_its_side_has_left() -> None:
    async def test(stream: Recorder, client: socket.socket) -> None:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        await stream.over.wait()
        assert stream.calls == ["left", "lost"]

    run(test)


def test_client_that_sends_more_than_a_bound_is_lost() -> None:
    async def test(stream: Recorder, client: socket.socket) -> None:
        left = DROPPED_BYTES + 1
        while left and not stream.over.is_set():
            try:
                left -= client.send(bytes(min(left, 4096)))
            except BlockingIOError:
                await asyncio.sleep(0.001)
        await stream.over.wait()
        assert stream.calls == ["lost"]

    run(test)


def test_everything_is_written_before_the_end() -> None:
    async def test(stream: Recorder, client: socket.socket) -> None:
        assert stream.transport is not None
        data = bytes(1_000_000)
        stream.transport.write(data)
        stream.end()
        loop = asyncio.get_running_loop()
        received = 0
        while piece := await loop.sock_recv(client, 65536):
            received += len(piece)
        assert received == len(data)
        assert stream.calls == ["lost"]

    run(test)


def test_abort_drops_what_is_unsent() -> None:
    async def test(stream: Recorder, client: socket.socket) -> None:
        assert stream.transport is not None
        stream.transport.write(bytes(10_000_000))
        stream.abort()
        await stream.over.wait()
        stream.abort()
        stream.end()
        assert stream.calls == ["lost"]

    run(test)
