"""Signatures of tokens (RFC 7515), and the shared secrets as keys; no I/O.

No exception raised here contains the token or a part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import jwt
from jwt.algorithms import HMACAlgorithm, OKPAlgorithm

from energyws.auth import claims as claimed
from energyws.auth.claims import TokenRefused
from energyws.auth.jwks import ALGORITHMS, ED25519, Key
from energyws.auth.jws import Jws
from energyws.errors import BootError
from energyws.settings import Auth

HS256: Final = "HS256"


class Signed(NamedTuple):
    """A token's header and claims. key: the one that verifies it; None: unverified."""

    header: dict[str, Any]
    claims: dict[str, Any]
    key: Key | None


class _SharedSecret(HMACAlgorithm):
    """HS256 with a key that `secret_bytes` has checked: PyJWT would check it for each token."""

    def prepare_key(self, key: str | bytes) -> bytes:
        assert isinstance(key, bytes)
        return key

    def check_key_length(self, key: bytes) -> None:
        """Accepts any length: the check of the configuration judges it, once."""


# PyJWT's shared instance knows more algorithms than these, among them `none`.
_JWS: Final = Jws(algorithms=[name for name in ALGORITHMS if name != ED25519])
_JWS.register_algorithm(HS256, _SharedSecret(HMACAlgorithm.SHA256))
_JWS.register_algorithm(ED25519, OKPAlgorithm())


def secret_keys(settings: Auth) -> tuple[Key, ...]:
    """The shared secrets whose tokens are valid; raises BootError for one that cannot be used.

    The current one first, then the previous one while some tokens are still signed with it.
    """
    if settings.issuers and not settings.jwt_secret_beside_issuers:
        return ()
    named = {"jwt_secret": settings.jwt_secret or ""}
    if settings.jwt_secret_previous:
        named["jwt_secret_previous"] = settings.jwt_secret_previous
    return tuple(Key(None, HS256, secret_bytes(secret, name)) for name, secret in named.items())


def secret_bytes(secret: str, name: str) -> bytes:
    """The secret as a key. name: that of its setting, for the BootError that it may raise."""
    try:
        return HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except (jwt.InvalidKeyError, UnicodeEncodeError):
        raise BootError(
            f"auth.{name} cannot be used: it is empty, not UTF-8, or a key pair's key, a "
            "certificate or a JWK instead of a secret; make one with `openssl rand -base64 32`"
        ) from None


def sign(payload: bytes, secret: bytes) -> str:
    """A token with this payload, signed with HS256."""
    return _JWS.encode(payload, secret, HS256)


def unverified(token: str) -> Signed:
    """What the token says of itself; raises TokenRefused."""
    try:
        found = _JWS.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise TokenRefused("malformed") from None
    return Signed(found["header"], claimed.parse(found["payload"]), None)


def verified(token: str, keys: Sequence[Key]) -> Signed:
    """The token if one of the keys verifies it; else TokenRefused, as for the last key."""
    refused = TokenRefused("signature")
    for key in keys:
        try:
            found = _JWS.decode_complete(token, key.key, algorithms=key.names)
        except jwt.InvalidAlgorithmError:
            refused = TokenRefused("algorithm")
        except jwt.InvalidSignatureError:
            refused = TokenRefused("signature")
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise TokenRefused("malformed") from None
        else:
            return Signed(found["header"], claimed.parse(found["payload"]), key)
    raise refused
