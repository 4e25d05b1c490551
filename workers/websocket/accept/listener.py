"""Accepting connections on the socket that the supervisor holds for this worker's slot.

An accept loop of our own, because aiofastnet's (1.2) spins at EMFILE, because a connection's peer
is known here only, and because stopping must not close the socket: its queue belongs to whoever
serves the slot next. What a connection says before it is a WebSocket is read here, too; without TLS
it needs no transport for that.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time
from typing import Any, Final

import aiofastnet
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
from workers.websocket.connection.framing import Framing
from workers.websocket.connection.http_exchange import Exchange, Gate, Step, Then
from workers.websocket.connection.tls_exchange import LINGER_BYTES, LINGER_SECONDS, TlsExchange
from workers.websocket.connection.upgrade import Upgrade

# With fewer a crowd overflows the kernel's queue (docs/architecture.md, measured by bench.storm).
ACCEPTS_PER_TURN: Final = 64
PAUSE_SECONDS: Final = 0.2
# Of no consequence while OpenSSL has the socket itself (tls_context).
# One TLS record and what is around it. aiofastnet's sixteen, each way, cost a worker 257 KiB more
# for every client that does not read.
TLS_RECORD_BYTES: Final = 16 * 1024 + 64

_FULL: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_log = Log("listener")


Tls = ssl.SSLContext | None


class _Connection(socket.socket):
    """A socket that does not tell its addresses: aiofastnet would keep them, some 320 bytes."""

    __slots__ = ()

    def getsockname(self) -> None:
        """Nobody asks."""

    def getpeername(self) -> None:
        """`accept` has told it."""

    def getsockopt(self, *_: int) -> int:  # type: ignore[override]
        """picows asks three times for a line of its log, which nobody writes."""
        return 0


class _Visitor(PendingConnection):
    """A connection that is no WebSocket yet. left: the bytes it may still send when it has had
    its last answer."""

    __slots__ = ("exchange", "left", "tls")

    def __init__(self, connection: socket.socket, exchange: Exchange, tls: Tls) -> None:
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
        self._settings = settings
        self._tls = tls
        self._gate = gate
        self._max_descriptor = max_descriptor
        self._row = row
        self._paused: asyncio.TimerHandle | None = None
        self._serving = False
        self._limited = RateLimitedLog(_log, 10.0)
        self._lobby: PendingConnections[_Visitor] = PendingConnections(
            self._serve, settings.handshake_timeout_seconds
        )
        self._leaving: PendingConnections[_Visitor] = PendingConnections(self._drop, LINGER_SECONDS)
        # Whatever is read is copied at once, or forgotten, so one is enough for all.
        self._buffer = memoryview(bytearray(MAX_HEAD_BYTES))
        # Those on their way from the lobby to a session. asyncio holds tasks weakly.
        self._entering: set[Any] = set()
        self._nobody_enters = asyncio.Event()

    @crash_on_error
    def start(self) -> None:
        """Begin to accept."""
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
        for visitor in self._lobby.guests:
            if visitor.exchange.idle:
                self._lobby.dismiss(visitor)
        for greeting in self._greetings:
            greeting.close_if_idle()

    def close(self) -> None:
        """Accept no more, and close every connection that is no client yet."""
        self.stop()
        self._lobby.close()
        self._leaving.close()
        for greeting in self._greetings:
            greeting.abort()

    def adopt(self, settings: Server, tls: Tls) -> None:
        """Use these from now on, handshake_timeout_seconds also for those who wait already."""
        self._settings = settings
        self._tls = tls
        self._lobby.patience = settings.handshake_timeout_seconds

    @property
    def waiting(self) -> int:
        """Connections that were accepted and are no clients, or not any more."""
        return len(self._lobby) + len(self._leaving) + len(self._entering)

    @property
    def _greetings(self) -> list[TlsExchange]:
        return [each for each in self._entering if isinstance(each, TlsExchange)]

    async def settled(self) -> None:
        """Wait until whoever was accepted has sent its request, or missed its time."""
        await self._lobby.emptied()
        while self._entering:
            self._nobody_enters.clear()
            await self._nobody_enters.wait()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connection, address = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                # It was reset before we came to it.
                continue
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                self._pause(error.strerror)
                return
            connection.setblocking(False)
            exchange = Exchange(self._gate, address[0])
            self._lobby.wait(_Visitor(connection, exchange, self._tls))
            # The kernel gives the lowest that is free: there are no others below.
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
        """Leave the rest in the queue until a descriptor is free."""
        if not self._row[Field.FULL_SINCE_MS]:
            self._row[Field.FULL_SINCE_MS] = int(time.time() * 1000)
        self._limited.error("accepting is paused", reason=reason)
        self._loop.remove_reader(self._listening.fileno())
        self._paused = self._loop.call_later(PAUSE_SECONDS, self.start)

    def _serve(self, visitor: _Visitor) -> None:
        if visitor.tls is not None:
            self._greet(visitor)
            return
        size = self._read(visitor)
        if size:
            self._follow(visitor, visitor.exchange.take(bytes(self._buffer[:size])))
        elif size == 0:
            self._lobby.dismiss(visitor)

    def _read(self, visitor: _Visitor) -> int | None:
        """How many bytes were read; 0: it has ended; None: none are there yet."""
        try:
            return visitor.connection.recv_into(self._buffer)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return 0

    def _follow(self, visitor: _Visitor, step: Step) -> None:
        if not self._sent(visitor, step.out):
            self._lobby.dismiss(visitor)
            return
        match step.then:
            case Then.WAIT:
                pass
            case Then.NEXT:
                self._lobby.renew(visitor)
            case Then.CLOSE:
                self._lobby.dismiss(visitor)
            case Then.LINGER:
                self._lobby.release(visitor)
                self._linger(visitor)
            case Then.UPGRADE:
                assert step.upgrade is not None
                self._lobby.release(visitor)
                self._enter(visitor.connection, step.upgrade, step.rest)

    @staticmethod
    def _sent(visitor: _Visitor, out: bytes) -> bool:
        """Whether all of it fits into the kernel's buffer: else nobody reads our answers."""
        try:
            return not out or visitor.connection.send(out) == len(out)
        except OSError:
            return False

    def _linger(self, visitor: _Visitor) -> None:
        try:
            visitor.connection.shutdown(socket.SHUT_WR)
        except OSError:
            visitor.connection.close()
        else:
            self._leaving.wait(visitor)

    def _drop(self, visitor: _Visitor) -> None:
        size = self._read(visitor)
        visitor.left -= size or 0
        if size == 0 or visitor.left < 0:
            self._leaving.dismiss(visitor)

    def _enter(self, accepted: socket.socket, upgrade: Upgrade, rest: bytes) -> None:
        connection = self._connection(accepted)
        framing = Framing(upgrade, self._settings, connection)
        # All that connect_accepted_socket does then, but for a task and a future that wait
        # for what happens in the next turn anyway. The loop's selector holds it.
        SelectorSocketTransport(self._loop, connection, framing)
        self._entering.add(framing)
        # The transport has put its own beginning before that.
        self._loop.call_soon(self._begin, framing, rest)

    def _begin(self, framing: Framing, rest: bytes) -> None:
        self._entered(framing)
        framing.begin(rest)

    def _connection(self, accepted: socket.socket) -> _Connection:
        kind = accepted.family, accepted.type, accepted.proto
        connection = _Connection(*kind, fileno=accepted.detach())
        connection.setblocking(False)
        milliseconds = int(self._settings.tcp_user_timeout_seconds * 1000)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        return connection

    def _greet(self, visitor: _Visitor) -> None:
        """TLS: its transport is needed before the first byte of a request."""
        self._lobby.release(visitor)
        connection = self._connection(visitor.connection)
        greeting = TlsExchange(visitor.exchange, connection, self._settings, self._entered)
        self._entering.add(greeting)
        opening = self._loop.create_task(
            aiofastnet.connect_accepted_socket(
                self._loop,
                lambda: greeting,
                connection,
                ssl=visitor.tls,
                ssl_handshake_timeout=self._settings.handshake_timeout_seconds,
                ssl_shutdown_timeout=self._settings.close_timeout_seconds,
                ssl_incoming_bio_size=TLS_RECORD_BYTES,
                ssl_outgoing_bio_size=TLS_RECORD_BYTES,
            )
        )
        self._entering.add(opening)
        opening.add_done_callback(lambda _: self._opened(opening, greeting))

    def _opened(self, opening: asyncio.Task[Any], greeting: TlsExchange) -> None:
        self._entered(opening)
        if opening.cancelled():
            return
        if (error := opening.exception()) is not None:
            self._entered(greeting)
            # A TLS handshake that failed or took too long: the client's business.
            self._limited.debug("TLS handshake failed", reason=type(error).__name__)

    def _entered(self, one: object) -> None:
        self._entering.discard(one)
        if not self._entering:
            self._nobody_enters.set()
