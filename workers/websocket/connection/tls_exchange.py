"""What a connection with TLS says before it is a WebSocket."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

import aiofastnet

from energyws.protocol.http_request import MAX_HEAD_BYTES
from energyws.settings import Server
from workers.websocket.connection.framing import Framing, end_tls
from workers.websocket.connection.http_exchange import Exchange, Step, Then

# After an answer that ends a connection, with TLS or without: what still comes is read for as long
# and as much, and forgotten. A reset would overtake the answer.
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 256 * 1024

# Whatever is read is copied at once, so one is enough for all.
_buffer: Final = memoryview(bytearray(MAX_HEAD_BYTES))


class TlsExchange(asyncio.BufferedProtocol):
    """The protocol of a connection until it has one for its frames. over: called with it then, or
    when the connection has ended.

    A buffered one: aiofastnet's loop of copying reads does not notice that the next one is.
    """

    __slots__ = ("_connection", "_exchange", "_left", "_over", "_settings", "_timer", "_transport")

    def __init__(
        self,
        exchange: Exchange,
        connection: socket.socket,
        settings: Server,
        over: Callable[[TlsExchange], None],
    ) -> None:
        self._exchange = exchange
        self._connection = connection
        self._settings = settings
        self._over = over
        # Bytes that it may still send when it has had its last answer.
        self._left: int | None = None
        self._transport: aiofastnet.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: TLS is there."""
        self._transport = cast(aiofastnet.Transport, transport)
        self._give(self._settings.handshake_timeout_seconds)

    def get_buffer(self, sizehint: int) -> memoryview:
        """asyncio: where to read to."""
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        """asyncio: so many bytes were read."""
        if self._left is None:
            self._follow(self._exchange.take(bytes(_buffer[:nbytes])))
            return
        self._left -= nbytes
        if self._left < 0:
            self.abort()

    def eof_received(self) -> None:
        """asyncio: it sends no more; TLS ends with that."""

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: it is gone."""
        self._leave()

    def pause_writing(self) -> None:
        """asyncio: it does not read our answers."""
        self.abort()

    def resume_writing(self) -> None:
        """asyncio: it is gone then."""

    def close_if_idle(self) -> None:
        """No other request is waited for."""
        if self._exchange.idle and self._left is None:
            self._end()

    def _follow(self, step: Step) -> None:
        transport = self._transport
        assert transport is not None
        if step.out:
            transport.write(step.out)
        match step.then:
            case Then.WAIT:
                pass
            case Then.NEXT:
                self._give(self._settings.handshake_timeout_seconds)
            case Then.CLOSE:
                self._end()
            case Then.LINGER:
                # TLS has no end of one half; but the client knows the answer's length.
                self._left = LINGER_BYTES
                self._give(LINGER_SECONDS)
            case Then.UPGRADE:
                assert step.upgrade is not None
                self._leave()
                framing = Framing(step.upgrade, self._settings, self._connection)
                transport.set_protocol(framing)
                framing.connection_made(transport)
                framing.begin(step.rest)

    def _end(self) -> None:
        if self._transport is not None:
            end_tls(self._transport, self._connection)

    def _give(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)

    def abort(self) -> None:
        """End it, whatever it was about to say."""
        if self._transport is not None:
            self._transport.abort()

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Each knows the other.
        self._transport = self._timer = None
        self._over(self)
