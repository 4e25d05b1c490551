"""Who a token belongs to (RFC 7519), decided from the token, the keys and the time; no I/O.

Rules of this file (RFC 8725, JWT best current practices):

1. The algorithm follows from the key, never from the token's header.
2. A token is checked with the keys of its own issuer only, and `iss` is compared exactly.
3. `exp` and `sub` are required, and every time is a finite number.
4. Nothing raised here holds the token or a part of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import jwt
from jwt.algorithms import HMACAlgorithm, OKPAlgorithm

from energyws.auth import claims as claimed
from energyws.auth.claims import TokenRefused
from energyws.auth.jwks import ALGORITHMS, ED25519, Key
from energyws.auth.token_cache import TokenCache, VerifiedClaims, digest
from energyws.auth.unknown_keys import unknown_key
from energyws.errors import BootError, TokenReason
from energyws.protocol.messages import MAX_TOKEN_BYTES
from energyws.settings import Auth

# Some 400 bytes each: as many as a worker may well have clients.
MAX_SEEN: Final = 20_000
# How many keys with the same id are tried: issuers give them different ones (RFC 7517 section 4.5:
# SHOULD), and a forged token must not cost a hundred signatures.
MAX_TRIED: Final = 4
_HS256: Final = "HS256"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whom a good token names.

    expires_at: Unix seconds, the leeway included. streams: None allows all of them.
    """

    subject: str
    expires_at: float
    streams: frozenset[str] | None
    issuer: str | None

    def may_read(self, stream: str) -> bool:
        """Whether the token allows this stream."""
        return self.streams is None or stream in self.streams


class Verifier:
    """Checks tokens as the settings say: against issuers' keys where there are issuers.

    The signature of a token is checked once as long as its issuer's keys stay the same objects;
    every other answer is as if it had never been seen. Raises BootError for a secret that cannot
    be used.
    """

    def __init__(self, settings: Auth) -> None:
        self._settings = settings
        self._issuers = frozenset(issuer.issuer for issuer in settings.issuers)
        self._secrets = [] if self._issuers else _secrets(settings)
        self._seen = TokenCache(MAX_SEEN)

    def verify(self, token: str, keys: Mapping[str, Sequence[Key]], *, now: float) -> Principal:
        """The token's principal, or TokenRefused.

        keys: by issuer; an issuer that is missing has not been fetched yet. Replaced, never
        changed. now: Unix seconds.
        """
        if not token:
            raise TokenRefused("missing")
        if len(token) > MAX_TOKEN_BYTES:
            raise TokenRefused("too_long")
        key = digest(token)
        grant = self._seen.find(key)
        if grant is not None and grant.issuer and keys.get(grant.issuer) is not grant.keys:
            self._seen.forget(key)
            grant = None
        grant = grant or self._checked(token, keys)
        try:
            principal = self._principal(grant, now)
        except TokenRefused:
            self._seen.forget(key)
            raise
        self._seen.keep(key, grant)
        return principal

    def _checked(self, token: str, keys: Mapping[str, Sequence[Key]]) -> VerifiedClaims:
        """What the token grants in its time; only that is left to look at."""
        # RFC 7515 section 2: base64url without padding. PyJWT takes it, and so two texts for one
        # token.
        if "=" in token:
            raise TokenRefused("malformed")
        if self._secrets:
            return self._grant(_verified_claims(token, self._secrets), None, None)
        named, fitting = self._find_keys(token, keys)
        try:
            claims = _verified_claims(token, fitting)
        except TokenRefused as refused:
            if refused.reason == "signature":
                raise _doubtful("signature", named) from None
            raise
        return self._grant(claims, named.issuer, keys[named.issuer])

    def _find_keys(self, token: str, keys: Mapping[str, Sequence[Key]]) -> tuple[_Named, list[Key]]:
        """What the token says of itself, which picks among trusted keys and does nothing else."""
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
        # OpenID Connect Core section 10.1: with several keys to choose from a token names one.
        if not known or (kid is None and len(fitting) != 1):
            raise _doubtful("unknown_key", named)
        if not fitting:
            raise _doubtful("algorithm", named)
        return named, fitting[:MAX_TRIED]

    def _grant(
        self, claims: dict[str, Any], issuer: str | None, keys: Sequence[Key] | None
    ) -> VerifiedClaims:
        settings = self._settings
        if settings.audience is not None and not claimed.is_for(settings.audience, claims):
            raise TokenRefused("audience")
        subject, expires = claimed.subject(claims), claimed.expiry(claims)
        not_before, issued = claimed.time(claims, "nbf"), claimed.time(claims, "iat")
        streams = claimed.streams(claims, settings)
        return VerifiedClaims(subject, expires, not_before, issued, streams, issuer, keys)

    def _principal(self, grant: VerifiedClaims, now: float) -> Principal:
        settings = self._settings
        if grant.expires + settings.leeway_seconds <= now:
            raise TokenRefused("expired", subject=grant.subject)
        for since in (grant.not_before, grant.issued):
            if since is not None and since - settings.leeway_seconds > now:
                raise TokenRefused("not_yet_valid", subject=grant.subject)
        expires = min(grant.expires + settings.leeway_seconds, now + settings.max_token_seconds)
        return Principal(grant.subject, expires, grant.streams, grant.issuer)


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

    now: Unix seconds. streams_claim: as Auth has it. Raises BootError for a secret that cannot be
    used.
    """
    claims: dict[str, Any] = {"sub": subject, "iat": int(now), "exp": int(now + ttl_seconds)}
    if streams is not None:
        claims[streams_claim] = list(streams)
    return _JWS.encode(json.dumps(claims).encode(), _secret_bytes(secret, "jwt_secret"), _HS256)


class _SharedSecret(HMACAlgorithm):
    """HS256 with a key from `_secret_bytes`: not judged, nor warned of, again at each token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        assert isinstance(key, bytes)
        return key

    def check_key_length(self, key: bytes) -> None:
        """Any length: the configuration check warns of short secrets, once."""


# An instance of our own, that knows no other algorithms; `none` is among those it does not.
_JWS: Final = jwt.PyJWS(algorithms=[name for name in ALGORITHMS if name != ED25519])
_JWS.register_algorithm(_HS256, _SharedSecret(HMACAlgorithm.SHA256))
_JWS.register_algorithm(ED25519, OKPAlgorithm())


def _secrets(settings: Auth) -> list[Key]:
    """The newest first; the one before it while clients still bring tokens of it."""
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
    """Whose token it is, and of which key, as it says itself."""

    issuer: str
    kid: str | None
    subject: object


def _doubtful(reason: TokenReason, named: _Named) -> TokenRefused:
    return TokenRefused(reason, issuer=named.issuer, doubt=unknown_key(*named))


def _verified_claims(token: str, keys: Sequence[Key]) -> dict[str, Any]:
    """Of the first key that fits; TokenRefused with the last one's reason where none does."""
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
