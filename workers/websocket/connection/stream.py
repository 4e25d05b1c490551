"""One response whose body goes on until it is closed: the protocol of its connection.

What the client sends after its request is dropped. An HTTP/1.0 client gets the same bytes, since
the end of the connection is the end of the body.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Final, cast

import aiofastnet

from workers.websocket.connection.accepted import AcceptedSocket
from workers.websocket.connection.framing import close_gently

# No honest client sends anything; some send a request that they will not get an answer to.
DROPPED_BYTES: Final = 64 * 1024

# One buffer serves all connections.
_nowhere: Final = memoryview(bytearray(16 * 1024))


class Stream(asyncio.BufferedProtocol):
    """connection: its socket, to be set before `begin`."""

    __slots__ = ("_left", "connection", "transport")

    def __init__(self) -> None:
        self._left = DROPPED_BYTES
        self.connection: AcceptedSocket
        self.transport: aiofastnet.Transport | None = None

    def begin(self, rest: bytes) -> None:
        """Start, once the transport has. rest: the bytes that came after the request."""
        raise NotImplementedError

    def left(self) -> None:
        """The client has ended its side of the connection, which closes once all is written."""
        raise NotImplementedError

    def lost(self) -> None:
        """The connection has ended."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(aiofastnet.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _nowhere

    def buffer_updated(self, nbytes: int) -> None:
        self._left -= nbytes
        # libuv stops watching a socket that has an error, and bytes before a reset hide it.
        failed = socket.socket.getsockopt(self.connection, socket.SOL_SOCKET, socket.SO_ERROR)
        if self._left < 0 or failed:
            self.abort()

    def eof_received(self) -> None:
        """asyncio: the client sends no more."""
        self.left()

    def connection_lost(self, exc: Exception | None) -> None:
        # The transport refers to this object, too: without this they wait together for the
        # collector, which rarely runs in a process that allocates little.
        self.transport = None
        self.lost()

    def end(self) -> None:
        """Close the connection once everything is written."""
        if self.transport is not None:
            close_gently(self.transport, self.connection)

    def abort(self) -> None:
        """End the connection without waiting for anything."""
        if self.transport is not None:
            self.transport.abort()
