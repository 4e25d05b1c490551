"""An issuer's published keys (RFC 7517), and the algorithm that each verifies; no I/O.

The algorithm follows from the key, never from a token's header (RFC 8725 section 3.1).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from energyws.errors import EnergywsError

MAX_JWKS_BYTES: Final = 1 << 20
MAX_KEYS: Final = 100
# RFC 7518 section 3.3.
MIN_RSA_BITS: Final = 2048
# RFC 7518 section 3.1 and RFC 8037: the algorithm of a key of this type (and curve).
_EDDSA: Final = "EdDSA"
_KEY_ALGORITHMS: Final = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): _EDDSA,
}
# RFC 9864 section 2.2: the newer name of EdDSA with this curve.
ED25519: Final = "Ed25519"
# What the header of a token that an issuer's key signed may name.
ALGORITHMS: Final = (*_KEY_ALGORITHMS.values(), ED25519)


class BadKeys(EnergywsError):
    """A JWKS document without a key that can be used."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key that verifies signatures, and the only algorithm that it is used with."""

    kid: str | None
    algorithm: str
    key: RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | bytes = field(repr=False)

    @property
    def names(self) -> list[str]:
        """The names that a token's header may give the algorithm."""
        return _names(self.algorithm)


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


def _parse_key(entry: object) -> Key | None:
    """None for a key that must not verify signatures, or that cannot be read.

    A published symmetric or private key would let everybody who reads it sign tokens.
    """
    if not isinstance(entry, dict) or "d" in entry or not _may_verify(entry):
        return None
    kind, kid = entry.get("kty"), entry.get("kid")
    curve = None if kind == "RSA" else entry.get("crv")
    algorithm = next((name for key, name in _KEY_ALGORITHMS.items() if key == (kind, curve)), None)
    if algorithm is None or not isinstance(kid, str | None):
        return None
    if entry.get("alg", algorithm) not in _names(algorithm):
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


def _names(algorithm: str) -> list[str]:
    return [_EDDSA, ED25519] if algorithm == _EDDSA else [algorithm]
