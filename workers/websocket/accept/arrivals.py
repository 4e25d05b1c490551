"""Which connections are accepted, whose they are, and how many may wait to become clients.

Where as many wait as may, those go that came first, first those of the addresses that have most of
them: a crowd behind one address is served as ever while there is room, and an attacker's
connections make room for everybody else, also those that ask for `/health` again and again.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterable
from typing import Final, Protocol, TypeVar

from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.process.board import Board, Field
from energyws.process.usage import NO_MARK
from energyws.protocol.http import proxy_header
from energyws.protocol.http.client_address import TrustedProxies, client_of
from energyws.protocol.http.proxy_header import BadProxyHeader
from energyws.settings import Server
from workers.websocket.accept.pending import PendingConnection
from workers.websocket.connection.accepted import AcceptedSocket
from workers.websocket.connection.http_exchange import Exchange
from workers.websocket.connection.transport_exchange import LINGER_BYTES
from workers.websocket.shares import Shares

# An honest client has sent its request by then, or its TLS handshake is under way.
PATIENCE_SECONDS: Final = 0.5
# The part of those that wait which is closed at once, and the least number, so that looking for
# them is cheap.
SHED_PART: Final = 16
AT_LEAST: Final = 64

_log = Log("listener")


class HttpConnection(PendingConnection):
    """A connection before its upgrade.

    address: as Shares.waits has it. came: monotonic seconds. lingers: it has had its last answer.
    left: the bytes that it may still send then. head: what came of its PROXY header; None: it needs
    none.
    """

    __slots__ = ("address", "came", "exchange", "head", "left", "lingers", "tls")

    connection: AcceptedSocket

    def __init__(
        self, connection: AcceptedSocket, exchange: Exchange, tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(connection)
        self.exchange = exchange
        self.tls = tls
        self.address = NO_MARK
        self.came = time.monotonic()
        self.lingers = False
        self.left = LINGER_BYTES
        self.head: bytes | None = None

    @property
    def peer(self) -> str:
        """The client's address, as far as it is known."""
        return self.exchange.peer


class Waiting(Protocol):
    """What can be closed to make room."""

    @property
    def peer(self) -> str:
        """The client's address."""

    @property
    def came(self) -> float:
        """Monotonic seconds; infinity: it must not be closed."""


W = TypeVar("W", bound=Waiting)


class Arrivals:
    """proxies: those that may name a client. Both it and `settings` are replaced by a reload."""

    def __init__(
        self, shares: Shares, board: Board, settings: Server, proxies: TrustedProxies
    ) -> None:
        self.settings = settings
        self.proxies = proxies
        self._shares = shares
        self._board = board
        self._limited = RateLimitedLog(_log, 1.0)
        # Those of this worker that wait.
        self.waiting = 0

    def admit(self, pending: HttpConnection) -> bool:
        """Count a new connection; False: it is one too many, and is to be closed."""
        peer = pending.peer
        pending.address = self._shares.waits(peer)
        # Of a proxy's connections, the client is not known yet.
        trusted = self.proxies.some and peer in self.proxies
        if self.settings.proxy_protocol != "off" and not self._expect_head(pending, trusted):
            return False
        if self._shares.limits_arrivals and not trusted and not self._may_come(pending):
            return False
        self._shares.pending(pending.address, 1)
        self.waiting += 1
        return True

    def over(self, address: int) -> None:
        """A connection that `admit` counted is a client now, or has ended."""
        self._shares.pending(address, -1)
        self.waiting -= 1

    def read_head(self, pending: HttpConnection) -> bool:
        """Read the PROXY header of a connection, and nothing behind it; False: it is to be closed.

        `head` is None once that is done. Raises OSError, as a socket does.
        """
        data, connection = pending.head, pending.connection
        assert data is not None
        peeked = connection.recv(proxy_header.MAX_BYTES, socket.MSG_PEEK)
        if not peeked:
            return False
        begun = data + peeked
        if not proxy_header.may_begin(begun) and self.settings.proxy_protocol == "optional":
            pending.exchange.hold(data)
            pending.head = None
            return True
        try:
            found = proxy_header.parse(begun)
        except BadProxyHeader as bad:
            peer = pending.peer
            self._limited.warning("PROXY header refused", peer=peer, reason=str(bad))
            return False
        size = len(begun) if found is None else found.size
        # What is left in the socket would wake us again and again.
        connection.recv(size - len(data))
        if found is None:
            pending.head = begun
            return True
        pending.head = None
        return found.client is None or self._named(pending, found.client)

    def room(self) -> int:
        """How many more connections may wait, in all workers; negative if there are too many."""
        most = self._shares.limits.pending_connections or self.settings.max_connections
        return most - self._board.total(Field.PENDING)

    def to_shed(self, waiting: Iterable[W]) -> list[W]:
        """Those to be closed, so that others can come."""
        late = time.monotonic() - PATIENCE_SECONDS
        old = [each for each in waiting if each.came <= late]
        counts = Counter(client_of(each.peer) for each in old)
        old.sort(key=lambda each: (-counts[client_of(each.peer)], each.came))
        chosen = old[: max(AT_LEAST, len(old) // SHED_PART)]
        if chosen:
            self._shares.met("pending_connections")
            self._limited.warning(
                "too many connections wait: closing the oldest",
                count=len(chosen),
                addresses=len(counts),
            )
        return chosen

    def _expect_head(self, pending: HttpConnection, trusted: bool) -> bool:
        """Have a PROXY header read where one may come; False: a stranger, where one must come."""
        if trusted:
            pending.head = b""
        elif self.settings.proxy_protocol == "required":
            peer = pending.peer
            self._limited.debug("connection closed: its peer is no trusted proxy", peer=peer)
            return False
        return True

    def _named(self, pending: HttpConnection, client: str) -> bool:
        """A proxy has named the client of a connection."""
        self._shares.pending(pending.address, -1)
        pending.exchange.peer = client
        pending.address = self._shares.waits(client)
        good = self._may_come(pending)
        # In any case: whoever closes it counts on that.
        self._shares.pending(pending.address, 1)
        return good

    def _may_come(self, pending: HttpConnection) -> bool:
        peer = pending.peer
        limit = self._shares.may_come(peer) or self._shares.may_wait(peer)
        if limit is not None:
            self._limited.warning("connection closed unread", kind=limit, peer=peer, limit=limit)
        return limit is None
