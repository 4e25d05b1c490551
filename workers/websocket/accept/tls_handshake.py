"""The TLS handshake of an accepted connection.

aiofastnet's transport is made directly, as the listener does without TLS: through
`connect_accepted_socket`, each handshake would need a task and a future.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Final

import aiofastnet
from aiofastnet.selector_transport import (  # type: ignore[import-not-found]
    SelectorSocketTransport,
)
from aiofastnet.ssl_transport import (  # type: ignore[import-not-found]
    SSLTransport_Socket,
    SSLTransport_Transport,
)

from energyws.settings import Server
from workers.websocket.connection.accepted import AcceptedSocket
from workers.websocket.connection.transport_exchange import TransportExchange

# One TLS record and its frame, where OpenSSL does not have the socket itself (see tls_context.py).
# aiofastnet's sixteen records, each way, cost a worker 257 KiB more for every client that does not
# read.
TLS_RECORD_BYTES: Final = 16 * 1024 + 64


class TlsHandshake:
    """One handshake, from its first bytes to its end.

    over: called once with this object, and with what went wrong; None: the handshake is complete,
    and connection_made of the protocol is called next. It is not called after `abort`.

    The transport tells the end to what it takes for a future: `done`, `set_result` and
    `set_exception` are those of asyncio.Future.
    """

    __slots__ = ("_over", "_transport", "protocol")

    def __init__(
        self,
        protocol: TransportExchange,
        over: Callable[[TlsHandshake, str | None], None],
    ) -> None:
        self.protocol: TransportExchange | None = protocol
        self._over: Callable[[TlsHandshake, str | None], None] | None = over
        self._transport: aiofastnet.Transport | None = None

    @property
    def peer(self) -> str:
        """The client's address."""
        assert self.protocol is not None
        return self.protocol.peer

    @property
    def came(self) -> float:
        """When it began, in monotonic seconds."""
        assert self.protocol is not None
        return self.protocol.came

    def begin(self, connection: AcceptedSocket, context: ssl.SSLContext, settings: Server) -> None:
        """Answer the client's first bytes, which may have come already; owns the connection."""
        try:
            transport = self._made(connection, context, settings)
        # As many kinds as OpenSSL and aiofastnet have: the client sent anything but a ClientHello.
        except Exception as error:
            connection.close()
            self.set_exception(error)
            return
        if not self.done():
            self._transport = transport

    def abort(self) -> None:
        """Close the connection."""
        self._over = None
        if self._transport is not None:
            self._transport.abort()
        self._transport = self.protocol = None

    def done(self) -> bool:
        return self._over is None

    def set_result(self, _: None) -> None:
        self._end(None)

    def set_exception(self, error: BaseException | type[BaseException]) -> None:
        self._end((error if isinstance(error, type) else type(error)).__name__)

    def _end(self, reason: str | None) -> None:
        over, self._over = self._over, None
        if over is not None:
            over(self, reason)
        # The transport refers to this object until the connection ends.
        self._transport = self.protocol = None

    def _made(
        self, connection: AcceptedSocket, context: ssl.SSLContext, settings: Server
    ) -> aiofastnet.Transport:
        """What has the connection; the loop's selector holds it."""
        loop = asyncio.get_running_loop()
        common = (
            loop,
            self.protocol,
            context,
            True,
            settings.handshake_timeout_seconds,
            settings.close_timeout_seconds,
            TLS_RECORD_BYTES,
            TLS_RECORD_BYTES,
        )
        if aiofastnet.OPENSSL_DYN_LIBS is not None:
            transport: aiofastnet.Transport = SSLTransport_Socket(*common, connection, waiter=self)
            return transport
        # OpenSSL is a part of the interpreter, and cannot be called but through `ssl`.
        over = SSLTransport_Transport(*common, waiter=self).get_tls_protocol()
        under: aiofastnet.Transport = SelectorSocketTransport(loop, connection, over)
        return under
