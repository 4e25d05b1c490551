"""The frames of one connection: picows' protocol, with bounds on what is read.

picows doubles its read buffer whenever a read nearly fills it, and never shrinks it; after a close
frame it parses as before; and for a violation that it finds itself it sends a close frame without
telling its listener. So here a read is small; after our close frame, a bounded number of bytes is
read, only to find the client's close frame; and the listener learns of every close frame.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Final, Protocol, cast

import aiofastnet
from picows import WSAutoPingStrategy, WSTransport
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from energyws.settings import Server
from workers.websocket.connection.accepted import AcceptedSocket
from workers.websocket.connection.upgrade import REQUEST, Upgrade

# More than nearly every message of a client. The read buffer grows to one frame of
# max_message_bytes plus this, and no further.
READ_BYTES: Final = 1024
# Just enough for that; picows grows it for clients that send more.
BUFFER_BYTES: Final = 2048
# What may follow our close frame, in addition to one message: an honest client may have sent it
# before it saw our close frame.
AFTER_CLOSE_BYTES: Final = 64 * 1024
# picows closes 10 ms after a violation that it finds.
ABORT_SECONDS: Final = 0.005

# Bytes to be dropped are read into this; one buffer serves all connections.
_nowhere: Final = memoryview(bytearray(16 * 1024))

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter


class _ErrorFlag(_Adapter):
    """picows' log of connections: nothing is written, since it repeats what clients sent.

    But its errors are the only sign that its parser failed. It is an adapter, because picows makes
    a child logger per connection of anything that is a Logger.
    """

    raised = False

    def error(self, msg: object, *args: object, **kwargs: object) -> None:
        """A violation."""
        self.raised = True

    def exception(self, msg: object, *args: object, **kwargs: object) -> None:
        """A fault in its parser, or in a listener."""
        self.raised = True


_error_flag: Final = _ErrorFlag(logging.getLogger("picows.server"))


class FrameListener(Protocol):
    """What Framing needs of its WSListener."""

    def failed(self) -> None:
        """picows found a violation, and has sent the close frame for it."""


class Framing(WSProtocol):  # type: ignore[misc]
    """A connection's protocol, from the upgrade to the end. connection: its socket."""

    __slots__ = ("_dropping", "_left", "connection")

    def __init__(self, upgrade: Upgrade, settings: Server, connection: AcceptedSocket) -> None:
        # picows makes these through ws_create_server only, which brings its own accept loop.
        super().__init__(
            None,  # host and port: a client's
            None,  # path: a client's
            False,  # is_client_side
            upgrade.begin,
            _error_flag,
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
        self._dropping = False
        self._left = AFTER_CLOSE_BYTES + settings.max_message_bytes

    def begin(self, rest: bytes) -> None:
        """Start, once the transport has. rest: the bytes that came after the handshake."""
        data = REQUEST + rest
        while data and not self.transport.underlying_transport.is_closing():
            room = self.get_buffer(-1)
            size = min(len(room), len(data))
            room[:size] = data[:size]
            self.buffer_updated(size)
            data = data[size:]

    def get_buffer(self, hint: int) -> memoryview:
        if self._dropping:
            return _nowhere
        return cast(memoryview, WSProtocol.get_buffer(self, hint)[:READ_BYTES])

    def buffer_updated(self, size: int) -> None:
        transport = self.transport
        if transport.is_close_frame_sent:
            self._left -= size
            if self._left < 0:
                # No honest client has sent this much before it saw our close frame. Waiting for the
                # end of such a flood would cost a descriptor for each.
                self._dropping = True
                transport.underlying_transport.abort()
        if self._dropping:
            return
        _error_flag.raised = False
        WSProtocol.buffer_updated(self, size)
        if _error_flag.raised and not self._dropping:
            # The parser is stuck in the middle of a frame.
            cast(FrameListener, self.listener).failed()
            self.drop()
            if transport.is_secure:
                # picows will close, and closing with TLS reads on without a bound.
                under = transport.underlying_transport
                asyncio.get_running_loop().call_later(ABORT_SECONDS, under.abort)
        # libuv stops watching a socket that has an error, and bytes before a reset hide it.
        if socket.socket.getsockopt(self.connection, socket.SOL_SOCKET, socket.SO_ERROR):
            transport.underlying_transport.abort()

    def drop(self) -> None:
        """After our close frame: parse nothing more.

        Reading goes on for a while, so that no reset overtakes our close frame. A FIN follows the
        close frame at once; TLS cannot close one direction.
        """
        self._dropping = True
        under = cast(aiofastnet.Transport, self.transport.underlying_transport)
        if under.can_write_eof():
            under.write_eof()


def connection_of(transport: WSTransport) -> AcceptedSocket:
    """Its socket."""
    under = cast(aiofastnet.Transport, transport.underlying_transport)
    return cast(Framing, under.get_protocol()).connection


def drop(transport: WSTransport) -> None:
    """Parse nothing more that this client sends: our close frame is out."""
    under = cast(aiofastnet.Transport, transport.underlying_transport)
    cast(Framing, under.get_protocol()).drop()


def end(transport: WSTransport) -> None:
    """Close a connection after both close frames, and read nothing more from it."""
    under = cast(aiofastnet.Transport, transport.underlying_transport)
    framing = cast(Framing, under.get_protocol())
    if not transport.is_secure:
        under.close()
    elif under.get_write_buffer_size():
        # Closing would read on until all is written. The registry aborts it at its deadline.
        framing.drop()
    else:
        end_tls(under, framing.connection)


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
