"""The frames of one connection: picows' protocol, with bounds on what is read.

picows doubles its read buffer whenever a read nearly fills it, and never makes it smaller; after a
close frame it parses as before; and for a violation that it finds itself it sends a close frame
without telling its listener. So here a read is small, what follows our close frame is read for the
client's own close frame only, within a bound, and the listener hears of every close frame.
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
from workers.websocket.connection.upgrade import REQUEST, Upgrade

# More than nearly every message of a client. The read buffer grows to what one frame of
# max_message_bytes takes, and this: no further.
READ_BYTES: Final = 1024
# Just enough for that; picows grows it for those who send more.
BUFFER_BYTES: Final = 2048
# What may follow our close frame, beside one message: what an honest client had sent before it
# could read that.
AFTER_CLOSE_BYTES: Final = 64 * 1024
# picows closes 10 ms after a violation that it finds.
ABORT_SECONDS: Final = 0.005

# Bytes that nobody reads go here; one buffer serves all connections.
_nowhere: Final = memoryview(bytearray(16 * 1024))

if TYPE_CHECKING:
    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter


class _Ear(_Adapter):
    """What picows logs of single connections: nothing is written, since it repeats what clients
    sent. But its errors are the only sign of what its parser could not take.

    An adapter, because picows makes a child logger per connection of anything that is a Logger.
    """

    alarmed = False

    def error(self, msg: object, *args: object, **kwargs: object) -> None:
        """A violation."""
        self.alarmed = True

    def exception(self, msg: object, *args: object, **kwargs: object) -> None:
        """A fault in its parser, or in a listener."""
        self.alarmed = True


_ear: Final = _Ear(logging.getLogger("picows.server"))


class FrameListener(Protocol):
    """What a connection's frames and its end are told to: a WSListener, and this."""

    closing: bool

    def failed(self) -> None:
        """picows found a violation, and has sent the close frame for it."""


class Framing(WSProtocol):  # type: ignore[misc]
    """A connection's protocol, from the upgrade to the end. connection: its socket."""

    __slots__ = ("_dropping", "_left", "connection")

    def __init__(self, upgrade: Upgrade, settings: Server, connection: socket.socket) -> None:
        # picows makes these through ws_create_server only, which brings its own accept loop.
        super().__init__(
            None,  # host and port: a client's
            None,  # path: a client's
            False,  # is_client_side
            upgrade.begin,
            _ear,
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
        """Its transport has begun: it is a WebSocket. rest: what came behind the handshake."""
        data = REQUEST + rest
        while data and not self.transport.underlying_transport.is_closing():
            room = self.get_buffer(-1)
            size = min(len(room), len(data))
            room[:size] = data[:size]
            self.buffer_updated(size)
            data = data[size:]

    def get_buffer(self, hint: int) -> memoryview:
        """asyncio.BufferedProtocol: where to read to."""
        if self._dropping:
            return _nowhere
        return cast(memoryview, WSProtocol.get_buffer(self, hint)[:READ_BYTES])

    def buffer_updated(self, size: int) -> None:
        """asyncio.BufferedProtocol: so many bytes were read."""
        transport = self.transport
        if transport.is_close_frame_sent:
            self._left -= size
            if self._left < 0:
                # No honest client had sent so much before it could know. Waiting for the end of
                # such a flood would keep a descriptor for each that begins anew.
                self._dropping = True
                transport.underlying_transport.abort()
        if self._dropping:
            return
        _ear.alarmed = False
        WSProtocol.buffer_updated(self, size)
        if _ear.alarmed and not self._dropping:
            # The parser stands in the middle of what it could not take.
            cast(FrameListener, self.listener).failed()
            self.drop()
            if transport.is_secure:
                # picows will close, and closing TLS reads on without a bound.
                under = transport.underlying_transport
                asyncio.get_running_loop().call_later(ABORT_SECONDS, under.abort)
        # libuv stops watching a socket that has an error, and what came before a reset hides it.
        if socket.socket.getsockopt(self.connection, socket.SOL_SOCKET, socket.SO_ERROR):
            transport.underlying_transport.abort()

    def drop(self) -> None:
        """After our close frame: parse nothing more, whatever comes.

        It is read for a while, so that no reset overtakes our close frame. The end of what we send
        follows that at once; but TLS has no end of one half.
        """
        self._dropping = True
        under = cast(aiofastnet.Transport, self.transport.underlying_transport)
        if under.can_write_eof():
            under.write_eof()


def drop(transport: WSTransport) -> None:
    """Parse nothing more of what this client sends: our close frame is on its way."""
    under = cast(aiofastnet.Transport, transport.underlying_transport)
    cast(Framing, under.get_protocol()).drop()


def end(transport: WSTransport) -> None:
    """Close a connection whose close frames have gone both ways, and read nothing more of it."""
    under = cast(aiofastnet.Transport, transport.underlying_transport)
    framing = cast(Framing, under.get_protocol())
    if not transport.is_secure:
        under.close()
    elif under.get_write_buffer_size():
        # Closing would read on until all is written. The roster aborts it at its deadline.
        framing.drop()
    else:
        end_tls(under, framing.connection)


def end_tls(transport: aiofastnet.Transport, connection: socket.socket) -> None:
    """Send close_notify (RFC 8446 section 6.1), and close without waiting for the client's.

    aiofastnet reads and forgets for as long as more comes; with the smallest window little can.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
    transport.close()
    transport.abort()
