"""Who a token belongs to (RFC 7519), decided from the token, the keys and the time; no I/O.

Rules of this file (RFC 8725, JWT best current practices):

1. The algorithm follows from the key, never from the token's header.
2. A token is checked with the keys of its own issuer only, and `iss` is compared exactly.
3. `exp` and `sub` are required, and every time is a finite number.
4. Nothing raised here holds the token or a part of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import HMACAlgorithm

from energyws.errors import (
    KEYS_UNAVAILABLE,
    TOKEN_EXPIRED,
    UNAUTHORIZED,
    BootError,
    EnergywsError,
    ErrorCode,
    TokenReason,
)
from energyws.protocol import MAX_TOKEN_BYTES
from energyws.seen import Grant, Seen, digest
from energyws.settings import Auth

MAX_JWKS_BYTES: Final = 1 << 20
MAX_KEYS: Final = 100
# RFC 7518 section 3.3.
MIN_RSA_BITS: Final = 2048
# Some 400 bytes each: as many as a worker may well have clients.
MAX_SEEN: Final = 20_000
_HS256: Final = "HS256"
# RFC 7518 section 3.1 and RFC 8037: what a key of this type (and curve) signs with.
_KEY_ALGORITHMS: Final = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}


class TokenRefused(EnergywsError):
    """A token that lets nobody in. `reason` labels metrics; `issuer` is set for unknown_key.

    subject: of a token that would be good at another time; of others nobody can tell.
    """

    def __init__(
        self, reason: TokenReason, issuer: str | None = None, subject: str | None = None
    ) -> None:
        super().__init__(reason)
        self.reason: TokenReason = reason
        self.issuer = issuer
        self.subject = subject

    @property
    def error(self) -> ErrorCode:
        """What the client is told: not which of the many reasons it was."""
        if self.reason == "expired":
            return TOKEN_EXPIRED
        if self.reason == "keys_unavailable":
            return KEYS_UNAVAILABLE
        return UNAUTHORIZED


class BadKeys(EnergywsError):
    """A JWKS document that holds no key for us."""


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


@dataclass(frozen=True, slots=True)
class Key:
    """What signatures are checked with, and the only algorithm it is used with."""

    kid: str | None
    algorithm: str
    key: RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | bytes = field(repr=False)


class Verifier:
    """Checks tokens as the settings say: against issuers' keys where there are issuers.

    The signature of a token is checked once as long as its issuer's keys stay the same objects;
    every other answer is as if it had never been seen. Raises BootError for a secret that cannot
    be used.
    """

    def __init__(self, settings: Auth) -> None:
        self._settings = settings
        self._issuers = frozenset(issuer.issuer for issuer in settings.issuers)
        self._secret = (
            None if self._issuers else Key(None, _HS256, _secret_bytes(settings.jwt_secret or ""))
        )
        self._seen = Seen(MAX_SEEN)

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

    def _checked(self, token: str, keys: Mapping[str, Sequence[Key]]) -> Grant:
        """What the token grants in its time; only that is left to look at."""
        if self._secret is not None:
            return self._grant(_verified_claims(token, self._secret), None, None)
        issuer, key = self._find_key(token, keys)
        return self._grant(_verified_claims(token, key), issuer, keys[issuer])

    def _find_key(self, token: str, keys: Mapping[str, Sequence[Key]]) -> tuple[str, Key]:
        """What the token says of itself picks among trusted keys, and does nothing else."""
        try:
            unverified = _JWS.decode_complete(token, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenRefused("malformed") from None
        issuer = _claims(unverified["payload"]).get("iss")
        if not isinstance(issuer, str) or issuer not in self._issuers:
            raise TokenRefused("issuer")
        algorithm = unverified["header"].get("alg")
        if algorithm not in _KEY_ALGORITHMS.values():
            raise TokenRefused("algorithm")
        known = keys.get(issuer)
        if not known:
            raise TokenRefused("keys_unavailable")
        kid = unverified["header"].get("kid")
        if kid is not None:
            known = [key for key in known if key.kid == kid]
        fitting = [key for key in known if key.algorithm == algorithm]
        if not known or (kid is None and len(fitting) != 1):
            raise TokenRefused("unknown_key", issuer)
        if not fitting:
            raise TokenRefused("algorithm")
        return issuer, fitting[0]

    def _grant(
        self, claims: dict[str, Any], issuer: str | None, keys: Sequence[Key] | None
    ) -> Grant:
        settings = self._settings
        if settings.audience is not None and not _is_for(settings.audience, claims.get("aud")):
            raise TokenRefused("audience")
        subject = claims.get("sub")
        expires = _time(claims, "exp")
        if not isinstance(subject, str) or not subject or expires is None:
            raise TokenRefused("claims")
        streams = _streams(claims)
        not_before, issued = _time(claims, "nbf"), _time(claims, "iat")
        return Grant(subject, expires, not_before, issued, streams, issuer, keys)

    def _principal(self, grant: Grant, now: float) -> Principal:
        settings = self._settings
        if grant.expires + settings.leeway_seconds <= now:
            raise TokenRefused("expired", subject=grant.subject)
        for since in (grant.not_before, grant.issued):
            if since is not None and since - settings.leeway_seconds > now:
                raise TokenRefused("not_yet_valid", subject=grant.subject)
        expires = min(grant.expires + settings.leeway_seconds, now + settings.max_token_seconds)
        return Principal(grant.subject, expires, grant.streams, grant.issuer)


def parse_jwks(data: bytes) -> tuple[Key, ...]:
    """The usable signing keys of a JWKS document (RFC 7517 section 5); raises BadKeys."""
    if len(data) > MAX_JWKS_BYTES:
        raise BadKeys(f"a JWKS of more than {MAX_JWKS_BYTES} bytes")
    try:
        entries = json.loads(data)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BadKeys('not a JWKS: a JSON object with a list "keys" is expected') from None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise BadKeys(f'"keys" must be a list of at most {MAX_KEYS} keys')
    keys = tuple(key for entry in entries if (key := _parse_key(entry)) is not None)
    if not keys:
        raise BadKeys("no RS256, ES256 or EdDSA signing key among the keys")
    return keys


def mint(
    secret: str,
    subject: str,
    ttl_seconds: float,
    now: float,
    streams: Sequence[str] | None = None,
) -> str:
    """A token for development, signed with the shared secret (HS256).

    now: Unix seconds. Raises BootError for a secret that cannot be used.
    """
    claims: dict[str, Any] = {"sub": subject, "iat": int(now), "exp": int(now + ttl_seconds)}
    if streams is not None:
        claims["streams"] = list(streams)
    return _JWS.encode(json.dumps(claims).encode(), _secret_bytes(secret), _HS256)


class _SharedSecret(HMACAlgorithm):
    """HS256 with a key from `_secret_bytes`: not judged, nor warned of, again at each token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        assert isinstance(key, bytes)
        return key

    def check_key_length(self, key: bytes) -> None:
        """Any length: the configuration check warns of short secrets, once."""


# An instance of our own, that knows no other algorithms; `none` is among those it does not.
_JWS: Final = jwt.PyJWS(algorithms=list(_KEY_ALGORITHMS.values()))
_JWS.register_algorithm(_HS256, _SharedSecret(HMACAlgorithm.SHA256))


def _secret_bytes(secret: str) -> bytes:
    try:
        return HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except (jwt.InvalidKeyError, UnicodeEncodeError):
        raise BootError(
            "auth.jwt_secret cannot be used: it is empty, not UTF-8, or a key pair's key, a "
            "certificate or a JWK instead of a secret; make one with `openssl rand -base64 32`"
        ) from None


def _verified_claims(token: str, key: Key) -> dict[str, Any]:
    try:
        verified = _JWS.decode_complete(token, key.key, algorithms=[key.algorithm])
    except jwt.InvalidAlgorithmError:
        raise TokenRefused("algorithm") from None
    except jwt.InvalidSignatureError:
        raise TokenRefused("signature") from None
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise TokenRefused("malformed") from None
    return _claims(verified["payload"])


def _claims(payload: bytes) -> dict[str, Any]:
    try:
        claims = json.loads(payload)
    except (ValueError, RecursionError):
        raise TokenRefused("malformed") from None
    if not isinstance(claims, dict):
        raise TokenRefused("malformed")
    return claims


def _is_for(audience: str, claim: object) -> bool:
    """RFC 7519 section 4.1.3: one audience, or a list of them."""
    return claim == audience or (isinstance(claim, list) and audience in claim)


def _streams(claims: dict[str, Any]) -> frozenset[str] | None:
    if "streams" not in claims:
        return None
    streams = claims["streams"]
    # A null too: what was meant to restrict must not come to allow everything.
    if not isinstance(streams, list) or not all(isinstance(name, str) for name in streams):
        raise TokenRefused("claims")
    return frozenset(streams)


def _time(claims: dict[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2) in Unix seconds, None where there is none."""
    if name not in claims:
        return None
    value = claims[name]
    # Not isinstance: True is an int.
    if type(value) not in (int, float):
        raise TokenRefused("claims")
    try:
        seconds = float(value)
    except OverflowError:
        raise TokenRefused("claims") from None
    if not math.isfinite(seconds):
        raise TokenRefused("claims")
    return seconds


def _parse_key(entry: object) -> Key | None:
    """None for a key that must not check signatures, and for one that we cannot read.

    A symmetric or a private key lets everybody who can read it sign.
    """
    if not isinstance(entry, dict) or "d" in entry or not _may_verify(entry):
        return None
    kind, kid = entry.get("kty"), entry.get("kid")
    curve = None if kind == "RSA" else entry.get("crv")
    algorithm = next((name for key, name in _KEY_ALGORITHMS.items() if key == (kind, curve)), None)
    if algorithm is None or entry.get("alg", algorithm) != algorithm:
        return None
    if not isinstance(kid, str | None):
        return None
    try:
        key = jwt.PyJWK(entry, algorithm).key
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        return None
    return Key(kid, algorithm, key)


def _may_verify(entry: dict[str, Any]) -> bool:
    """RFC 7517 sections 4.2 and 4.3."""
    operations = entry.get("key_ops", ["verify"])
    return (
        entry.get("use", "sig") == "sig" and isinstance(operations, list) and "verify" in operations
    )
