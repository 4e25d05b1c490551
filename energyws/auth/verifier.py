"""Verifies tokens (RFC 7519) from the token, the keys and the time; no I/O.

Rules of this file (RFC 8725, JWT best current practices):

1. The algorithm follows from the key, never from the token's header.
2. A token is checked with the keys of its own issuer only, and `iss` is compared exactly.
3. `exp` and `sub` are required, and every time must be a finite number.
4. No exception raised here contains the token or a part of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from energyws.auth import claims as claimed
from energyws.auth.claims import TokenReason, TokenRefused
from energyws.auth.denied import token_id
from energyws.auth.jwks import ALGORITHMS, Key
from energyws.auth.key_rights import AllowedKeys, key_rights
from energyws.auth.signatures import Signed, secret_bytes, secret_keys, sign, unverified, verified
from energyws.auth.token_cache import TokenCache, VerifiedClaims, digest
from energyws.auth.unknown_keys import unknown_key
from energyws.protocol.messages import MAX_TOKEN_BYTES
from energyws.settings import Auth

# Some 400 bytes each; about as many as a worker has clients.
MAX_CACHED: Final = 20_000
# How many keys with the same id are tried: issuers should not repeat an id (RFC 7517 section 4.5),
# and a forged token must not cost a hundred signature checks.
MAX_TRIED: Final = 4

# What is accepted, but should be looked at. audience: a token for somebody whom the settings do not
# name (RFC 7519 section 4.1.3); long: one that is valid for longer than auth.max_token_seconds.
Doubt = Literal["audience", "long"]


@dataclass(frozen=True, slots=True)
class Principal:
    """The owner of a valid token.

    token: its claims, which the cache has, too. expires_at: Unix seconds, with the leeway added.
    """

    token: VerifiedClaims
    expires_at: float

    @property
    def subject(self) -> str:
        return self.token.subject

    @property
    def streams(self) -> frozenset[str] | None:
        """The streams that it may read; None: all of them."""
        return self.token.streams

    def keys_of(self, stream: str) -> AllowedKeys | None:
        """The keys of a stream that its token names; None: none."""
        return None if self.token.rights is None else self.token.rights.of(stream)

    def may_read(self, stream: str) -> bool:
        return self.token.streams is None or stream in self.token.streams


class Verifier:
    """Verifies tokens with the issuers' keys, or with the shared secrets.

    keyed: whether any stream has keys; otherwise the claim that names a token's keys is ignored, as
    an issuer may have put something else there. doubts: what was accepted so far although it should
    be looked at.

    Caches the claims of tokens with good signatures. An entry is valid only while `keys[issuer]`
    is the same object as when the signature was checked, so callers must keep that object until
    the keys change, and replace it then. Raises BootError for a secret that cannot be used.
    """

    def __init__(self, settings: Auth, *, keyed: bool = True) -> None:
        self._settings = settings
        self._keyed = keyed
        self._issuers = frozenset(issuer.issuer for issuer in settings.issuers)
        self._secrets = secret_keys(settings)
        self._cache = TokenCache(MAX_CACHED)
        self._any_audience = settings.audience is None and "aud" not in settings.required_claims
        self.doubts: set[Doubt] = set()

    def verify(self, token: str, keys: Mapping[str, Sequence[Key]], *, now: float) -> Principal:
        """The token's principal, or TokenRefused.

        keys: by issuer, never changed in place; an issuer is missing until its keys are fetched.
        now: Unix seconds.
        """
        if not token:
            raise TokenRefused("missing")
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenRefused("too_long")
        key = digest(token)
        known = self._cache.find(key)
        if known and self._keys_of(known.issuer, keys) is not known.keys:
            self._cache.forget(key)
            known = None
        known = known or self._verify(token, keys)
        try:
            principal = self._principal(known, now)
        except TokenRefused:
            self._cache.forget(key)
            raise
        self._cache.keep(key, known)
        return principal

    def has_lost(self, token: VerifiedClaims, keys: Mapping[str, Sequence[Key]]) -> bool:
        """Whether it is known that the key that verified this token counts no more.

        It is unknown while the keys of its issuer are missing from `keys`.
        """
        if token.issuer in self._issuers and token.issuer not in keys:
            return False
        return token.key not in self._keys_of(token.issuer, keys)

    def _keys_of(self, issuer: str | None, keys: Mapping[str, Sequence[Key]]) -> Sequence[Key]:
        if issuer is not None and issuer in self._issuers:
            return keys.get(issuer, ())
        return self._secrets

    def _verify(self, token: str, keys: Mapping[str, Sequence[Key]]) -> VerifiedClaims:
        """Check everything but the times."""
        if not self._issuers:
            return self._check_claims(verified(token, self._secrets), None, self._secrets)
        said = unverified(token)
        issuer = said.claims.get("iss")
        if not isinstance(issuer, str) or issuer not in self._issuers:
            if self._secrets:
                return self._check_claims(verified(token, self._secrets), None, self._secrets)
            raise TokenRefused("issuer")
        named, fitting = _find_keys(issuer, said, keys)
        try:
            signed = verified(token, fitting)
        except TokenRefused as refused:
            if refused.reason == "signature":
                raise _refused_for_now("signature", named) from None
            raise
        return self._check_claims(signed, issuer, keys[issuer])

    def _check_claims(
        self, signed: Signed, issuer: str | None, keys: Sequence[Key]
    ) -> VerifiedClaims:
        try:
            return self._claims(signed, issuer, keys)
        except TokenRefused as refused:
            if isinstance(subject := signed.claims.get("sub"), str):
                refused.subject = subject
            raise

    def _claims(self, signed: Signed, issuer: str | None, keys: Sequence[Key]) -> VerifiedClaims:
        settings, claims = self._settings, signed.claims
        claimed.check_type(signed.header)
        if issuer is None:
            issuer = _issuer_of_secret(claims, settings.jwt_secret_issuer)
        if settings.audience is not None and not claimed.is_for(settings.audience, claims):
            raise TokenRefused("audience")
        subject, expires = claimed.subject(claims), claimed.expiry(claims)
        not_before, issued = claimed.time(claims, "nbf"), claimed.time(claims, "iat")
        streams = claimed.streams(claims, settings)
        claimed.check_required(claims, settings.required_claims)
        if self._any_audience and "aud" in claims:
            self.doubts.add("audience")
        assert signed.key is not None
        return VerifiedClaims(
            subject,
            expires + settings.leeway_seconds,
            # One object where both have one value, as they mostly do.
            issued if not_before == issued else not_before,
            issued,
            streams,
            issuer,
            signed.key,
            keys,
            token_id(jti) if isinstance(jti := claims.get("jti"), str) else None,
            key_rights(claims, settings) if self._keyed else None,
        )

    def _principal(self, token: VerifiedClaims, now: float) -> Principal:
        settings = self._settings
        if token.expires <= now:
            raise TokenRefused("expired", subject=token.subject)
        for since in (token.not_before, token.issued):
            if since is not None and since - settings.leeway_seconds > now:
                raise TokenRefused("not_yet_valid", subject=token.subject)
        latest = now + settings.max_token_seconds
        if token.expires - settings.leeway_seconds > latest:
            if settings.refuse_long_tokens:
                raise TokenRefused("claims", claim="exp", subject=token.subject)
            self.doubts.add("long")
        return Principal(token, min(token.expires, latest))


def mint(
    secret: str,
    subject: str,
    ttl_seconds: float,
    now: float,
    streams: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    streams_claim: str = "streams",
    keys_claim: str = "keys",
    issuer: str | None = None,
) -> str:
    """A token for development, signed with the shared secret (HS256).

    now: Unix seconds. streams_claim, keys_claim, issuer: those of Auth for the secret. Raises
    BootError for a secret that cannot be used.
    """
    claims: dict[str, Any] = {"sub": subject, "iat": int(now), "exp": int(now + ttl_seconds)}
    if issuer is not None:
        claims["iss"] = issuer
    if streams is not None:
        claims[streams_claim] = list(streams)
    if keys is not None:
        claims[keys_claim] = list(keys)
    return sign(json.dumps(claims).encode(), secret_bytes(secret, "jwt_secret"))


def _issuer_of_secret(claims: dict[str, Any], required: str | None) -> str | None:
    """The `iss` of a token of a secret, which the deny list may name; raises TokenRefused."""
    issuer = claims.get("iss")
    if required is not None and issuer != required:
        raise TokenRefused("issuer")
    # One object for all of its tokens.
    return sys.intern(issuer) if isinstance(issuer, str) else None


class _Named(NamedTuple):
    """The issuer, key and subject that a token names, unverified."""

    issuer: str
    kid: str | None
    subject: object


def _find_keys(
    issuer: str, said: Signed, keys: Mapping[str, Sequence[Key]]
) -> tuple[_Named, list[Key]]:
    """The issuer's keys that fit the token's unverified names, which serve for nothing else."""
    algorithm = said.header.get("alg")
    if algorithm not in ALGORITHMS:
        raise TokenRefused("algorithm")
    known = keys.get(issuer)
    if not known:
        raise TokenRefused("keys_unavailable")
    kid = said.header.get("kid")
    named = _Named(issuer, kid, said.claims.get("sub"))
    if kid is not None:
        known = [key for key in known if key.kid == kid]
    fitting = [key for key in known if algorithm in key.names]
    # OpenID Connect Core section 10.1: where several keys fit, a token must name one.
    if not known or (kid is None and len(fitting) != 1):
        raise _refused_for_now("unknown_key", named)
    if not fitting:
        raise _refused_for_now("algorithm", named)
    return named, fitting[:MAX_TRIED]


def _refused_for_now(reason: TokenReason, named: _Named) -> TokenRefused:
    """A refusal that newer keys of the issuer may lift."""
    return TokenRefused(reason, issuer=named.issuer, unknown_key=unknown_key(*named))
