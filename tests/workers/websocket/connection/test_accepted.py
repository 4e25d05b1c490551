"""An accepted connection's socket, once a transport has it."""

from __future__ import annotations

import asyncio
import socket

from aiofastnet.selector_transport import SelectorSocketTransport

from energyws.settings import Server
from workers.websocket.connection.accepted import accept, prepare


class Protocol(asyncio.Protocol):
    def __init__(self) -> None:
        self.made, self.lost = asyncio.Event(), asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


def test_it_sends_at_once_and_ends_if_nothing_is_acknowledged() -> None:
    async def options() -> list[int]:
        with (
            socket.create_server(("127.0.0.1", 0)) as listening,
            socket.create_connection(listening.getsockname()),
        ):
            connection, peer = accept(listening, int(listening.family))
            assert peer == "127.0.0.1"
            prepare(connection, Server(tcp_user_timeout_seconds=7.0))
            protocol = Protocol()
            transport = SelectorSocketTransport(asyncio.get_running_loop(), connection, protocol)
            # Past its own getsockopt, which spares a call.
            found = [
                socket.socket.getsockopt(connection, socket.IPPROTO_TCP, option)
                for option in (socket.TCP_NODELAY, socket.TCP_USER_TIMEOUT)
            ]
            await protocol.made.wait()
            transport.abort()
            await protocol.lost.wait()
        return found

    assert asyncio.run(options()) == [1, 7_000]
