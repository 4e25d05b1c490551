"""A connection in memory: its Framing needs neither a socket nor a turn of the event loop."""

from __future__ import annotations

import socket
from typing import Final

from workers.websocket.connection.accepted import AcceptedSocket
from workers.websocket.connection.framing import Framing

# Framing asks it for errors, of which it has none.
SOCKET: Final = AcceptedSocket(socket.AF_INET, socket.SOCK_STREAM)


class Wire:
    """The transport under a Framing, and what picows takes for its socket.

    over: no more bytes go to the client.
    """

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.over = False
        self.received = b""
        framing.connection_made(self)

    def write(self, data: bytes) -> None:
        # Whatever is written after the end would be lost in silence.
        assert not self.over
        self.received += data

    write_nocheck = write

    def close(self) -> None:
        self.over = True

    abort = write_eof = close

    def deliver(self, data: bytes) -> None:
        """Bytes of the client's arrive."""
        while data and not self.over:
            room = self.framing.get_buffer(-1)
            size = min(len(room), len(data))
            room[:size] = data[:size]
            data = data[size:]
            self.framing.buffer_updated(size)

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.over

    def get_protocol(self) -> Framing:
        return self.framing

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, *, high: int, low: int) -> None:
        """Nothing is buffered."""

    def pause_reading(self) -> None:
        """Nothing comes by itself."""

    resume_reading = pause_reading

    def get_extra_info(self, name: str) -> object:
        return self if name == "socket" else None

    def fileno(self) -> int:
        """None, so that picows leaves writing to the transport."""
        return -1

    def setsockopt(self, *_: int) -> None:
        """There is nothing to set."""

    def getsockopt(self, *_: int) -> int:
        return 0
