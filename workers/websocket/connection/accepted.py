"""A connection's socket."""

from __future__ import annotations

import contextlib
import socket
import struct
import termios
from array import array
from fcntl import ioctl
from typing import Final

# As plain numbers: the socket module's enums take longer.
_STREAM: Final = int(socket.SOCK_STREAM)
_TCP: Final = int(socket.IPPROTO_TCP)
_SOCKET: Final = int(socket.SOL_SOCKET)
_SEND_BUFFER: Final = int(socket.SO_SNDBUF)
_RECEIVE_BUFFER: Final = int(socket.SO_RCVBUF)
# With the kernel's doubling, what a connection has at first (net.ipv4.tcp_rmem): a client sends
# little, and must not have it grow. The largest message is as long.
RECEIVE_BYTES: Final = 64 * 1024
# tcpi_bytes_acked in struct tcp_info (linux/tcp.h).
_BYTES_ACKED: Final = struct.Struct("120xQ")
# SO_LINGER: on, for 0 seconds.
_NO_LINGER: Final = struct.pack("ii", 1, 0)
# The kernel writes to it; one is enough for all connections.
_queued: Final = array("i", [0])


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

    def unacknowledged(self) -> int:
        """The bytes that the kernel holds for the client; 0 where it cannot say."""
        try:
            # SIOCOUTQ (tcp(7)) by its other name.
            ioctl(self, termios.TIOCOUTQ, _queued)
        except (OSError, ValueError):
            # A kernel that cannot say, such as gVisor's; or it is closed, which its protocol learns
            # in the next turn of the loop.
            return 0
        return _queued[0]

    def acknowledged(self) -> int | None:
        """How many bytes the client has acknowledged since it connected; None: all, or unknown."""
        if not self.unacknowledged():
            return None
        info = socket.socket.getsockopt(self, _TCP, socket.TCP_INFO, _BYTES_ACKED.size)
        (acknowledged,) = _BYTES_ACKED.unpack(info)
        return int(acknowledged)

    def limit_buffers(self, send: int | None) -> None:
        """Limit what the kernel holds of what is sent, and of what is received.

        send: in bytes, for each of which the kernel takes two (socket(7)). None: as much as it
        likes, which grows while a client reads fast, and stays when it stops.
        """
        try:
            self.setsockopt(_SOCKET, _RECEIVE_BUFFER, RECEIVE_BYTES)
            if send is not None:
                self.setsockopt(_SOCKET, _SEND_BUFFER, send)
        except OSError:
            # The client has reset the connection. suppress() takes as long as a system call.
            pass

    def reset_on_close(self) -> None:
        """Once it is closed, have the kernel send a reset and nothing else."""
        self.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)

    def leave_to_kernel(self, seconds: float) -> None:
        """It is closed next: have the kernel end it if the client leaves the rest unacknowledged.

        Not before: see workers/websocket/clients/stalls.py.
        """
        # It may be closed already.
        with contextlib.suppress(OSError):
            self.setsockopt(_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


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
