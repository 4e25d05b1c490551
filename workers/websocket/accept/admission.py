"""Whether a request for a stream's data is admitted, by whatever path: limits, origin and token."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_plus

from energyws.auth.claims import TokenRefused
from energyws.auth.verifier import Principal
from energyws.errors import (
    CONNECTION_LIMIT,
    FORBIDDEN_ORIGIN,
    SHUTTING_DOWN,
    TOO_MANY_CONNECTIONS,
    ErrorCode,
)
from energyws.process.board import Board, Field
from energyws.protocol.http.request import Request
from workers.websocket.clients.context import Context

_TOKEN: Final = re.compile("&token=([^&]+)")
# A token needs none; programs that escape all but letters and digits have less than this.
MAX_ESCAPES: Final = 128


class Refusal(Exception):
    """A request that is answered with an error.

    reason, claim, subject: for the log, not for the client. claim: the one at fault. subject: only
    of a token whose signature is good.
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


def check_limits(
    request: Request, peer: str, context: Context, board: Board, *, draining: bool
) -> None:
    """Raises Refusal. peer: the client's address. draining: the service is shutting down."""
    if draining:
        raise Refusal(SHUTTING_DOWN)
    check_origin(request, context)
    if board.total(Field.CONNECTIONS) >= context.settings.max_connections:
        raise Refusal(TOO_MANY_CONNECTIONS)
    _check(context.shares.may_connect(peer))


def check_origin(request: Request, context: Context) -> None:
    """Raises Refusal for a page of an origin that is not allowed."""
    origin, allowed = request.headers.get("Origin"), context.settings.allowed_origins
    if allowed and origin is not None and origin not in allowed:
        raise Refusal(FORBIDDEN_ORIGIN)


def check_arrival(peer: str, context: Context) -> None:
    """Count a client that came through a proxy; raises Refusal if its address sends too many."""
    _check(context.shares.may_come(peer))


def authenticate(token: str, peer: str, context: Context) -> tuple[Principal, int]:
    """The owner of a token, and the marks of its connection. Raises Refusal."""
    try:
        principal = context.tokens.check(token)
    except TokenRefused as refused:
        raise Refusal(
            refused.error,
            refused.detail,
            reason=refused.reason,
            claim=refused.claim_name,
            subject=refused.subject,
        ) from None
    marks = context.shares.marks(peer, principal.subject, token)
    _check(context.shares.may_have(marks), principal.subject)
    return principal, marks


def _check(limit: str | None, subject: str | None = None) -> None:
    """Raises Refusal for a limit that the client has met."""
    if limit is not None:
        raise Refusal(CONNECTION_LIMIT, f"limits.{limit}", limit, subject=subject)


def bearer(request: Request) -> str:
    """The token in the Authorization header; empty if there is none."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""


def in_query(request: Request) -> str:
    """The token in the query; empty if there is none.

    Nothing else is decoded: nobody is known yet, and a query can have thousands of fields.
    """
    found = _TOKEN.search("&" + request.query)
    if found is None:
        return ""
    token = found[1]
    if token.count("%") > MAX_ESCAPES:
        # Left as it is: it is no token.
        return token
    return unquote_plus(token)
