"""A connection's socket."""

from __future__ import annotations

import socket
from typing import Final

from energyws.settings import Server

# As plain numbers: the socket module's enums take longer.
_STREAM: Final = int(socket.SOCK_STREAM)
_TCP: Final = int(socket.IPPROTO_TCP)


class AcceptedSocket(socket.socket):
    """A socket that hides its addresses: aiofastnet would keep them, about 320 bytes."""

    __slots__ = ()

    def getsockname(self) -> None:
        """Not needed."""

    def getpeername(self) -> None:
        """`accept` has returned it."""

    def getsockopt(self, *_: int) -> int:  # type: ignore[override]
        """picows calls it three times for a log line that is never written."""
        return 0


def accept(listening: socket.socket, family: int) -> tuple[AcceptedSocket, str]:
    """The next connection, and its peer's address; family: of `listening`. Raises OSError.

    socket.accept would make a socket of its own class, of which another one had to be made here.
    """
    # Private, and what socket.accept calls in every CPython.
    descriptor, address = listening._accept()  # type: ignore[attr-defined]
    # aiofastnet sets TCP_NODELAY, without which small frames wait for acknowledgements, only where
    # the protocol is named.
    connection = AcceptedSocket(family, _STREAM, _TCP, fileno=descriptor)
    connection.setblocking(False)
    return connection, address[0]


def prepare(connection: AcceptedSocket, settings: Server) -> None:
    """Have a connection end if the client leaves what we send unacknowledged."""
    milliseconds = int(settings.tcp_user_timeout_seconds * 1000)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
