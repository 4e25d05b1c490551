"""The protocol of a connection from its upgrade to its end: picows', with bounds on what is read.

All connections read into one buffer, from which picows gets one frame after the other (see
`energyws.protocol.frame_scanner`); so its own buffers stay as small as they begin, and it finds
nothing wrong. What a client sends after our close frame is read only to find its close frame.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Final, Protocol, cast

import aiofastnet
from picows import WSAutoPingStrategy, WSFrame, WSTransport
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from energyws.errors import Close
from energyws.protocol.frame_scanner import FrameScanner, Violation, is_short_frame
from energyws.settings import Server
from workers.runtime import crash_on_error
from workers.websocket.connection.accepted import AcceptedSocket
from workers.websocket.connection.upgrade import REQUEST, Switching, Upgrade

# More than nearly every message of a client; bounds how long one client keeps the others waiting.
# With what a scanner keeps, it is little enough for picows' buffer not to grow.
READ_BYTES: Final = 1024
# How often one client is read from before the others have their turn: aiofastnet goes on reading
# what fills the buffer, up to 256 KiB.
READS_PER_TURN: Final = 16
# The least that picows has.
BUFFER_BYTES: Final = 2048
# What may follow our close frame, in addition to one message: an honest client may have sent it
# before it saw our close frame.
AFTER_CLOSE_BYTES: Final = 64 * 1024
# So long a client with TLS may take to read why it is closed.
ABORT_SECONDS: Final = 0.005

_nowhere: Final = memoryview(bytearray(16 * 1024))
_read: Final = _nowhere[:READ_BYTES]

# picows' log of connections repeats what clients sent; energyws.logs drops it. An adapter, because
# picows makes a child logger per connection of anything that is a Logger.
log: Final = logging.LoggerAdapter(logging.getLogger("picows.server"))


class FrameListener(Protocol):
    """What Framing needs of its WSListener."""

    @property
    def paused(self) -> bool:
        """Whether the client is not to be read from for now."""

    def violated(self, close: Close) -> None:
        """The client has violated the protocol: say so, and call `fail`."""


class Framing(WSProtocol):  # type: ignore[misc]
    """A connection's protocol, from the upgrade to the end. connection: its socket."""

    __slots__ = ("_dropping", "_late", "_max_bytes", "_reads", "_scanner", "connection")

    def __init__(self, upgrade: Upgrade, settings: Server, connection: AcceptedSocket) -> None:
        # picows makes these through ws_create_server only, which brings its own accept loop.
        super().__init__(
            None,  # host and port: a client's
            None,  # path: a client's
            False,  # is_client_side
            upgrade.begin,
            log,
            True,  # disconnect_on_exception
            None,  # websocket_handshake_timeout: it is over
            False,  # enable_auto_ping: a task per connection
            settings.ping_interval_seconds,
            settings.pong_timeout_seconds,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # enable_auto_pong: it ignores the write buffer
            settings.max_message_bytes,
            None,  # extra headers: a client's
            BUFFER_BYTES,
        )
        self.connection = connection
        self._max_bytes = settings.max_message_bytes
        # Exists while a frame or a message is incomplete.
        self._scanner: FrameScanner | None = None
        self._dropping = False
        # Bytes that came after our close frame.
        self._late = 0
        # How many reads in a row have filled the buffer.
        self._reads = 0

    def begin(self, rest: bytes) -> None:
        """Start, once the transport has. rest: the bytes that came after the handshake."""
        self._parse(REQUEST)
        for at in range(0, len(rest), READ_BYTES):
            if not self._dropping:
                self._receive(memoryview(rest)[at : at + READ_BYTES])

    def get_buffer(self, hint: int) -> memoryview:
        return _nowhere if self._dropping else _read

    def buffer_updated(self, size: int) -> None:
        transport = self.transport
        if transport.is_close_frame_sent:
            self._late += size
            if self._late > AFTER_CLOSE_BYTES + self._max_bytes:
                # No honest client has sent this much before it saw our close frame. Waiting for the
                # end of such a flood would cost a descriptor for each.
                self._dropping = True
                transport.underlying_transport.abort()
        if not self._dropping:
            self._receive(_read[:size])
        self._reads = 0 if size < READ_BYTES else self._reads + 1
        if self._reads == READS_PER_TURN:
            self._rest()
        # libuv stops watching a socket that has an error, and bytes before a reset hide it.
        if socket.socket.getsockopt(self.connection, socket.SOL_SOCKET, socket.SO_ERROR):
            transport.underlying_transport.abort()

    def _rest(self) -> None:
        """Read on when the others have had their turn."""
        self._reads = 0
        under = cast(aiofastnet.Transport, self.transport.underlying_transport)
        under.pause_reading()
        listener = cast(FrameListener, self.listener)
        asyncio.get_running_loop().call_soon(_go_on, under, listener)

    def drop(self) -> None:
        """After our close frame: parse nothing more.

        Reading goes on for a while, so that no reset overtakes our close frame. A FIN follows the
        close frame at once; TLS cannot close one direction.
        """
        self._dropping = True
        under = cast(aiofastnet.Transport, self.transport.underlying_transport)
        if under.can_write_eof():
            try:
                under.write_eof()
            except OSError:
                # The client has reset the connection.
                under.abort()

    def fail(self) -> None:
        """RFC 6455 section 7.1.7: nothing that follows a violation is processed."""
        self.drop()
        if self.transport.is_secure:
            # Closing with TLS reads on without a bound.
            under = self.transport.underlying_transport
            asyncio.get_running_loop().call_later(ABORT_SECONDS, under.abort)

    def end(self) -> None:
        """Close after both close frames, and read nothing more."""
        self._dropping = True
        under = cast(aiofastnet.Transport, self.transport.underlying_transport)
        if not self.transport.is_secure:
            under.close()
        elif not under.get_write_buffer_size():
            end_tls(under, self.connection)
        # Else closing would read on until all is written. The registry aborts it at its deadline.

    def _receive(self, data: memoryview) -> None:
        scanner = self._scanner
        if scanner is None:
            if is_short_frame(data):
                self._parse(data)
                return
            compression = cast(Switching, self.transport.response).compression
            scanner = FrameScanner(self._max_bytes, compression)
        try:
            for frame in scanner.scan(bytes(data)):
                self._parse(frame)
                if self._dropping:
                    return
        except Violation as violation:
            cast(FrameListener, self.listener).violated(violation.close)
        self._scanner = scanner if scanner.has_state else None

    def _parse(self, data: bytes | memoryview) -> None:
        size = len(data)
        WSProtocol.get_buffer(self, -1)[:size] = data
        WSProtocol.buffer_updated(self, size)


@crash_on_error
def _go_on(transport: aiofastnet.Transport, listener: FrameListener) -> None:
    if not listener.paused:
        transport.resume_reading()


def of(transport: WSTransport) -> Framing:
    """A connection's protocol."""
    under = cast(aiofastnet.Transport, transport.underlying_transport)
    return cast(Framing, under.get_protocol())


def continues(received: WSFrame) -> bool:
    """Whether it is only the next part of the client's frame: a mark of FrameScanner's."""
    return bool(received.rsv2)


def close_gently(transport: aiofastnet.Transport, connection: socket.socket) -> None:
    """Close a connection, plain or TLS, once everything is written."""
    if not transport.can_write_eof():
        if not transport.get_write_buffer_size():
            end_tls(transport, connection)
            return
        # Closing reads on until all is written; with the smallest window little can come.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    transport.close()


def end_tls(transport: aiofastnet.Transport, connection: socket.socket) -> None:
    """Send close_notify (RFC 8446 section 6.1), and close without waiting for the client's.

    aiofastnet reads and drops as long as more comes; with the smallest window little can.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    transport.close()
    transport.abort()
