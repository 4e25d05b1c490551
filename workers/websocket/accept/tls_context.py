"""What all TLS connections of a worker have in common: certificate, versions, session tickets."""

from __future__ import annotations

import ssl

from energyws.errors import BootError
from energyws.logs.events import Log
from energyws.settings import Tls
from workers.websocket.accept import session_tickets

_log = Log("listener")


def tls_context(tls: Tls) -> ssl.SSLContext:
    """For TLS 1.2 and later, and HTTP/1.1 only; raises BootError for a pair that cannot be used.

    Its tickets have keys of its own.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # A client takes a new ticket with each connection, and OpenSSL would give it two.
    context.num_tickets = 1 if tls.session_tickets else 0
    if not tls.session_tickets:
        context.options |= ssl.OP_NO_TICKET
    # OpenSSL reads and writes the socket itself. With aiofastnet's own buffers between them, a TLS
    # record each way, a connection costs 20 to 30 KiB more; so it does where aiofastnet does not
    # know this attribute.
    context._aiofastnet_force_socket_bio = True  # type: ignore[attr-defined]
    try:
        # A password must be given, or OpenSSL asks the terminal for it.
        context.load_cert_chain(tls.cert, tls.key, password="")
    except (OSError, ValueError) as error:
        raise BootError(
            f"server.tls: {tls.cert} and {tls.key} cannot be used as certificate and key: {error}"
        ) from None
    return context


class TlsContexts:
    """Makes the contexts of one worker, each with the keys for tickets that all workers have.

    quiet: log nothing, since another worker does.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        # The one in use, if it is to have these keys.
        self._context: ssl.SSLContext | None = None
        self._keys: bytes | None = None
        # None: not tried yet.
        self._usable: bool | None = None

    def make(self, tls: Tls | None) -> ssl.SSLContext | None:
        """The context to be used from now on; raises BootError, as tls_context."""
        context = None if tls is None else tls_context(tls)
        shares = False
        if tls is not None and context is not None:
            if tls.session_tickets:
                shares = self._can_share(tls)
            else:
                self._forget_sessions(context)
        self._context = context if shares else None
        self._share()
        return context

    def use_keys(self, keys: bytes) -> None:
        """Use these keys from now on, also with the present context."""
        self._keys = keys
        self._share()

    def _share(self) -> None:
        if self._context is not None and self._keys is not None:
            session_tickets.use_keys(self._context, self._keys)

    def _can_share(self, tls: Tls) -> bool:
        if self._usable is None:
            try:
                session_tickets.check(lambda: tls_context(tls))
            except session_tickets.Unusable as error:
                if not self._quiet:
                    _log.info("TLS sessions are resumed only with the same worker", reason=error)
                self._usable = False
            else:
                self._usable = True
        return self._usable

    def _forget_sessions(self, context: ssl.SSLContext) -> None:
        try:
            session_tickets.forget_sessions(context)
        except session_tickets.Unusable as error:
            if not self._quiet:
                _log.info(
                    "TLS 1.2 sessions can still be resumed with the same worker", reason=error
                )
