"""Verifies tokens (RFC 7519) from the token, the keys and the time; no I/O.

Rules of this file (RFC 8725, JWT best current practices):

1. The algorithm follows from the key, never from the token's header.
2. A token is checked with the keys of its own issuer only, and `iss` is compared exactly.
3. `exp` and `sub` are required, and every time must be a finite number.
4. No exception raised here contains the token or a part of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import jwt
from jwt.algorithms import HMACAlgorithm, OKPAlgorithm

from energyws.auth import claims as claimed
from energyws.auth.claims import TokenReason, TokenRefused
from energyws.auth.jwks import ALGORITHMS, ED25519, Key
from energyws.auth.jws import Jws
from energyws.auth.token_cache import TokenCache, VerifiedClaims, digest
from energyws.auth.unknown_keys import unknown_key
from energyws.errors import BootError
from energyws.protocol.messages import MAX_TOKEN_BYTES
from energyws.settings import Auth

# Some 400 bytes each; about as many as a worker has clients.
MAX_CACHED: Final = 20_000
# How many keys with the same id are tried: issuers should not repeat an id (RFC 7517 section 4.5),
# and a forged token must not cost a hundred signature checks.
MAX_TRIED: Final = 4
_HS256: Final = "HS256"


@dataclass(frozen=True, slots=True)
class Principal:
    """The owner of a valid token.

    expires_at: Unix seconds, with the leeway added. streams: None allows all of them.
    """

    subject: str
    expires_at: float
    streams: frozenset[str] | None
    issuer: str | None

    def may_read(self, stream: str) -> bool:
        return self.streams is None or stream in self.streams


class Verifier:
    """Verifies tokens with the issuers' keys, or with the shared secrets if there is no issuer.

    Caches the claims of tokens with good signatures. An entry is valid only while `keys[issuer]`
    is the same object as when the signature was checked, so callers must keep that object until
    the keys change, and replace it then. Raises BootError for a secret that cannot be used.
    """

    def __init__(self, settings: Auth) -> None:
        self._settings = settings
        self._issuers = frozenset(issuer.issuer for issuer in settings.issuers)
        self._secrets = [] if self._issuers else _secrets(settings)
        self._cache = TokenCache(MAX_CACHED)

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
        verified = self._cache.find(key)
        if verified and verified.issuer and keys.get(verified.issuer) is not verified.keys:
            self._cache.forget(key)
            verified = None
        verified = verified or self._verify(token, keys)
        try:
            principal = self._principal(verified, now)
        except TokenRefused:
            self._cache.forget(key)
            raise
        self._cache.keep(key, verified)
        return principal

    def _verify(self, token: str, keys: Mapping[str, Sequence[Key]]) -> VerifiedClaims:
        """Check everything but the times."""
        # RFC 7515 section 2: base64url without padding. PyJWT accepts padding, which would give one
        # token several texts.
        if "=" in token:
            raise TokenRefused("malformed")
        if self._secrets:
            return self._check_claims(_signed_claims(token, self._secrets), None, None)
        named, fitting = self._find_keys(token, keys)
        try:
            claims = _signed_claims(token, fitting)
        except TokenRefused as refused:
            if refused.reason == "signature":
                raise _refused_for_now("signature", named) from None
            raise
        return self._check_claims(claims, named.issuer, keys[named.issuer])

    def _find_keys(self, token: str, keys: Mapping[str, Sequence[Key]]) -> tuple[_Named, list[Key]]:
        """The trusted keys that fit the token's unverified names, which serve for nothing else."""
        try:
            unverified = _JWS.decode_complete(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenRefused("malformed") from None
        claims = claimed.parse(unverified["payload"])
        issuer = claims.get("iss")
        if not isinstance(issuer, str) or issuer not in self._issuers:
            raise TokenRefused("issuer")
        algorithm = unverified["header"].get("alg")
        if algorithm not in ALGORITHMS:
            raise TokenRefused("algorithm")
        known = keys.get(issuer)
        if not known:
            raise TokenRefused("keys_unavailable")
        kid = unverified["header"].get("kid")
        named = _Named(issuer, kid, claims.get("sub"))
        if kid is not None:
            known = [key for key in known if key.kid == kid]
        fitting = [key for key in known if algorithm in key.names]
        # OpenID Connect Core section 10.1: where several keys fit, a token must name one.
        if not known or (kid is None and len(fitting) != 1):
            raise _refused_for_now("unknown_key", named)
        if not fitting:
            raise _refused_for_now("algorithm", named)
        return named, fitting[:MAX_TRIED]

    def _check_claims(
        self, claims: dict[str, Any], issuer: str | None, keys: Sequence[Key] | None
    ) -> VerifiedClaims:
        settings = self._settings
        if settings.audience is not None and not claimed.is_for(settings.audience, claims):
            raise TokenRefused("audience")
        subject, expires = claimed.subject(claims), claimed.expiry(claims)
        not_before, issued = claimed.time(claims, "nbf"), claimed.time(claims, "iat")
        streams = claimed.streams(claims, settings)
        return VerifiedClaims(subject, expires, not_before, issued, streams, issuer, keys)

    def _principal(self, verified: VerifiedClaims, now: float) -> Principal:
        settings = self._settings
        expires_at = verified.expires + settings.leeway_seconds
        if expires_at <= now:
            raise TokenRefused("expired", subject=verified.subject)
        for since in (verified.not_before, verified.issued):
            if since is not None and since - settings.leeway_seconds > now:
                raise TokenRefused("not_yet_valid", subject=verified.subject)
        expires_at = min(expires_at, now + settings.max_token_seconds)
        return Principal(verified.subject, expires_at, verified.streams, verified.issuer)


def mint(
    secret: str,
    subject: str,
    ttl_seconds: float,
    now: float,
    streams: Sequence[str] | None = None,
    *,
    streams_claim: str = "streams",
) -> str:
    """A token for development, signed with the shared secret (HS256).

    now: Unix seconds. streams_claim: that of Auth. Raises BootError for a secret that cannot be
    used.
    """
    claims: dict[str, Any] = {"sub": subject, "iat": int(now), "exp": int(now + ttl_seconds)}
    if streams is not None:
        claims[streams_claim] = list(streams)
    return _JWS.encode(json.dumps(claims).encode(), _secret_bytes(secret, "jwt_secret"), _HS256)


class _SharedSecret(HMACAlgorithm):
    """HS256 with a key that `_secret_bytes` has checked: PyJWT would check it for each token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        assert isinstance(key, bytes)
        return key

    def check_key_length(self, key: bytes) -> None:
        """Accepts any length: the check of the configuration warns about short secrets, once."""


# PyJWT's shared instance knows more algorithms than these, among them `none`.
_JWS: Final = Jws(algorithms=[name for name in ALGORITHMS if name != ED25519])
_JWS.register_algorithm(_HS256, _SharedSecret(HMACAlgorithm.SHA256))
_JWS.register_algorithm(ED25519, OKPAlgorithm())


def _secrets(settings: Auth) -> list[Key]:
    """The current one first, then the previous one while some tokens are still signed with it."""
    named = {"jwt_secret": settings.jwt_secret or ""}
    if settings.jwt_secret_previous:
        named["jwt_secret_previous"] = settings.jwt_secret_previous
    return [Key(None, _HS256, _secret_bytes(secret, name)) for name, secret in named.items()]


def _secret_bytes(secret: str, name: str) -> bytes:
    try:
        return HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except (jwt.InvalidKeyError, UnicodeEncodeError):
        raise BootError(
            f"auth.{name} cannot be used: it is empty, not UTF-8, or a key pair's key, a "
            "certificate or a JWK instead of a secret; make one with `openssl rand -base64 32`"
        ) from None


class _Named(NamedTuple):
    """The issuer, key and subject that a token names, unverified."""

    issuer: str
    kid: str | None
    subject: object


def _refused_for_now(reason: TokenReason, named: _Named) -> TokenRefused:
    """A refusal that newer keys of the issuer may lift."""
    return TokenRefused(reason, issuer=named.issuer, unknown_key=unknown_key(*named))


def _signed_claims(token: str, keys: Sequence[Key]) -> dict[str, Any]:
    """The claims if one of the keys verifies the token; else TokenRefused, as for the last key."""
    refused = TokenRefused("signature")
    for key in keys:
        try:
            verified = _JWS.decode_complete(token, key.key, algorithms=key.names)
        except jwt.InvalidAlgorithmError:
            refused = TokenRefused("algorithm")
        except jwt.InvalidSignatureError:
            refused = TokenRefused("signature")
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenRefused("malformed") from None
        else:
            return claimed.parse(verified["payload"])
    raise refused
