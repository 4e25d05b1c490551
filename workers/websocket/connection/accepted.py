"""A connection's socket, once it is to have a transport."""

from __future__ import annotations

import socket

from energyws.settings import Server


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


def prepare(accepted: socket.socket, settings: Server) -> AcceptedSocket:
    """The same connection, which ends if the client leaves what we send unacknowledged."""
    kind = accepted.family, accepted.type, accepted.proto
    connection = AcceptedSocket(*kind, fileno=accepted.detach())
    connection.setblocking(False)
    milliseconds = int(settings.tcp_user_timeout_seconds * 1000)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    return connection
