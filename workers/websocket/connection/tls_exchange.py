"""The HTTP requests of a TLS connection, before it is a WebSocket or a stream of events."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

import aiofastnet

from energyws.protocol.http_request import MAX_HEAD_BYTES
from energyws.settings import Server
from workers.websocket.connection import takeover
from workers.websocket.connection.framing import end_tls
from workers.websocket.connection.http_exchange import Exchange, Step, Then

# After the last answer of a connection, with TLS or without, this much is read and dropped for this
# long: closing at once would send a reset, which overtakes the answer.
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 256 * 1024

# What is read is copied at once, so one buffer is enough for all.
_buffer: Final = memoryview(bytearray(MAX_HEAD_BYTES))


class TlsExchange(asyncio.BufferedProtocol):
    """The protocol of a connection until another takes it over.

    over: called with this object then, or when the connection has ended. It is a buffered protocol,
    like the others: aiofastnet does not notice a change of the kind within one read.
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
        # The bytes that it may still send after its last answer; None before that.
        self._left: int | None = None
        self._transport: aiofastnet.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(aiofastnet.Transport, transport)
        self._set_timeout(self._settings.handshake_timeout_seconds)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._left is None:
            self._follow(self._exchange.take(bytes(_buffer[:nbytes])))
            return
        self._left -= nbytes
        if self._left < 0:
            self.abort()

    def eof_received(self) -> None:
        """asyncio: the client sends no more, which ends a TLS connection."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def pause_writing(self) -> None:
        """asyncio: the client does not read our answers."""
        self.abort()

    def resume_writing(self) -> None:
        """asyncio: not called, since a pause ends the connection."""

    def close_if_idle(self) -> None:
        """End it if it is between two requests."""
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
                self._set_timeout(self._settings.handshake_timeout_seconds)
            case Then.CLOSE:
                self._end()
            case Then.LINGER:
                # TLS cannot close one direction, but the client knows the answer's length.
                self._left = LINGER_BYTES
                self._set_timeout(LINGER_SECONDS)
            case Then.TAKEN:
                assert step.taker is not None
                self._leave()
                taken = takeover.protocol(step.taker, self._settings, self._connection)
                transport.set_protocol(taken)
                taken.connection_made(transport)
                taken.begin(step.rest)

    def _end(self) -> None:
        if self._transport is not None:
            end_tls(self._transport, self._connection)

    def _set_timeout(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Transport and timer refer to this object, and it to them.
        self._transport = self._timer = None
        self._over(self)
