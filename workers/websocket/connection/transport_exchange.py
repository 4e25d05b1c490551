"""The HTTP requests of a connection with a transport, before a WebSocket or event stream takes it.

Connections with TLS have one from the start, others once a response does not go out at once.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final, cast

import aiofastnet

from energyws.errors import Close
from energyws.protocol.http.request import MAX_HEAD_BYTES
from energyws.settings import Server
from workers.websocket.connection import takeover
from workers.websocket.connection.accepted import AcceptedSocket
from workers.websocket.connection.answer import Answer
from workers.websocket.connection.framing import close_gently
from workers.websocket.connection.http_exchange import Exchange, Step, Then

# After the last answer of a connection, with TLS or without, this much is read and dropped for this
# long: closing at once would send a reset, which overtakes the answer.
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 256 * 1024

# What is read is copied at once, so one buffer is enough for all.
_buffer: Final = memoryview(bytearray(MAX_HEAD_BYTES))


class TransportExchange(asyncio.BufferedProtocol):
    """The protocol of a connection until another takes it over; the Outlet of its answers.

    over: called with this object then, or when the connection has ended. It is a buffered protocol,
    like the others: aiofastnet does not notice a change of the kind within one read.
    """

    __slots__ = (
        "_answer",
        "_came",
        "_closes",
        "_exchange",
        "_left",
        "_over",
        "_paused",
        "_settings",
        "_timer",
        "_transport",
        "_unread",
        "_waiting",
        "connection",
    )

    def __init__(
        self,
        exchange: Exchange,
        connection: AcceptedSocket,
        settings: Server,
        over: Callable[[TransportExchange], None],
    ) -> None:
        self._exchange = exchange
        self.connection = connection
        self._settings = settings
        self._over = over
        # The bytes that it may still send after its last answer; None before that.
        self._left: int | None = None
        self._came = time.monotonic()
        self._transport: aiofastnet.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        # The answer under way, and whether the connection ends after it.
        self._answer: Answer | None = None
        self._closes = False
        # An answer that is complete, while the client has yet to read its end.
        self._unread: Answer | None = None
        # The client does not read for now; and what is to be done once it does.
        self._paused = False
        self._waiting: Step | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(aiofastnet.Transport, transport)
        self._set_timeout(self._settings.handshake_timeout_seconds)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        data = bytes(_buffer[:nbytes])
        if self._left is not None:
            self._left -= nbytes
            if self._left < 0:
                self.abort()
        elif self._answer is not None or self._waiting is not None:
            # A transport may have read it already when we paused it.
            self._exchange.hold(data)
        else:
            self.follow(self._exchange.take(data))

    def eof_received(self) -> None:
        """asyncio: the client sends no more, so it wants no further answer."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.connection.leave_to_kernel(self._settings.tcp_user_timeout_seconds)
        answer, self._answer = self._answer, None
        self._leave()
        if answer is not None:
            answer.lost()
        self._read()

    def pause_writing(self) -> None:
        """asyncio: the client does not read as fast as we answer."""
        self._paused = True
        if self._answer is not None:
            self._answer.pause_writing()

    def resume_writing(self) -> None:
        """asyncio: the write buffer has room again."""
        self._paused = False
        self._read()
        step, self._waiting = self._waiting, None
        if self._answer is not None:
            self._answer.resume_writing()
        elif step is not None and self._transport is not None:
            self._transport.resume_reading()
            self.follow(step)

    @property
    def peer(self) -> str:
        """The client's address."""
        return self._exchange.peer

    @property
    def came(self) -> float:
        """When this began, in monotonic seconds; infinity while an answer is made."""
        return math.inf if self._answer is not None else self._came

    @property
    def unsent(self) -> bool:
        """Whether bytes of an answer are still to be sent."""
        return self._transport is not None and self._transport.get_write_buffer_size() > 0

    @property
    def unread(self) -> int:
        """The bytes of complete answers that wait for their reader, here and in the kernel."""
        if self._transport is None or self._answer is not None or not self.unsent:
            return 0
        return self._transport.get_write_buffer_size() + self.connection.unacknowledged()

    def close(self, close: Close) -> None:
        """Shedding: drop what its client does not read; there is no way to say why."""
        self.connection.reset_on_close()
        self.abort()

    def close_if_idle(self) -> None:
        """End it if it is between two requests."""
        busy = self._answer is not None or self._waiting is not None or self._left is not None
        if self._exchange.idle and not busy:
            self._end()

    def follow(self, step: Step) -> None:
        """Take a step of the exchange."""
        transport = self._transport
        if transport is None:
            return
        if step.out:
            transport.write(step.out)
        if self._paused:
            # It gets no further answer before it has read these.
            self._waiting = step._replace(out=b"")
            transport.pause_reading()
            self._set_timeout(self._settings.tcp_user_timeout_seconds)
            return
        match step.then:
            case Then.WAIT:
                pass
            case Then.NEXT if self._exchange.leaves:
                self._end()
            case Then.NEXT:
                self._set_timeout(self._settings.handshake_timeout_seconds)
            case Then.CLOSE:
                self._end()
            case Then.LINGER:
                self._left = LINGER_BYTES
                self._set_timeout(LINGER_SECONDS)
                # TLS cannot close one direction, but the client knows the answer's length.
                if transport.can_write_eof():
                    try:
                        transport.write_eof()
                    except OSError:
                        # The client has reset the connection. This may be a callback of the hub or
                        # of a timer, in which an exception ends the worker.
                        self.abort()
            case Then.MORE:
                self._go_on()
            case Then.ANSWER:
                self._begin(step)
            case Then.TAKEN:
                assert step.taker is not None
                assert not isinstance(step.taker, Answer)
                self._leave()
                taken = takeover.protocol(step.taker, self._settings, self.connection)
                transport.set_protocol(taken)
                taken.connection_made(transport)
                taken.begin(step.rest)

    def write(self, data: bytes) -> None:
        """Outlet: send bytes."""
        if self._transport is not None:
            self._transport.write(data)

    def set_write_buffer_limits(self, *, high: int, low: int) -> None:
        """Outlet: when to pause the answer."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=high, low=low)

    def answered(self, *, failed: bool) -> None:
        """Outlet: the answer is complete."""
        self._unread, self._answer = self._answer, None
        if not self._paused:
            self._read()
        if self._transport is not None:
            self._transport.resume_reading()
        if self._closes or failed:
            self.follow(self._exchange.last())
        else:
            self._go_on()

    def abort(self) -> None:
        """Outlet: end the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def _read(self) -> None:
        """The client has read its answer, or never will."""
        unread, self._unread = self._unread, None
        if unread is not None:
            unread.sent()

    def _go_on(self) -> None:
        """Answer what came meanwhile."""
        step = self._exchange.take(b"")
        # An incomplete request has its whole time.
        self.follow(step._replace(then=Then.NEXT) if step.then is Then.WAIT else step)

    def _begin(self, step: Step) -> None:
        answer = step.taker
        assert self._transport is not None
        assert isinstance(answer, Answer)
        self.connection.limit_buffers(self._settings.send_buffer_bytes)
        self._transport.pause_reading()
        self._clear_timeout()
        self._answer, self._closes = answer, step.closes
        answer.begin(self, closes=step.closes)

    def _end(self) -> None:
        if self._transport is not None:
            self._set_timeout(self._settings.tcp_user_timeout_seconds)
            close_gently(self._transport, self.connection)

    def _set_timeout(self, seconds: float) -> None:
        self._clear_timeout()
        if self.unsent:
            # A slow client is still reading an answer.
            seconds = max(seconds, self._settings.tcp_user_timeout_seconds)
        self._timer = asyncio.get_running_loop().call_later(seconds, self.abort)

    def _clear_timeout(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _leave(self) -> None:
        self._clear_timeout()
        # The transport refers to this object, and it to the transport.
        self._transport = None
        self._over(self)
