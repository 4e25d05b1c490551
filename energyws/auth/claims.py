"""What the claims of a token say (RFC 7519), and which of them is wrong; pure.

Nothing raised here holds the token, a part of it or the value of a claim.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

from energyws.errors import (
    KEYS_UNAVAILABLE,
    TOKEN_EXPIRED,
    UNAUTHORIZED,
    EnergywsError,
    ErrorCode,
    TokenClaim,
    TokenReason,
)
from energyws.settings import Auth

# RFC 8693 section 4.2, RFC 9068 section 2.2.3: a text of scopes between spaces. `scp`, and lists,
# are what several issuers write instead.
_SCOPE_CLAIMS: Final = ("scope", "scp")


class TokenRefused(EnergywsError):
    """A token that lets nobody in. `reason` and `claim` label metrics.

    issuer, doubt: set where other keys of this issuer might check the token (see
    energyws.auth.unknown_keys).
    unsettled: whether it must not be refused for good yet, since the keys are being fetched again.
    subject: only of a token that would be good at another time.
    """

    def __init__(
        self,
        reason: TokenReason,
        *,
        claim: TokenClaim | None = None,
        issuer: str | None = None,
        doubt: bytes | None = None,
        subject: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason: TokenReason = reason
        self.claim = claim
        self.issuer = issuer
        self.doubt = doubt
        self.subject = subject
        self.unsettled = False

    @property
    def error(self) -> ErrorCode:
        """What the client is told: not which of the many reasons it was."""
        if self.reason == "expired":
            return TOKEN_EXPIRED
        if self.reason == "keys_unavailable" or self.unsettled:
            return KEYS_UNAVAILABLE
        return UNAUTHORIZED


def parse(payload: bytes) -> dict[str, Any]:
    """The claims of a token's payload; raises TokenRefused."""
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        raise TokenRefused("malformed") from None
    if not isinstance(claims, dict):
        raise TokenRefused("malformed")
    return claims


def is_for(audience: str, claims: dict[str, Any]) -> bool:
    """Whether `aud` holds it (RFC 7519 section 4.1.3): one audience, or a list of them."""
    claim = claims.get("aud")
    return claim == audience or (isinstance(claim, list) and audience in claim)


def subject(claims: dict[str, Any]) -> str:
    """`sub`, which must be there; raises TokenRefused."""
    name = claims.get("sub")
    if not isinstance(name, str) or not name:
        raise TokenRefused("claims", claim="sub")
    return name


def expiry(claims: dict[str, Any]) -> float:
    """`exp` in Unix seconds, which must be there; raises TokenRefused."""
    seconds = time(claims, "exp")
    if seconds is None:
        raise TokenRefused("claims", claim="exp")
    return seconds


def time(claims: dict[str, Any], name: TokenClaim) -> float | None:
    """A NumericDate (RFC 7519 section 2) in Unix seconds, None where there is none.

    Raises TokenRefused for what is no finite number.
    """
    if name not in claims:
        return None
    value = claims[name]
    # Not isinstance: True is an int.
    if type(value) not in (int, float):
        raise TokenRefused("claims", claim=name)
    try:
        seconds = float(value)
    except OverflowError:
        raise TokenRefused("claims", claim=name) from None
    if not math.isfinite(seconds):
        raise TokenRefused("claims", claim=name)
    return seconds


def streams(claims: dict[str, Any], settings: Auth) -> frozenset[str] | None:
    """The streams that the token allows; None: all of them. Raises TokenRefused.

    A claim with streams counts alone. Without it, and where scopes name streams, a token allows
    those that it names and no others: what was meant to restrict must not come to allow everything.
    """
    if settings.streams_claim in claims:
        names = claims[settings.streams_claim]
        # A null is refused, too.
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TokenRefused("claims", claim="streams")
        return frozenset(names)
    prefix = settings.scope_prefix
    if prefix is None:
        return None
    scopes = [scope for name in _SCOPE_CLAIMS if name in claims for scope in _scopes(claims[name])]
    named = [scope.removeprefix(prefix) for scope in scopes if scope.startswith(prefix)]
    return frozenset(filter(None, named))


def _scopes(value: object) -> list[str]:
    if isinstance(value, str):
        return value.split(" ")
    if isinstance(value, list) and all(isinstance(scope, str) for scope in value):
        return value
    raise TokenRefused("claims", claim="scope")
