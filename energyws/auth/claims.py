"""The claims of a token (RFC 7519), checked one by one; no I/O.

No exception raised here contains the token, a part of it or the value of a claim.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any, Final, Literal

from energyws.errors import KEYS_UNAVAILABLE, TOKEN_EXPIRED, UNAUTHORIZED, EnergywsError, ErrorCode
from energyws.settings import Auth

# Why a token is refused, as logs and metrics name it.
TokenReason = Literal[
    "missing",
    "malformed",
    "too_long",
    "algorithm",
    "signature",
    "type",
    "issuer",
    "audience",
    "claims",
    "expired",
    "not_yet_valid",
    "denied",
    "unknown_key",
    "keys_unavailable",
]

# Which claim is wrong, for the reason "claims". streams: the claim that auth.streams_claim names;
# scope: `scope` or `scp`; required: one of auth.required_claims; keys: that of auth.keys_claim.
TokenClaim = Literal["sub", "exp", "nbf", "iat", "streams", "scope", "required", "keys"]

# What a client learns whose token is on the deny list.
DENIED_DETAIL: Final = "the token has been revoked"
# RFC 8693 section 4.2, RFC 9068 section 2.2.3: scopes separated by spaces. Several issuers write
# `scp`, or lists, instead.
_SCOPE_CLAIMS: Final = ("scope", "scp")
# RFC 8725 section 3.11: JWTs that are no access tokens have types of their own, such as dpop+jwt or
# logout+jwt; that of access tokens is RFC 9068's.
_OTHER_TYPES: Final = "+jwt"
_ACCESS_TOKEN: Final = "at+jwt"  # noqa: S105 -- a media type


class TokenRefused(EnergywsError):
    """A refused token. `reason` and `claim` label metrics.

    issuer, unknown_key: set where a newer key of this issuer might accept the token (see
    energyws.auth.unknown_keys).
    keys_pending: set by the caller while it fetches those keys; the client is then asked to try
    again instead of being refused for good.
    subject: only of a token with a good signature.
    claim_name: the claim's name in the token; given where it is not that of `claim`.
    """

    def __init__(
        self,
        reason: TokenReason,
        *,
        claim: TokenClaim | None = None,
        issuer: str | None = None,
        unknown_key: bytes | None = None,
        subject: str | None = None,
        claim_name: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason: TokenReason = reason
        self.claim = claim
        self.issuer = issuer
        self.unknown_key = unknown_key
        self.subject = subject
        self.claim_name = claim_name or claim
        self.keys_pending = False

    @property
    def error(self) -> ErrorCode:
        """The error that the client receives, which does not reveal the reason."""
        if self.reason == "expired":
            return TOKEN_EXPIRED
        if self.reason == "keys_unavailable" or self.keys_pending:
            return KEYS_UNAVAILABLE
        return UNAUTHORIZED

    @property
    def detail(self) -> str:
        """What else the client may know: no more than whoever has a genuine token knows anyway."""
        return DENIED_DETAIL if self.reason == "denied" else ""


def parse(payload: bytes) -> dict[str, Any]:
    """The claims of a token's payload; raises TokenRefused."""
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        raise TokenRefused("malformed") from None
    if not isinstance(claims, dict):
        raise TokenRefused("malformed")
    return claims


def check_type(header: dict[str, Any]) -> None:
    """Raises TokenRefused for a `typ` that says that this is no access token.

    Tokens without one are accepted, and those with any that does not end in `+jwt`: most issuers
    write `JWT`, and RFC 7515 section 4.1.9 leaves the others to applications.
    """
    kind = header.get("typ", "")
    if not isinstance(kind, str):
        raise TokenRefused("type")
    # RFC 7515 section 4.1.9: `application/` may be left out; media types ignore case.
    kind = kind.lower().removeprefix("application/")
    if kind.endswith(_OTHER_TYPES) and kind != _ACCESS_TOKEN:
        raise TokenRefused("type")


def check_required(claims: dict[str, Any], required: Mapping[str, Collection[Any]]) -> None:
    """Raises TokenRefused unless each of these claims has one of its values.

    A claim that is a list needs to contain one, as `aud` does.
    """
    for name, allowed in required.items():
        claim = claims.get(name)
        found = claim if isinstance(claim, list) else [claim]
        # 1 == True in Python, but not in JSON.
        if not any(type(one) is type(each) and one == each for one in found for each in allowed):
            raise TokenRefused("claims", claim="required", claim_name=name)


def is_for(audience: str, claims: dict[str, Any]) -> bool:
    """Whether `aud`, an audience or a list of them, names this one (RFC 7519 section 4.1.3)."""
    claim = claims.get("aud")
    return claim == audience or (isinstance(claim, list) and audience in claim)


def subject(claims: dict[str, Any]) -> str:
    """`sub`, which is required; raises TokenRefused."""
    name = claims.get("sub")
    if not isinstance(name, str) or not name:
        raise TokenRefused("claims", claim="sub")
    return name


def expiry(claims: dict[str, Any]) -> float:
    """`exp` in Unix seconds, which is required; raises TokenRefused."""
    seconds = time(claims, "exp")
    if seconds is None:
        raise TokenRefused("claims", claim="exp")
    return seconds


def time(claims: dict[str, Any], name: TokenClaim) -> float | None:
    """A NumericDate (RFC 7519 section 2) in Unix seconds; None where the claim is missing.

    Raises TokenRefused for anything but a finite number.
    """
    if name not in claims:
        return None
    value = claims[name]
    # Not isinstance, because True is an int.
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

    Where the token has the claim that lists streams, its scopes are ignored. Otherwise, where
    auth.scope_prefix is set, a token allows only the streams that its scopes name: one without
    scopes must not allow everything.
    """
    if settings.streams_claim in claims:
        names = claims[settings.streams_claim]
        # A null is refused too: it is not the same as no claim.
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
