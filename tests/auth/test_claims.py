"""The rules for each claim, and the claim that a refusal names."""

from __future__ import annotations

import contextlib
import json
import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.auth import claims as module
from energyws.auth.claims import TokenClaim, TokenReason, TokenRefused
from energyws.errors import KEYS_UNAVAILABLE, TOKEN_EXPIRED, UNAUTHORIZED
from energyws.settings import Auth

ANY, NONE, ENERGY = None, frozenset[str](), frozenset({"energy"})
PLAIN = Auth()
BY_SCOPE = Auth(scope_prefix="read:")


def check(claims: dict[str, Any], settings: Auth = PLAIN) -> None:
    """Check every claim; raises TokenRefused for the first invalid one."""
    module.subject(claims)
    module.expiry(claims)
    module.time(claims, "nbf")
    module.time(claims, "iat")
    module.streams(claims, settings)


@pytest.mark.parametrize(
    ("claim", "good"),
    [
        ("app", True),
        (["x", "app"], True),
        (7, True),
        (True, True),
        (..., False),
        (None, False),
        ("App", False),
        ("app ", False),
        ([], False),
        (["x"], False),
        ([["app"]], False),
        ({"app": 1}, False),
        (7.0, False),
        ("7", False),
        (1, False),
        ("true", False),
    ],
)
def test_required_claim_has_one_of_its_values(claim: object, good: bool) -> None:
    claims = {} if claim is ... else {"azp": claim}
    required = {"azp": ("app", 7, True)}

    if good:
        module.check_required(claims, required)
    else:
        with pytest.raises(TokenRefused) as caught:
            module.check_required(claims, required)
        assert (caught.value.claim, caught.value.claim_name) == ("required", "azp")


@pytest.mark.parametrize("typ", ["JWT", "jwt", "JOSE", "", "at+jwt", "application/AT+jwt", "x"])
def test_type_of_an_access_token_is_accepted(typ: str) -> None:
    module.check_type({"typ": typ})
    module.check_type({})


@pytest.mark.parametrize(
    "typ", ["dpop+jwt", "application/dpop+jwt", "DPOP+JWT", "+jwt", "not-at+jwt", None, 1, ["JWT"]]
)
def test_type_of_another_kind_of_jwt_is_refused(typ: object) -> None:
    with pytest.raises(TokenRefused) as caught:
        module.check_type({"typ": typ})
    assert (caught.value.reason, caught.value.detail) == ("type", "")


def good(**changes: Any) -> dict[str, Any]:
    """Valid claims with these changes; a claim that is `...` is omitted."""
    claims = {"sub": "me", "exp": 1_790_000_000} | changes
    return {name: value for name, value in claims.items() if value is not ...}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"canary",
        b"[]",
        b"null",
        b'"canary"',
        b"\xff",
        b"[" * 4000,
        # More digits than CPython converts.
        b'{"exp":' + b"1" * 5000 + b"}",
    ],
)
def test_payload_that_is_not_a_json_object_is_malformed(payload: bytes) -> None:
    with pytest.raises(TokenRefused) as caught:
        module.parse(payload)

    assert caught.value.reason == "malformed"
    assert "canary" not in repr(caught.value)


@given(st.binary() | st.text().map(str.encode))
def test_any_payload_is_an_object_or_refused(payload: bytes) -> None:
    with contextlib.suppress(TokenRefused):
        assert type(module.parse(payload)) is dict


INVALID: dict[str, tuple[dict[str, Any], TokenClaim]] = {
    # RFC 7519 section 4.1.2.
    "sub missing": ({"sub": ...}, "sub"),
    "sub empty": ({"sub": ""}, "sub"),
    "sub null": ({"sub": None}, "sub"),
    "sub is a number": ({"sub": 7}, "sub"),
    "sub is true": ({"sub": True}, "sub"),
    "sub is a list": ({"sub": ["canary"]}, "sub"),
    # RFC 7519 section 4.1.4.
    "exp missing": ({"exp": ...}, "exp"),
    "exp null": ({"exp": None}, "exp"),
    "exp is a string": ({"exp": "canary"}, "exp"),
    "exp is digits": ({"exp": "1790000000"}, "exp"),
    "exp true": ({"exp": True}, "exp"),
    "exp is a list": ({"exp": [1_790_000_000]}, "exp"),
    "exp NaN": ({"exp": math.nan}, "exp"),
    "exp Infinity": ({"exp": math.inf}, "exp"),
    "exp -Infinity": ({"exp": -math.inf}, "exp"),
    "exp 1e400": ({"exp": json.loads("1e400")}, "exp"),
    "exp with 400 digits": ({"exp": 10**400}, "exp"),
    # RFC 7519 sections 4.1.5 and 4.1.6.
    "nbf NaN": ({"nbf": math.nan}, "nbf"),
    "nbf true": ({"nbf": True}, "nbf"),
    "nbf null": ({"nbf": None}, "nbf"),
    "nbf is a string": ({"nbf": "0"}, "nbf"),
    "iat Infinity": ({"iat": math.inf}, "iat"),
    "iat is a string": ({"iat": "yesterday"}, "iat"),
    # Claims of energyws.
    "streams is a string": ({"streams": "canary"}, "streams"),
    "streams null": ({"streams": None}, "streams"),
    "streams is an object": ({"streams": {"canary": True}}, "streams"),
    "streams of numbers": ({"streams": ["canary", 1]}, "streams"),
    "scope is a number": ({"scope": 5}, "scope"),
    "scope null": ({"scope": None}, "scope"),
    "scp with a number": ({"scp": ["read:canary", 5]}, "scope"),
    "scp is an object": ({"scp": {"read:canary": True}}, "scope"),
}


@pytest.mark.parametrize("name", INVALID)
def test_refusal_names_the_invalid_claim(name: str) -> None:
    changes, claim = INVALID[name]

    with pytest.raises(TokenRefused) as caught:
        check(good(**changes), BY_SCOPE)

    assert (caught.value.reason, caught.value.claim) == ("claims", claim)
    assert "canary" not in repr(caught.value)


@pytest.mark.parametrize(
    "changes",
    [{}, {"exp": 10**300}, {"exp": -1e308}, {"nbf": 0, "iat": 1.5}, {"jti": 5}, {"streams": []}],
)
def test_valid_claims_are_accepted(changes: dict[str, Any]) -> None:
    check(good(**changes))


def test_times_are_unix_seconds() -> None:
    claims = good(exp=5, nbf=1.5)

    assert module.expiry(claims) == 5.0
    assert module.time(claims, "nbf") == 1.5
    assert module.time(claims, "iat") is None


@pytest.mark.parametrize("aud", ["energyws", ["energyws"], ["other", "energyws"]])
def test_audience_may_be_a_string_or_in_a_list(aud: object) -> None:
    assert module.is_for("energyws", good(aud=aud))


@pytest.mark.parametrize(
    "aud",
    [
        *(..., None, "", "energy", "energywss", "Energyws"),
        *([], ["other"], [["energyws"]], {"energyws": 1}),
    ],
)
def test_any_other_audience_does_not_match(aud: object) -> None:
    assert not module.is_for("energyws", good(aud=aud))


@pytest.mark.parametrize(
    ("claims", "allowed"),
    [
        ({}, NONE),
        ({"scope": ""}, NONE),
        ({"scope": "openid profile"}, NONE),
        ({"scope": "energy"}, NONE),
        ({"scope": "write:energy"}, NONE),
        ({"scope": "READ:energy"}, NONE),
        ({"scope": "xread:energy"}, NONE),
        ({"scope": "read:"}, NONE),
        # RFC 8693 section 4.2, RFC 9068 section 2.2.3.
        ({"scope": "read:energy openid"}, ENERGY),
        ({"scope": "openid  read:energy"}, ENERGY),
        ({"scope": "read:energy read:water"}, frozenset({"energy", "water"})),
        ({"scope": ["read:energy", "openid"]}, ENERGY),
        ({"scp": ["read:energy"]}, ENERGY),
        ({"scp": "openid read:energy"}, ENERGY),
        ({"scp": []}, NONE),
        ({"scope": "read:water", "scp": ["read:energy"]}, frozenset({"energy", "water"})),
        # The claim that lists streams overrides the scopes.
        ({"streams": ["energy"]}, ENERGY),
        ({"streams": ["energy"], "scope": "read:water"}, ENERGY),
        ({"streams": [], "scope": "read:water"}, NONE),
    ],
)
def test_scopes_name_the_allowed_streams(
    claims: dict[str, Any], allowed: frozenset[str] | None
) -> None:
    assert module.streams(claims, BY_SCOPE) == allowed


@pytest.mark.parametrize("prefix", ["", "energyws/read."])
def test_prefix_of_scopes_is_configurable(prefix: str) -> None:
    settings = Auth(scope_prefix=prefix)

    assert "energy" in (module.streams({"scope": f"{prefix}energy"}, settings) or ())
    assert "energy" not in (module.streams({"scope": "x"}, settings) or ())


@pytest.mark.parametrize(
    ("claims", "allowed"),
    [
        ({"https://energy.example/streams": ["energy"]}, ENERGY),
        ({"https://energy.example/streams": []}, NONE),
        ({}, ANY),
        # The default name has no meaning then.
        ({"streams": ["energy"]}, ANY),
        ({"streams": "energy", "scope": 5}, ANY),
    ],
)
def test_claim_that_lists_streams_is_configurable(
    claims: dict[str, Any], allowed: frozenset[str] | None
) -> None:
    settings = Auth(streams_claim="https://energy.example/streams")

    assert module.streams(claims, settings) == allowed


def test_error_shows_only_whether_to_retry_or_to_renew() -> None:
    errors = {reason: TokenRefused(reason).error for reason in get_args(TokenReason)}

    assert errors.pop("expired") is TOKEN_EXPIRED
    assert errors.pop("keys_unavailable") is KEYS_UNAVAILABLE
    assert set(errors.values()) == {UNAUTHORIZED}


def test_client_may_retry_while_keys_are_fetched() -> None:
    refused = TokenRefused("unknown_key")
    refused.keys_pending = True

    assert refused.error is KEYS_UNAVAILABLE
