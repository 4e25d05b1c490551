"""Signatures; tests/auth/test_verifier.py has the attacks on them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from energyws.auth.claims import TokenRefused
from energyws.auth.jwks import Key
from energyws.auth.signatures import HS256, secret_keys, sign, unverified, verified
from energyws.errors import BootError
from tests.auth.tokens import AUTH, ISSUERS, SECRET

MINE, ANOTHER = (Key(None, HS256, secret) for secret in (SECRET.encode(), b"another" * 5))
TOKEN = sign(b'{"sub":"me"}', SECRET.encode())


def test_key_that_verifies_a_token_is_named() -> None:
    assert verified(TOKEN, [ANOTHER, MINE]).key is MINE
    assert verified(TOKEN, [MINE, ANOTHER]).claims == {"sub": "me"}
    for keys in ([ANOTHER], []):
        with pytest.raises(TokenRefused) as caught:
            verified(TOKEN, keys)
        assert caught.value.reason == "signature"


def test_what_a_token_says_is_readable_without_a_key() -> None:
    header, claims, key = unverified(TOKEN)
    assert (header["alg"], claims, key) == (HS256, {"sub": "me"}, None)
    with pytest.raises(TokenRefused):
        unverified("a.b.c")


def test_secrets_are_keys_where_they_count() -> None:
    both = replace(AUTH, jwt_secret_previous="b" * 32)
    assert [key.key for key in secret_keys(both)] == [SECRET.encode(), b"b" * 32]
    assert [key.key for key in secret_keys(replace(both, jwt_secret_previous=""))] == [
        SECRET.encode()
    ]
    assert secret_keys(replace(both, issuers=ISSUERS)) == ()
    moving = replace(both, issuers=ISSUERS, jwt_secret_beside_issuers=True)
    assert secret_keys(moving) == secret_keys(both)
    with pytest.raises(BootError, match=r"auth\.jwt_secret cannot be used"):
        secret_keys(replace(moving, jwt_secret=None))
