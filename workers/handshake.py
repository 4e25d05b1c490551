"""The HTTP side of a connection: who is let in, and what everybody else is told.

picows calls the gate with a parsed GET request (RFC 9110) before it validates the upgrade
(RFC 6455 section 4.2.1). It is synchronous, an exception in it would reach the client as text, and
picows' own refusals repeat the request; so everything is checked here, and every answer is ours.
"""

from __future__ import annotations

import base64
import binascii
import random
import resource
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from picows import WSListener, WSUpgradeRequest, WSUpgradeResponse, WSUpgradeResponseWithListener

from energyws import protocol
from energyws.auth import Principal
from energyws.board import Board, Field
from energyws.claims import TokenRefused
from energyws.deflate import BadOffer, negotiate
from energyws.errors import (
    BAD_REQUEST,
    FORBIDDEN_ORIGIN,
    INTERNAL_ERROR,
    NOT_FOUND,
    SHUTTING_DOWN,
    TOO_MANY_CONNECTIONS,
    UPGRADE_REQUIRED,
    ErrorCode,
)
from energyws.flood import Limited
from energyws.log import Log
from energyws.protocol import BadClientMessage, Subscribe
from energyws.settings import Auth
from energyws.tally import HANDSHAKES
from workers.refused import Refused
from workers.session import Context, Session
from workers.upgrade import switching

PATH: Final = "/ws/energy"
HEALTH_PATH: Final = "/health"
SUBPROTOCOL: Final = "energyws"
_TOKEN_SUBPROTOCOL: Final = "bearer."  # noqa: S105  (a prefix)
# RFC 6455 section 4.1: 16 random bytes in base64.
_KEY_BYTES: Final = 16
# A full or restarting service is tried again after 1 to 5 seconds, not by everybody at once.
_RETRY_AFTER_SECONDS: Final = (1, 5)
# Descriptors that are not connections: libraries, logs, the bus, the board.
_RESERVED_DESCRIPTORS: Final = 64
# Between two lines of the log about the same kind of refusal.
FLOOD_SECONDS: Final = 1.0

_log = Log("handshake")


class Refusal(Exception):
    """A request that is answered with an error.

    reason, claim, subject: for the log, not for the client; the claim is the one that is wrong, the
    subject only that of a token that was signed with one of our keys.
    """

    def __init__(
        self,
        error: ErrorCode,
        detail: str = "",
        reason: str = "",
        claim: str | None = None,
        subject: str | None = None,
    ) -> None:
        super().__init__(error.code)
        self.error = error
        self.detail = detail
        self.reason = reason or error.code.lower()
        self.claim = claim
        self.subject = subject


@dataclass(slots=True)
class Gate:
    """Decides for every request of a worker."""

    context: Context
    auth: Auth
    board: Board
    draining: bool = False
    _limited: Limited = field(default_factory=lambda: Limited(_log, FLOOD_SECONDS))

    def answer(
        self, request: WSUpgradeRequest, peer: str
    ) -> WSListener | WSUpgradeResponseWithListener:
        """What picows asks of a listener factory; never raises."""
        try:
            return self._answer(request, peer)
        except Exception:
            # Neither the request nor the exception's text: both may hold a token.
            self._limited.fault("a request could not be handled", peer=peer)
            self._count(INTERNAL_ERROR)
            return _http(INTERNAL_ERROR)

    def _answer(
        self, request: WSUpgradeRequest, peer: str
    ) -> WSListener | WSUpgradeResponseWithListener:
        target = request.path.decode("latin-1")
        path, _, query = target.partition("?")
        if path == HEALTH_PATH:
            return WSUpgradeResponseWithListener(WSUpgradeResponse.create_ok_response(b"OK"), None)
        try:
            if path != PATH:
                raise Refusal(NOT_FOUND)
            _check_upgrade(request)
            extension = self._extension(request)
        except Refusal as refusal:
            self._count(refusal.error)
            # Of whoever knocks at any port: browsers, scanners, probes that are set up wrongly.
            self._limited.debug(
                "request refused", kind=refusal.reason, peer=peer, reason=refusal.reason
            )
            return _http(refusal.error, refusal.detail)
        context = self.context
        context.row.add(Field.HANDSHAKES)
        try:
            return self._admit(request, query, peer, extension)
        except Refusal as refusal:
            context.row.add(Field.REFUSALS)
            self._count(refusal.error)
            self._log_refusal(refusal, peer)
            if self._speaks_http(request):
                return _http(refusal.error, refusal.detail)
            listener = Refused(context.roster, refusal.error, refusal.detail)
            return _switching(listener, request)

    def _admit(
        self, request: WSUpgradeRequest, query: str, peer: str, extension: str | None
    ) -> WSUpgradeResponseWithListener:
        context = self.context
        settings = context.settings
        if self.draining:
            raise Refusal(SHUTTING_DOWN)
        origin, allowed = request.headers.get("Origin"), settings.allowed_origins
        if allowed and origin is not None and origin not in allowed:
            raise Refusal(FORBIDDEN_ORIGIN)
        if self.board.total(Field.CONNECTIONS) >= settings.max_connections:
            raise Refusal(TOO_MANY_CONNECTIONS)
        principal = self._authenticate(request, query)
        first: Subscribe | BadClientMessage | None
        try:
            first = protocol.parse_query(query)
        except BadClientMessage as bad:
            # Told once the connection is there: it is still good for other messages.
            first = bad
        HANDSHAKES.count(context.row, "accepted")
        session = Session(context, principal, peer, first, compressed=extension is not None)
        return _switching(session, request, extension)

    def _extension(self, request: WSUpgradeRequest) -> str | None:
        """What is answered to the extensions that the client offers."""
        if not self.context.settings.compression:
            return None
        try:
            return negotiate(request.headers.getall("Sec-WebSocket-Extensions", []))
        except BadOffer as bad:
            raise Refusal(BAD_REQUEST, str(bad)) from None

    def _authenticate(self, request: WSUpgradeRequest, query: str) -> Principal:
        try:
            return self.context.tokens.check(_token(request, query))
        except TokenRefused as refused:
            raise Refusal(
                refused.error,
                reason=refused.reason,
                claim=refused.claim,
                subject=refused.subject,
            ) from None

    def _count(self, error: ErrorCode) -> None:
        HANDSHAKES.count(self.context.row, error.code.lower())

    def _speaks_http(self, request: WSUpgradeRequest) -> bool:
        if self.auth.reject == "auto":
            # Only browsers send an Origin. They hide an HTTP refusal from the page, as does every
            # other implementation of their WebSocket interface (Node's sends no Origin); and
            # only that has nowhere but the subprotocols to put a token.
            offered = _subprotocols(request)
            by_browser = any(name.startswith(_TOKEN_SUBPROTOCOL) for name in offered)
            return not by_browser and "Origin" not in request.headers
        return self.auth.reject == "http"

    def _log_refusal(self, refusal: Refusal, peer: str) -> None:
        # One kind for each reason: a crowd with bad tokens must not hide that the service is full.
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


def _check_upgrade(request: WSUpgradeRequest) -> None:
    headers = request.headers
    if len(headers.getall("Host", [])) != 1:
        raise Refusal(BAD_REQUEST, "exactly one Host header is needed")
    connection = ",".join(headers.getall("Connection", []))
    tokens = {token.strip().lower() for token in connection.split(",")}
    if "upgrade" not in tokens or headers.get("Upgrade", "").lower() != "websocket":
        raise Refusal(UPGRADE_REQUIRED)
    # Firefox sends "keep-alive, Upgrade"; picows knows "Upgrade" only.
    headers["Connection"] = "Upgrade"
    if headers.get("Sec-WebSocket-Version") != "13":
        raise Refusal(UPGRADE_REQUIRED)
    try:
        key = base64.b64decode(headers.get("Sec-WebSocket-Key", ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise Refusal(BAD_REQUEST, "Sec-WebSocket-Key must be 16 bytes in base64")


def _token(request: WSUpgradeRequest, query: str) -> str:
    """The token, wherever it is; empty where there is none."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    for offered in _subprotocols(request):
        if offered.startswith(_TOKEN_SUBPROTOCOL):
            return offered.removeprefix(_TOKEN_SUBPROTOCOL)
    return next((value for key, value in parse_qsl(query) if key == "token"), "")


def _subprotocols(request: WSUpgradeRequest) -> list[str]:
    offered = ",".join(request.headers.getall("Sec-WebSocket-Protocol", []))
    return [name.strip() for name in offered.split(",")]


def _switching(
    listener: WSListener, request: WSUpgradeRequest, extension: str | None = None
) -> WSUpgradeResponseWithListener:
    # RFC 6455 section 4.2.2: one that was offered, or none. Never the one with the token.
    subprotocol = SUBPROTOCOL if SUBPROTOCOL in _subprotocols(request) else None
    return WSUpgradeResponseWithListener(switching(subprotocol, extension), listener)


def _http(error: ErrorCode, detail: str = "") -> WSUpgradeResponseWithListener:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    if error.status == UPGRADE_REQUIRED.status:
        headers |= {"Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    elif error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="energyws"'
    elif error.status == 503:
        headers["Retry-After"] = str(random.randint(*_RETRY_AFTER_SECONDS))
    response = WSUpgradeResponse.create_error_response(
        error.status, protocol.error_body(error, detail), headers
    )
    return WSUpgradeResponseWithListener(response, None)
