"""Which HTTP requests become WebSockets, and the answers to all others.

The HTTP exchange calls the gate with each request that can be parsed, and with the fault of each
that cannot. Each path is a method of the gate, in the table at the end of this file; the rules of
the upgrade are those of RFC 6455 section 4.2.1.
"""

from __future__ import annotations

import base64
import binascii
import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from picows import WSListener

from energyws.dashboard.site import Site
from energyws.errors import (
    BAD_REQUEST,
    INTERNAL_ERROR,
    METHOD_NOT_ALLOWED,
    NOT_FOUND,
    TOO_MANY_CONNECTIONS,
    UPGRADE_REQUIRED,
    ErrorCode,
)
from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.process.board import Board, Field
from energyws.process.counters import HANDSHAKES
from energyws.protocol.deflate import BadOffer, negotiate
from energyws.protocol.http import queries
from energyws.protocol.http.client_address import TrustedProxies, forwarded, forwarded_for
from energyws.protocol.http.request import BadRequest, Request
from energyws.protocol.http.response import ALLOWED, Response, refusal
from energyws.protocol.messages import BadClientMessage, Subscribe
from energyws.settings import Auth
from workers.websocket.accept import streams
from workers.websocket.accept.admission import (
    Refusal,
    authenticate,
    bearer,
    check_arrival,
    check_limits,
    check_origin,
    in_query,
)
from workers.websocket.clients.context import Context
from workers.websocket.clients.refusal import RefusedClient
from workers.websocket.clients.session import Session
from workers.websocket.connection.answer import Answer
from workers.websocket.connection.stream import Stream
from workers.websocket.connection.upgrade import Upgrade, switching

PATH: Final = "/ws/energy"
HEALTH_PATH: Final = "/health"
SUBPROTOCOL: Final = "energyws"
_TOKEN_SUBPROTOCOL: Final = "bearer."  # noqa: S105  (a prefix)
# RFC 6455 section 4.1: 16 random bytes in base64.
_KEY_BYTES: Final = 16
# Descriptors that are not connections: libraries, logs, the bus, the board.
_RESERVED_DESCRIPTORS: Final = 64
# The least time between two log lines about the same kind of refusal.
FLOOD_SECONDS: Final = 1.0
_PAGE_IS_OFF: Final = "server.dashboard turns on a page here"

_log = Log("handshake")


@dataclass(slots=True)
class Gate:
    """Decides about every request of a worker.

    leaving: this worker is shutting down. draining: so is the service, and clients are refused.
    short_of_memory: new clients are refused for a while.
    site: the page; None where it is off. proxies: those that may name a client.
    """

    context: Context
    auth: Auth
    board: Board
    leaving: bool = False
    draining: bool = False
    short_of_memory: bool = False
    site: Site | None = None
    proxies: TrustedProxies = field(default_factory=lambda: TrustedProxies(()))
    _limited: RateLimitedLog = field(default_factory=lambda: RateLimitedLog(_log, FLOOD_SECONDS))

    def answer(self, request: Request, peer: str) -> Response | Answer | Upgrade | Stream:
        """The answer to a request; never raises."""
        try:
            if self.proxies.some:
                return self._answer_behind(request, peer)
            return self._answer(request, peer)
        except Exception:
            # Neither the request nor the exception's text: both may hold a token.
            self._limited.fault("a request could not be handled", peer=peer)
            self._count(INTERNAL_ERROR)
            return refusal(INTERNAL_ERROR)

    def refuse(self, bad: BadRequest, peer: str) -> Response:
        """The answer to bytes that are no request."""
        self._refused(bad.error, bad.error.code.lower(), peer)
        return refusal(bad.error, bad.detail)

    def _answer_behind(self, request: Request, peer: str) -> Response | Answer | Upgrade | Stream:
        """The answer to a request that may have come through a proxy."""
        client = self._client(request, peer)
        if client != peer and (late := self._too_many(client)):
            return late
        return self._answer(request, client)

    def _client(self, request: Request, peer: str) -> str:
        """The client's address: the peer's, or what trusted proxies say."""
        if peer not in self.proxies:
            return peer
        name = self.context.settings.forwarded_header
        hops = forwarded_for if name == "X-Forwarded-For" else forwarded
        return self.proxies.client(peer, hops(request.headers.getall(name, [])))

    def _too_many(self, client: str) -> Response | None:
        """The refusal of a client that a proxy brings too often: its requests are its arrivals."""
        try:
            check_arrival(client, self.context)
        except Refusal as refused:
            self._refused_client(refused, client)
            return refusal(refused.error, refused.detail)
        return None

    def _answer(self, request: Request, peer: str) -> Response | Answer | Upgrade | Stream:
        try:
            path = _PATHS.get(request.path)
            if path is None and streams.is_path(request.path):
                return self._stream(request, peer)
            page = self._page(request) if path is None else None
            served = path or page or not request.path.startswith("/")
            if request.method not in ALLOWED and served:
                raise Refusal(METHOD_NOT_ALLOWED)
            if page is not None:
                return page
            if path is None:
                raise Refusal(NOT_FOUND, _PAGE_IS_OFF if request.path == "/" else "")
            return path(self, request, peer)
        except Refusal as refused:
            self._refused(refused.error, refused.reason, peer)
            return refusal(refused.error, refused.detail)

    def _page(self, request: Request) -> Response | None:
        if self.site is None:
            return None
        return self.site.answer(request.path, request.headers.get("If-None-Match"))

    def _health(self, request: Request, peer: str) -> Response:
        return Response(200, b"OK", {"Content-Type": "text/plain; charset=utf-8"})

    def _websocket(self, request: Request, peer: str) -> Response | Upgrade:
        _check_upgrade(request)
        extension = self._extension(request)
        context = self.context
        context.row.add(Field.HANDSHAKES)
        try:
            return self._admit(request, peer, extension)
        except Refusal as refused:
            self._refused_client(refused, peer)
            if self._speaks_http(request):
                return refusal(refused.error, refused.detail)
            listener = RefusedClient(context, refused.error, refused.detail)
            return _switching(listener, request)

    def _stream(self, request: Request, peer: str) -> Response | Answer | Stream:
        context = self.context
        cors = streams.cors(request, context.settings.allowed_origins)
        if request.method == "OPTIONS":
            check_origin(request, context)
            return streams.preflight(cors)
        if request.method not in ALLOWED:
            self._refused(METHOD_NOT_ALLOWED, METHOD_NOT_ALLOWED.code.lower(), peer)
            return streams.not_allowed(cors)
        context.row.add(Field.HANDSHAKES)
        try:
            self._check_limits(request, peer)
            token = bearer(request) or in_query(request)
            principal, marks = authenticate(token, peer, context)
            answer = streams.answer(request, context, principal, peer, cors, marks)
        except Refusal as refused:
            if refused.error in streams.FAULTS_OF_REQUESTS:
                self._refused(refused.error, refused.reason, peer)
            else:
                self._refused_client(refused, peer)
            return streams.refused(request, refused, cors)
        HANDSHAKES.count(context.row, "accepted")
        if not isinstance(answer, Response):
            context.shares.hold(answer, marks)
        return answer

    def _refused_client(self, refused: Refusal, peer: str) -> None:
        self.context.row.add(Field.REFUSALS)
        self._count(refused.error)
        self._log_refusal(refused, peer)

    def _refused(self, error: ErrorCode, reason: str, peer: str) -> None:
        self._count(error)
        # Browsers, port scanners and misconfigured probes cause these at any port.
        self._limited.debug("request refused", kind=reason, peer=peer, reason=reason)

    def _admit(self, request: Request, peer: str, extension: str | None) -> Upgrade:
        self._check_limits(request, peer)
        context = self.context
        principal, marks = authenticate(_token(request), peer, context)
        first: Subscribe | BadClientMessage | None
        try:
            first = queries.parse_query(request.query)
        except BadClientMessage as bad:
            # The client gets the error after the 101: the connection is good for other messages.
            first = bad
        HANDSHAKES.count(context.row, "accepted")
        session = Session(context, principal, peer, first, extension, marks)
        context.shares.hold(session, marks)
        return _switching(session, request, extension)

    def _extension(self, request: Request) -> str | None:
        """The answer to the extensions that the client offers."""
        if not self.context.settings.compression:
            return None
        try:
            return negotiate(request.headers.getall("Sec-WebSocket-Extensions", []))
        except BadOffer as bad:
            raise Refusal(BAD_REQUEST, str(bad)) from None

    def _check_limits(self, request: Request, peer: str) -> None:
        if self.short_of_memory:
            raise Refusal(TOO_MANY_CONNECTIONS, reason="short_of_memory")
        check_limits(request, peer, self.context, self.board, draining=self.draining)

    def _count(self, error: ErrorCode) -> None:
        HANDSHAKES.count(self.context.row, error.code.lower())

    def _speaks_http(self, request: Request) -> bool:
        if self.auth.reject == "auto":
            # Only browsers send an Origin. They hide an HTTP refusal from the page, as does every
            # other implementation of their WebSocket interface (Node's sends no Origin). That
            # interface has no other place for a token than the subprotocols.
            offered = _subprotocols(request)
            by_browser = any(name.startswith(_TOKEN_SUBPROTOCOL) for name in offered)
            return not by_browser and "Origin" not in request.headers
        return self.auth.reject == "http"

    def _log_refusal(self, refusal: Refusal, peer: str) -> None:
        # One kind for each reason: many bad tokens must not hide that the service is full.
        self._limited.warning(
            "connection refused",
            kind=f"{refusal.reason} {refusal.claim or ''}",
            peer=peer,
            subject=refusal.subject,
            reason=refusal.reason,
            claim=refusal.claim,
        )


def max_descriptor() -> int:
    """The highest descriptor that a connection may have; beyond it the worker is full."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft - _RESERVED_DESCRIPTORS


def _check_upgrade(request: Request) -> None:
    headers = request.headers
    connection, upgrade = request.tokens("Connection"), request.tokens("Upgrade")
    upgrades = "upgrade" in connection and "websocket" in upgrade
    # RFC 6455 section 4.1: GET, and HTTP/1.1 or higher.
    if not upgrades or request.method != "GET" or request.minor < 1:
        raise Refusal(UPGRADE_REQUIRED)
    if request.has_body:
        raise Refusal(BAD_REQUEST, "a handshake has no body")
    if headers.get("Sec-WebSocket-Version") != "13":
        raise Refusal(UPGRADE_REQUIRED)
    try:
        key = base64.b64decode(headers.get("Sec-WebSocket-Key", ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise Refusal(BAD_REQUEST, "Sec-WebSocket-Key must be 16 bytes in base64")


def _token(request: Request) -> str:
    """The token, from the header, the subprotocols or the query; empty if there is none."""
    offered = (name for name in _subprotocols(request) if name.startswith(_TOKEN_SUBPROTOCOL))
    subprotocol = next(offered, "").removeprefix(_TOKEN_SUBPROTOCOL)
    return bearer(request) or subprotocol or in_query(request)


def _subprotocols(request: Request) -> list[str]:
    offered = ",".join(request.headers.getall("Sec-WebSocket-Protocol", []))
    return [name.strip() for name in offered.split(",")]


def _switching(listener: WSListener, request: Request, extension: str | None = None) -> Upgrade:
    # RFC 6455 section 4.2.2: one that the client offered, or none. Never the one with the token.
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in _subprotocols(request) else None
    response = switching(subprotocol, extension)
    return Upgrade(listener, response, request.headers["Sec-WebSocket-Key"])


_PATHS: Final[dict[str, Callable[[Gate, Request, str], Response | Answer | Upgrade | Stream]]] = {
    HEALTH_PATH: Gate._health,
    PATH: Gate._websocket,
}
