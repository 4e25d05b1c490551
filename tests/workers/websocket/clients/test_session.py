"""What a client is sent at its beginning, on a real connection."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import Any, cast

import orjson
import uvloop
from aiofastnet.selector_transport import SelectorSocketTransport

from energyws.auth.verifier import Principal
from energyws.errors import HISTORY_UNAVAILABLE
from energyws.process.board import Board
from energyws.protocol.messages import Subscribe, parse_query
from energyws.settings import Auth, Server
from tests.clients import first_frame, masked
from workers.websocket.clients.connections import ConnectionRegistry
from workers.websocket.clients.context import Context
from workers.websocket.clients.session import Session
from workers.websocket.connection.framing import Framing
from workers.websocket.connection.upgrade import Upgrade, switching

PATIENCE_SECONDS = 10.0


class Overloaded:
    """A hub that cannot have anything read back."""

    streams = ("energy",)

    def subscribe(self, client: Session, request: Subscribe) -> bool:
        client.history_unavailable()
        return True

    def leave(self, client: Session) -> None:
        pass


async def everything(client: socket.socket) -> bytes:
    """What comes, to the end."""
    loop = asyncio.get_running_loop()
    data = b""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while piece := await loop.sock_recv(client, 65536):
            data += piece
            if data.endswith(b"later"):
                await loop.sock_sendall(client, masked(8, b"\x03\xe8"))
    return data


def test_client_that_is_closed_by_its_first_request_is_upgraded_first() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        connections = ConnectionRegistry(Server(), Auth())
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.create_connection(listening.getsockname())
            connection, _ = listening.accept()
        context = Context(
            Server(),
            cast(Any, Overloaded()),
            connections,
            cast(Any, SimpleNamespace()),
            Board.create().row(0),
        )
        first = parse_query("subscribe=energy&last=5")
        principal = Principal("tester", 2e9, None, None)
        session = Session(context, principal, "127.0.0.1", first, None)
        framing = Framing(Upgrade(session, switching(None, None), "key"), Server(), connection)
        SelectorSocketTransport(loop, connection, framing)
        loop.call_soon(framing.begin, b"")
        client.setblocking(False)
        head, _, data = (await everything(client)).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        told = first_frame(data)
        assert told is not None
        assert orjson.loads(told[0])["code"] == HISTORY_UNAVAILABLE.code
        end = first_frame(told[1])
        assert end is not None
        assert (end[0][:2], end[1]) == ((4503).to_bytes(2, "big"), b"")
        client.close()
        connections.close()

    uvloop.run(test())
