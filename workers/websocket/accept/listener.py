"""Accepts connections on the socket that the supervisor holds for this worker's slot.

The accept loop is our own, because aiofastnet's (1.2) spins at EMFILE, because only `accept` tells
a connection's peer, and because stopping must not close the socket: its queue belongs to the worker
that serves the slot next. Without TLS, the requests before the upgrade are read here, too, and need
no transport.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time
from typing import Any, Final

from aiofastnet.selector_transport import (  # type: ignore[import-not-found]
    SelectorSocketTransport,
)

from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.process.board import Field, Row
from energyws.protocol.http_request import MAX_HEAD_BYTES
from energyws.settings import Server
from workers.runtime import crash_on_error
from workers.websocket.accept.pending import PendingConnection, PendingConnections
from workers.websocket.accept.tls_handshake import TlsHandshake
from workers.websocket.connection import takeover
from workers.websocket.connection.accepted import AcceptedSocket, accept
from workers.websocket.connection.answer import Answer
from workers.websocket.connection.framing import Framing
from workers.websocket.connection.http_exchange import Exchange, Gate, Step, Then
from workers.websocket.connection.stream import Stream
from workers.websocket.connection.transport_exchange import (
    LINGER_BYTES,
    LINGER_SECONDS,
    TransportExchange,
)
from workers.websocket.connection.upgrade import Upgrade

# With fewer, a crowd overflows the kernel's queue (docs/architecture.md, measured by bench.storm).
ACCEPTS_PER_TURN: Final = 64
PAUSE_SECONDS: Final = 0.2
# How often a worker that leaves looks whether its answers are out.
FLUSH_SECONDS: Final = 0.02

_FULL: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_log = Log("listener")

Tls = ssl.SSLContext | None


class _HttpConnection(PendingConnection):
    """A connection before its upgrade. left: the bytes it may still send after its last answer."""

    __slots__ = ("exchange", "left", "tls")

    connection: AcceptedSocket

    def __init__(self, connection: AcceptedSocket, exchange: Exchange, tls: Tls) -> None:
        super().__init__(connection)
        self.exchange = exchange
        self.tls = tls
        self.left = LINGER_BYTES


class Listener:
    """Serves one listening socket. `gate` decides about each request."""

    def __init__(
        self,
        listening: socket.socket,
        settings: Server,
        tls: Tls,
        gate: Gate,
        max_descriptor: int,
        row: Row,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._family = int(listening.family)
        self._settings = settings
        self._tls = tls
        self._gate = gate
        self._max_descriptor = max_descriptor
        self._row = row
        self._paused: asyncio.TimerHandle | None = None
        self._serving = False
        self._limited = RateLimitedLog(_log, 10.0)
        self._pending: PendingConnections[_HttpConnection] = PendingConnections(
            self._serve, settings.handshake_timeout_seconds
        )
        # Those that had their last answer (see LINGER_SECONDS).
        self._lingering: PendingConnections[_HttpConnection] = PendingConnections(
            self._discard, LINGER_SECONDS
        )
        # What is read is copied at once, or dropped, so one buffer is enough for all.
        self._buffer = memoryview(bytearray(MAX_HEAD_BYTES))
        # What is on its way to becoming a session.
        self._entering: set[Any] = set()
        self._none_entering = asyncio.Event()
        self._most_waiting = 0

    @crash_on_error
    def start(self) -> None:
        self._listening.setblocking(False)
        self._serving = True
        self._paused = None
        if self._is_full():
            self._pause("the limit of open files is near")
        else:
            self._row[Field.FULL_SINCE_MS] = 0
            self._loop.add_reader(self._listening.fileno(), self._accept)

    def stop(self) -> None:
        """Accept no more; what waits in the kernel's queue stays there."""
        if self._serving:
            self._serving = False
            self._loop.remove_reader(self._listening.fileno())
            if self._paused is not None:
                self._paused.cancel()
        for pending in self._pending.all:
            if pending.exchange.idle:
                self._pending.drop(pending)
        for exchange in self._exchanges:
            exchange.close_if_idle()

    def close(self) -> None:
        """Close every connection that is not upgraded, and our descriptor of the socket."""
        self.stop()
        self._listening.close()
        self._pending.close()
        self._lingering.close()
        for each in list(self._entering):
            if isinstance(each, TransportExchange | TlsHandshake):
                each.abort()

    def use_settings(self, settings: Server, tls: Tls) -> None:
        """Use these from now on, handshake_timeout_seconds also for pending connections."""
        self._settings = settings
        self._tls = tls
        self._pending.timeout = settings.handshake_timeout_seconds

    @property
    def waiting(self) -> int:
        """The number of accepted connections that are not, or will never be, upgraded."""
        return len(self._pending) + len(self._lingering) + len(self._entering)

    def most_waiting(self) -> int:
        """The highest number of them since the last call."""
        most, self._most_waiting = max(self._most_waiting, self.waiting), self.waiting
        return most

    @property
    def _exchanges(self) -> list[TransportExchange]:
        return [each for each in self._entering if isinstance(each, TransportExchange)]

    async def settled(self) -> None:
        """Wait until every accepted connection has sent its request or run into its timeout."""
        await self._pending.emptied()
        while self._entering:
            self._none_entering.clear()
            await self._none_entering.wait()

    async def flushed(self, seconds: float) -> None:
        """Wait until the clients have been sent their answers, but no longer than this."""
        deadline = self._loop.time() + seconds
        while any(each.unsent for each in self._exchanges):
            if self._loop.time() >= deadline:
                return
            await asyncio.sleep(FLUSH_SECONDS)

    def _accept(self) -> None:
        self._most_waiting = max(self._most_waiting, self.waiting)
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connection, peer = accept(self._listening, self._family)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                # It was reset in the queue.
                continue
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._pause(error.strerror)
                return
            exchange = Exchange(self._gate, peer)
            self._pending.add(_HttpConnection(connection, exchange, self._tls))
            # The kernel gives the lowest free descriptor, so there is none below this one.
            if connection.fileno() >= self._max_descriptor:
                self._pause("the limit of open files is near")
                return

    def _is_full(self) -> bool:
        """Whether a connection would have too high a descriptor."""
        try:
            lowest = os.dup(self._listening.fileno())
        except OSError:
            return True
        os.close(lowest)
        return lowest > self._max_descriptor

    def _pause(self, reason: str | None) -> None:
        """Leave the other connections in the queue until a descriptor is free."""
        if not self._row[Field.FULL_SINCE_MS]:
            self._row[Field.FULL_SINCE_MS] = int(time.time() * 1000)
        self._limited.error("accepting is paused", reason=reason)
        self._loop.remove_reader(self._listening.fileno())
        self._paused = self._loop.call_later(PAUSE_SECONDS, self.start)

    def _serve(self, pending: _HttpConnection) -> None:
        if pending.tls is not None:
            self._start_tls(pending)
            return
        size = self._read(pending)
        if size:
            self._follow(pending, pending.exchange.take(bytes(self._buffer[:size])))
        elif size == 0:
            self._pending.drop(pending)

    def _read(self, pending: _HttpConnection) -> int | None:
        """The number of bytes read; 0: it has ended; None: there are none yet."""
        try:
            return pending.connection.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return 0

    def _follow(self, pending: _HttpConnection, step: Step) -> None:
        unsent = self._unsent(pending, step.out)
        if unsent is None:
            self._pending.drop(pending)
            return
        if unsent or step.then in (Then.ANSWER, Then.MORE):
            self._pending.release(pending)
            self._use_transport(pending, step._replace(out=unsent))
            return
        match step.then:
            case Then.WAIT:
                pass
            case Then.NEXT:
                self._pending.renew(pending)
            case Then.CLOSE:
                self._pending.drop(pending)
            case Then.LINGER:
                self._pending.release(pending)
                self._linger(pending)
            case Then.TAKEN:
                assert step.taker is not None
                assert not isinstance(step.taker, Answer)
                self._pending.release(pending)
                self._enter(pending.connection, step.taker, step.rest)

    @staticmethod
    def _unsent(pending: _HttpConnection, out: bytes) -> bytes | None:
        """What does not fit into the kernel's buffer; None: the connection has ended."""
        if not out:
            return out
        try:
            return out[pending.connection.send(out) :]
        except (BlockingIOError, InterruptedError):
            return out
        except OSError:
            return None

    def _use_transport(self, pending: _HttpConnection, step: Step) -> None:
        """A response that cannot go out at once needs a transport; later requests have it, too."""
        connection = pending.connection
        exchange = TransportExchange(pending.exchange, connection, self._settings, self._entered)
        SelectorSocketTransport(self._loop, connection, exchange)
        self._entering.add(exchange)
        # The transport has scheduled its own start before that.
        self._loop.call_soon(exchange.follow, step)

    def _linger(self, pending: _HttpConnection) -> None:
        try:
            pending.connection.shutdown(socket.SHUT_WR)
        except OSError:
            pending.connection.close()
        else:
            self._lingering.add(pending)

    def _discard(self, pending: _HttpConnection) -> None:
        size = self._read(pending)
        pending.left -= size or 0
        if size == 0 or pending.left < 0:
            self._lingering.drop(pending)

    def _enter(self, connection: AcceptedSocket, taker: Upgrade | Stream, rest: bytes) -> None:
        taken = takeover.protocol(taker, self._settings, connection)
        # What connect_accepted_socket would do, but without a task and a future that wait for what
        # happens in the next turn anyway. The loop's selector holds the transport.
        SelectorSocketTransport(self._loop, connection, taken)
        self._entering.add(taken)
        # The transport has scheduled its own start before that.
        self._loop.call_soon(self._begin, taken, rest)

    def _begin(self, taken: Framing | Stream, rest: bytes) -> None:
        self._entered(taken)
        taken.begin(rest)

    def _start_tls(self, pending: _HttpConnection) -> None:
        """With TLS a transport is needed to read requests."""
        assert pending.tls is not None
        self._pending.release(pending)
        connection = pending.connection
        exchange = TransportExchange(pending.exchange, connection, self._settings, self._entered)
        handshake = TlsHandshake(exchange, self._shaken)
        self._entering.add(handshake)
        handshake.begin(connection, pending.tls, self._settings)

    def _shaken(self, handshake: TlsHandshake, failure: str | None) -> None:
        if failure is None:
            self._entering.add(handshake.protocol)
        else:
            # A TLS handshake failed or took too long, which the client can cause at will.
            self._limited.debug("TLS handshake failed", reason=failure)
        self._entered(handshake)

    def _entered(self, one: object) -> None:
        self._entering.discard(one)
        if not self._entering:
            self._none_entering.set()
