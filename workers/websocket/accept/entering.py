"""Connections that have a transport, on their way to becoming sessions, or to their answer."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiofastnet.selector_transport import (  # type: ignore[import-not-found]
    SelectorSocketTransport,
)

from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.settings import Server
from workers.websocket.accept.arrivals import Arrivals, HttpConnection
from workers.websocket.accept.tls_handshake import TlsHandshake
from workers.websocket.connection import takeover
from workers.websocket.connection.framing import Framing
from workers.websocket.connection.http_exchange import Step
from workers.websocket.connection.stream import Stream
from workers.websocket.connection.transport_exchange import TransportExchange
from workers.websocket.connection.upgrade import Upgrade

# How often a worker that leaves looks whether its answers are out.
FLUSH_SECONDS: Final = 0.02
_log = Log("listener")


class Entering:
    """settings: a reload replaces them. arrivals: learns when one is pending no more."""

    def __init__(self, settings: Server, arrivals: Arrivals) -> None:
        self.settings = settings
        self._loop = asyncio.get_running_loop()
        self._arrivals = arrivals
        self._limited = RateLimitedLog(_log, 10.0)
        # By what holds it, its address (see HttpConnection).
        self._all: dict[Any, int] = {}
        self._empty = asyncio.Event()

    def __len__(self) -> int:
        return len(self._all)

    @property
    def exchanges(self) -> list[TransportExchange]:
        return [each for each in self._all if isinstance(each, TransportExchange)]

    @property
    def waiting(self) -> list[TransportExchange | TlsHandshake]:
        """Those that wait for TLS, a request or their reader."""
        return [each for each in self._all if isinstance(each, TransportExchange | TlsHandshake)]

    @property
    def unread(self) -> list[tuple[int, TransportExchange]]:
        """Those whose answers wait for their readers, and the bytes of these."""
        return [(size, each) for each in self.exchanges if (size := each.unread)]

    def take_over(self, pending: HttpConnection, taker: Upgrade | Stream, rest: bytes) -> None:
        """Give a plain connection to what takes it."""
        connection = pending.connection
        taken = takeover.protocol(taker, self.settings, connection)
        # What connect_accepted_socket would do, but without a task and a future that wait for what
        # happens in the next turn anyway. The loop's selector holds the transport.
        SelectorSocketTransport(self._loop, connection, taken)
        self._all[taken] = pending.address
        # The transport has scheduled its own start before that.
        self._loop.call_soon(self._begin, taken, rest)

    def answer(self, pending: HttpConnection, step: Step) -> None:
        """A response that cannot go out at once needs a transport; later requests have it, too."""
        connection = pending.connection
        exchange = TransportExchange(pending.exchange, connection, self.settings, self._over)
        SelectorSocketTransport(self._loop, connection, exchange)
        self._all[exchange] = pending.address
        # The transport has scheduled its own start before that.
        self._loop.call_soon(exchange.follow, step)

    def start_tls(self, pending: HttpConnection) -> None:
        """With TLS a transport is needed to read requests."""
        assert pending.tls is not None
        settings = self.settings
        connection = pending.connection
        exchange = TransportExchange(pending.exchange, connection, settings, self._over)
        handshake = TlsHandshake(exchange, self._shaken)
        self._all[handshake] = pending.address
        handshake.begin(connection, pending.tls, settings)

    def drop(self, one: TransportExchange | TlsHandshake) -> None:
        """Close one of those that wait."""
        self._over(one)
        one.abort()

    async def emptied(self) -> None:
        """Wait until every connection has become something else, or has ended."""
        while self._all:
            self._empty.clear()
            await self._empty.wait()

    async def flushed(self, seconds: float) -> None:
        """Wait until the clients have been sent their answers, but no longer than this."""
        deadline = self._loop.time() + seconds
        while any(each.unsent for each in self.exchanges):
            if self._loop.time() >= deadline:
                return
            await asyncio.sleep(FLUSH_SECONDS)

    def close_idle(self) -> None:
        for exchange in self.exchanges:
            exchange.close_if_idle()

    def close(self) -> None:
        for each in self.waiting:
            self.drop(each)

    def _begin(self, taken: Framing | Stream, rest: bytes) -> None:
        self._over(taken)
        taken.begin(rest)

    def _shaken(self, handshake: TlsHandshake, failure: str | None) -> None:
        if failure is None:
            # It goes on under another name.
            self._all[handshake.protocol] = self._all.pop(handshake)
        else:
            # A TLS handshake failed or took too long, which the client can cause at will.
            self._limited.debug("TLS handshake failed", reason=failure)
            self._over(handshake)

    def _over(self, one: object) -> None:
        address = self._all.pop(one, None)
        if address is not None:
            self._arrivals.over(address)
        if not self._all:
            self._empty.set()
