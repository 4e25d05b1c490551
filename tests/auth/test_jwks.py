"""JWKS documents: which keys are used, and the errors of unusable documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from energyws.auth.jwks import MAX_JWKS_BYTES, MAX_KEYS, BadKeys, parse_jwks
from tests.auth.tokens import OCT, World, any_json, b64, jwk, jwks


def small_rsa() -> Any:
    return generate_rsa(65537, 1024).public_key()  # noqa: S505


UNUSABLE: dict[str, Callable[[World], object]] = {
    "symmetric": lambda w: OCT,
    "private": lambda w: jwk(w.rsa),
    "private, EC": lambda w: jwk(w.ec),
    "for encryption": lambda w: jwk(w.public, use="enc"),
    "use null": lambda w: jwk(w.public, use=None),
    "for signing only": lambda w: jwk(w.public) | {"key_ops": ["sign"]},
    "key_ops is a string": lambda w: jwk(w.public) | {"key_ops": "verify"},
    "RS512": lambda w: jwk(w.public, alg="RS512"),
    "PS256": lambda w: jwk(w.public, alg="PS256"),
    "RSA for HS256": lambda w: jwk(w.public, alg="HS256"),
    "RSA for none": lambda w: jwk(w.public, alg="none"),
    "alg is a list": lambda w: jwk(w.public, alg=["RS256"]),
    "RSA of 1024 bits": lambda w: jwk(small_rsa()),
    "P-384": lambda w: jwk(generate_ec(SECP384R1()).public_key()),
    "P-384's name on P-256": lambda w: jwk(w.ec.public_key(), crv="P-384"),
    "EC without a curve": lambda w: jwk(w.ec.public_key(), crv=None),
    "X25519": lambda w: jwk(w.ed.public_key(), crv="X25519"),
    "kty unknown": lambda w: jwk(w.public, kty="AKP"),
    "kty missing": lambda w: {"n": "AQAB", "e": "AQAB"},
    "kty is a list": lambda w: jwk(w.public, kty=["RSA"]),
    "crv is an object": lambda w: jwk(w.ec.public_key(), crv={}),
    "kid is a number": lambda w: jwk(w.public, kid=1),
    "n missing": lambda w: {"kty": "RSA", "e": "AQAB"},
    "n is a number": lambda w: jwk(w.public, n=5),
    "n is not base64": lambda w: jwk(w.public, n="é"),
    "e is even": lambda w: jwk(w.public, e="Ag"),
    "not on the curve": lambda w: jwk(w.ec.public_key(), x=b64(bytes(32))),
    "x too short": lambda w: jwk(w.ed.public_key(), x="AQAB"),
    "a string": lambda w: "key",
    "null": lambda w: None,
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_key_is_ignored(world: World, name: str) -> None:
    entry = UNUSABLE[name](world)

    with pytest.raises(BadKeys, match="no RS256, ES256 or EdDSA signing key"):
        parse_jwks(jwks(entry))
    usable = parse_jwks(jwks(entry, jwk(world.ec.public_key(), kid="good"), entry))
    assert [(key.kid, key.algorithm) for key in usable] == [("good", "ES256")]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "not a JWKS"),
        (b"<html>", "not a JWKS"),
        (b"\xff\xfe\xfd", "not a JWKS"),
        (b"[]", "not a JWKS"),
        (b"null", "not a JWKS"),
        (b'"keys"', "not a JWKS"),
        (b"{}", "not a JWKS"),
        (b"[" * 100_000, "not a JWKS"),
        (b'{"keys":{}}', "must be a list"),
        (b'{"keys":null}', "must be a list"),
        (jwks(*[OCT] * (MAX_KEYS + 1)), "at most 100 keys"),
        (b'{"keys":[]}', "no RS256"),
        (jwks(*[OCT] * MAX_KEYS), "no RS256"),
        (b" " * (MAX_JWKS_BYTES + 1), "more than 1048576 bytes"),
        (b'{"keys":[]}'.ljust(MAX_JWKS_BYTES), "no RS256"),
    ],
)
def test_bad_document_is_refused_with_the_reason(data: bytes, error: str) -> None:
    with pytest.raises(BadKeys, match=error):
        parse_jwks(data)


@settings(deadline=None)
@given(st.binary() | any_json.map(json.dumps).map(str.encode))
def test_any_other_document_is_refused(data: bytes) -> None:
    with pytest.raises(BadKeys):
        parse_jwks(data)


@settings(deadline=None)
@given(st.data())
def test_changed_key_is_used_or_ignored(world: World, data: st.DataObject) -> None:
    entry = jwk(data.draw(st.sampled_from([world.public, world.ec.public_key()])))
    members = st.sampled_from([*entry, "use", "alg", "kid", "key_ops", "crv", "x", "y"])
    entry |= data.draw(st.dictionaries(members, any_json, min_size=1))

    try:
        (key,) = parse_jwks(jwks(entry))
    except BadKeys:
        return
    assert key.algorithm in ("RS256", "ES256")
