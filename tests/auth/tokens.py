"""Tokens and keys for tests: two issuers, a shared secret, and forgeries."""

from __future__ import annotations

import base64
import hmac
import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from energyws.auth.claims import TokenRefused
from energyws.auth.jwks import Key
from energyws.auth.verifier import Verifier
from energyws.errors import KEYS_UNAVAILABLE, TOKEN_EXPIRED, UNAUTHORIZED
from energyws.settings import Auth, Issuer

NOW = 1_790_000_000.0
LEEWAY = 30.0
MAX_SECONDS = 86_400.0
SECRET = "canary-of-more-than-thirty-two-bytes"
ALICE, BOB = "https://alice.example", "https://bob.example"
AUDIENCE = "energyws"
CLAIMS: dict[str, Any] = {"sub": "canary-subject", "exp": NOW + 600}
ALICE_CLAIMS = CLAIMS | {"iss": ALICE}
# The errors that clients receive, by reason; UNAUTHORIZED for every other reason.
ERRORS = {"expired": TOKEN_EXPIRED, "keys_unavailable": KEYS_UNAVAILABLE}

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey
Signer = Callable[[bytes], bytes]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(header: object, claims: object, sign: Signer) -> str:
    """A token with any header and claims; PyJWT refuses to make most of these."""
    parts = [each if isinstance(each, bytes) else json.dumps(each) for each in (header, claims)]
    signed = ".".join(b64(each.encode() if isinstance(each, str) else each) for each in parts)
    return f"{signed}.{b64(sign(signed.encode()))}"


def hs(secret: str | bytes = SECRET, digest: str = "sha256") -> Signer:
    key = secret.encode() if isinstance(secret, str) else secret
    return lambda data: hmac.digest(key, data, digest)


def by(key: PrivateKey, algorithm: str) -> Signer:
    return lambda data: jwt.get_algorithm_by_name(algorithm).sign(data, key)


def unsigned(data: bytes) -> bytes:
    return b""


def jwk(key: Any, **members: Any) -> dict[str, Any]:
    """The JWK of a public or a private key."""
    if isinstance(key, RSAPrivateKey | RSAPublicKey):
        entry = RSAAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, Ed25519PrivateKey | Ed25519PublicKey):
        entry = OKPAlgorithm.to_jwk(key, as_dict=True)
    else:
        entry = ECAlgorithm.to_jwk(key, as_dict=True)
    return entry | members


def jwks(*entries: object) -> bytes:
    return json.dumps({"keys": entries}).encode()


OCT = {"kty": "oct", "kid": "oct", "k": b64(SECRET.encode())}


@dataclass(frozen=True)
class World:
    """The keys of two issuers, Alice and Bob, and of Mallory, an attacker."""

    rsa: RSAPrivateKey
    ec: EllipticCurvePrivateKey
    ed: Ed25519PrivateKey
    bobs: RSAPrivateKey
    mallorys: RSAPrivateKey
    keys: Mapping[str, Sequence[Key]]

    @property
    def public(self) -> Any:
        return self.rsa.public_key()

    def alice(self, claims: object = ALICE_CLAIMS, **header: Any) -> str:
        """A token from Alice with these changes; a header that is `...` is omitted."""
        header = {"alg": "RS256", "kid": "rsa"} | header
        kept = {name: value for name, value in header.items() if value is not ...}
        return forge(kept, claims, by(self.rsa, "RS256"))


AUTH = Auth(jwt_secret=SECRET, leeway_seconds=LEEWAY, max_token_seconds=MAX_SECONDS)
ISSUERS = (
    Issuer(name="a", issuer=ALICE, jwks_url="https://alice.example/jwks"),
    Issuer(name="b", issuer=BOB, jwks_url="https://bob.example/jwks"),
)
BY_SECRET = Verifier(AUTH)
# AUTH also has a secret, which must be ignored beside issuers.
BY_ISSUER = Verifier(replace(AUTH, issuers=ISSUERS))
FOR_AUDIENCE = Verifier(replace(AUTH, audience=AUDIENCE))
BY_SCOPE = Verifier(replace(AUTH, scope_prefix="read:"))


def refusal(verifier: Verifier, token: str, keys: Mapping[str, Sequence[Key]]) -> TokenRefused:
    """The refusal of the token, which must contain no part of it."""
    with pytest.raises(TokenRefused) as caught:
        verifier.verify(token, keys, now=NOW)
    refused = caught.value
    assert refused.error is ERRORS.get(refused.reason, UNAUTHORIZED)
    shown = f"{refused} {refused!r} {''.join(traceback.format_exception(refused))}"
    assert "canary" not in shown
    assert not [part for part in token.split(".") if len(part) > 8 and part in shown]
    return refused


def signed(**changes: Any) -> str:
    """A token signed with the shared secret; a claim that is `...` is omitted."""
    claims = CLAIMS | changes
    kept = {name: value for name, value in claims.items() if value is not ...}
    return forge({"alg": "HS256"}, kept, hs())


def with_header(**header: Any) -> str:
    return forge({"alg": "HS256"} | header, CLAIMS, hs())


def good() -> str:
    return signed()


def swapped(token: str, other: str, part: int) -> str:
    """`token` with one of its three parts from another token."""
    parts = token.split(".")
    parts[part] = other.split(".")[part]
    return ".".join(parts)


def claims_of(issuer: object) -> dict[str, Any]:
    return CLAIMS | {"iss": issuer}


def encoded(world: World, encoding: Encoding) -> bytes:
    key = world.rsa.public_key()
    return key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
