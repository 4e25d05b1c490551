"""Tokens of the shared secret: each attack with the exact reason for its refusal."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from energyws.auth.claims import TokenReason, TokenRefused
from energyws.auth.verifier import Verifier, mint
from energyws.errors import BootError
from energyws.protocol.messages import MAX_TOKEN_BYTES
from energyws.settings import Auth
from tests.auth.tokens import (
    ALICE,
    ALICE_CLAIMS,
    AUDIENCE,
    AUTH,
    BOB,
    BY_ISSUER,
    BY_SCOPE,
    BY_SECRET,
    CLAIMS,
    FOR_AUDIENCE,
    ISSUERS,
    LEEWAY,
    MAX_SECONDS,
    NOW,
    SECRET,
    World,
    any_json,
    b64,
    by,
    encoded,
    forge,
    good,
    hs,
    jwk,
    refusal,
    signed,
    swapped,
    unsigned,
    with_header,
)

WITH_SECRET: dict[str, tuple[str, TokenReason]] = {
    "nothing": ("", "missing"),
    "8 KiB and one byte": ("a" * (MAX_TOKEN_BYTES + 1), "too_long"),
    "1 MB": ("a" * 1_000_000, "too_long"),
    "1 MB, signed": (signed(pad="a" * 1_000_000), "too_long"),
    # Not three parts of base64url.
    "one part": ("abc", "malformed"),
    "two parts": (good().rpartition(".")[0], "malformed"),
    "four parts": (f"{good()}.abc", "malformed"),
    "two dots": ("..", "malformed"),
    "JWE of five parts": (".".join([b64(b'{"alg":"dir","enc":"A256GCM"}'), *"abcd"]), "malformed"),
    "not ASCII": (f"{good()[:-1]}é", "malformed"),
    "lone surrogate": (f"{good()[:-1]}\ud800", "malformed"),
    "NUL": (f"{good()}\0", "malformed"),
    # RFC 7515 section 2: padding would give one token several texts.
    "padded signature": (f"{good()}=", "malformed"),
    "padded parts": (".".join(f"{part}==" for part in good().split(".")), "malformed"),
    "line feed": (f"{good()}\n", "malformed"),
    "with its scheme": (f"Bearer {good()}", "malformed"),
    "base64, not base64url": (f"+/{good()}", "malformed"),
    "header is not base64": (swapped(good(), "!!!!.x.x", 0), "malformed"),
    # Not JSON, or not an object.
    "header is not JSON": (forge(b"canary", CLAIMS, hs()), "malformed"),
    "header is a list": (forge([], CLAIMS, hs()), "malformed"),
    "header is not UTF-8": (forge(b'{"alg":"\xff"}', CLAIMS, hs()), "malformed"),
    "header is nested deeply": (forge(b"[" * 4000, CLAIMS, hs()), "malformed"),
    "claims are not JSON": (forge({"alg": "HS256"}, b"canary", hs()), "malformed"),
    "claims are a list": (forge({"alg": "HS256"}, [CLAIMS], hs()), "malformed"),
    "claims are nested deeply": (forge({"alg": "HS256"}, b"[" * 4000, hs()), "malformed"),
    # RFC 8725 section 3.1: the algorithm.
    "alg none": (forge({"alg": "none"}, CLAIMS, unsigned), "algorithm"),
    "alg None": (forge({"alg": "None"}, CLAIMS, unsigned), "algorithm"),
    "alg NONE": (forge({"alg": "NONE"}, CLAIMS, unsigned), "algorithm"),
    "alg nOnE": (forge({"alg": "nOnE"}, CLAIMS, unsigned), "algorithm"),
    "alg none, signed": (with_header(alg="none"), "algorithm"),
    "alg empty": (with_header(alg=""), "algorithm"),
    "alg null": (with_header(alg=None), "algorithm"),
    "alg missing": (forge({}, CLAIMS, hs()), "algorithm"),
    "alg in lower case": (with_header(alg="hs256"), "algorithm"),
    "alg is a list": (with_header(alg=["HS256"]), "algorithm"),
    "alg is an object": (with_header(alg={"HS256": 1}), "algorithm"),
    "alg is a number": (with_header(alg=256), "algorithm"),
    "HS384": (forge({"alg": "HS384"}, CLAIMS, hs(digest="sha384")), "algorithm"),
    "HS512": (forge({"alg": "HS512"}, CLAIMS, hs(digest="sha512")), "algorithm"),
    "RS256 without issuers": (with_header(alg="RS256"), "algorithm"),
    # RFC 7515 sections 4.1.4 and 4.1.11, RFC 7797.
    "unknown crit": (with_header(crit=["canary"], canary=1), "malformed"),
    "empty crit": (with_header(crit=[]), "malformed"),
    "crit is a string": (with_header(crit="exp"), "malformed"),
    "b64 false": (with_header(b64=False), "malformed"),
    "b64 false and critical": (with_header(b64=False, crit=["b64"]), "malformed"),
    "b64 false, detached": (
        forge({"alg": "HS256", "b64": False, "crit": ["b64"]}, b"", hs()),
        "malformed",
    ),
    "kid is a number": (with_header(kid=1), "malformed"),
    "kid is null": (with_header(kid=None), "malformed"),
    "kid is a list": (with_header(kid=["canary"]), "malformed"),
    # The signature.
    "another secret": (forge({"alg": "HS256"}, CLAIMS, hs("another")), "signature"),
    "empty secret": (forge({"alg": "HS256"}, CLAIMS, hs("")), "signature"),
    "no signature": (forge({"alg": "HS256"}, CLAIMS, unsigned), "signature"),
    "half a signature": (forge({"alg": "HS256"}, CLAIMS, lambda d: hs()(d)[:16]), "signature"),
    "another token's claims": (swapped(good(), signed(sub="root"), 1), "signature"),
    "another token's header": (swapped(good(), with_header(typ="JWT"), 0), "signature"),
    "expired, and forged": (forge({"alg": "HS256"}, {"exp": 0}, hs("another")), "signature"),
    # Claims; tests/auth/test_claims.py covers each in full.
    "sub missing": (signed(sub=...), "claims"),
    "exp missing": (signed(exp=...), "claims"),
    "exp NaN": (signed(exp=math.nan), "claims"),
    "exp 1e400": (forge({"alg": "HS256"}, b'{"sub":"s","exp":1e400}', hs()), "claims"),
    "exp past": (signed(exp=NOW - 3600), "expired"),
    "exp past by the leeway": (signed(exp=NOW - LEEWAY), "expired"),
    "exp 0": (signed(exp=0), "expired"),
    "exp -1e308": (signed(exp=-1e308), "expired"),
    "nbf future": (signed(nbf=NOW + LEEWAY + 1), "not_yet_valid"),
    "nbf 1e308": (signed(nbf=1e308), "not_yet_valid"),
    "nbf NaN": (signed(nbf=math.nan), "claims"),
    "iat future": (signed(iat=NOW + LEEWAY + 1), "not_yet_valid"),
    "streams null": (signed(streams=None), "claims"),
    # RFC 8725 section 3.11, RFC 9449 section 4.2: a JWT of another kind.
    "DPoP proof": (with_header(typ="dpop+jwt"), "type"),
    "logout token": (with_header(typ="application/Logout+JWT"), "type"),
    "typ is a list": (with_header(typ=["JWT"]), "type"),
    "typ null": (with_header(typ=None), "type"),
}


@pytest.mark.parametrize("name", WITH_SECRET)
def test_attack_on_the_secret_is_refused(name: str) -> None:
    token, reason = WITH_SECRET[name]

    assert refusal(BY_SECRET, token, {}).reason == reason


def test_refusal_for_another_reason_names_no_claim() -> None:
    assert refusal(BY_SECRET, signed(exp=0), {}).claim is None
    assert refusal(FOR_AUDIENCE, signed(aud="canary"), {}).claim is None


ACCEPTED: dict[str, tuple[str, float]] = {
    "plain": (good(), NOW + 600 + LEEWAY),
    "exp just past": (signed(exp=NOW - LEEWAY + 1), NOW + 1),
    "exp of whole seconds": (signed(exp=int(NOW) + 600), NOW + 600 + LEEWAY),
    "exp beyond the cap": (signed(exp=NOW + MAX_SECONDS + 1), NOW + MAX_SECONDS),
    "exp at the cap": (signed(exp=NOW + MAX_SECONDS), NOW + MAX_SECONDS),
    "exp 2**53": (signed(exp=2**53), NOW + MAX_SECONDS),
    "exp 1e308": (signed(exp=1e308), NOW + MAX_SECONDS),
    "exp with 300 digits": (signed(exp=10**300), NOW + MAX_SECONDS),
    "nbf within the leeway": (signed(nbf=NOW + LEEWAY), NOW + 600 + LEEWAY),
    "iat within the leeway": (signed(iat=NOW + LEEWAY), NOW + 600 + LEEWAY),
    "iat long ago": (signed(iat=-1e308), NOW + 600 + LEEWAY),
    "aud, which is not configured": (signed(aud="somebody else"), NOW + 600 + LEEWAY),
    "iss, which is not configured": (signed(iss=["x"]), NOW + 600 + LEEWAY),
    "jti of another type": (signed(jti=5), NOW + 600 + LEEWAY),
    "kid is a path": (with_header(kid="/dev/null"), NOW + 600 + LEEWAY),
    "typ": (with_header(typ="JWT"), NOW + 600 + LEEWAY),
    "typ of an access token": (with_header(typ="at+jwt"), NOW + 600 + LEEWAY),
    "the same, in full": (with_header(typ="application/at+JWT"), NOW + 600 + LEEWAY),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_good_token_is_accepted_until_it_expires(name: str) -> None:
    token, expires_at = ACCEPTED[name]

    principal = BY_SECRET.verify(token, {}, now=NOW)

    assert (principal.subject, principal.expires_at) == ("canary-subject", expires_at)
    assert (principal.streams, principal.token.issuer) == (None, None)


def test_token_of_maximum_length_is_accepted() -> None:
    # Base64 turns three bytes into four.
    pad = (MAX_TOKEN_BYTES - len(signed(pad=""))) * 3 // 4
    token = signed(pad="a" * pad)

    assert MAX_TOKEN_BYTES - 4 < len(token) <= MAX_TOKEN_BYTES
    assert BY_SECRET.verify(token, {}, now=NOW).subject == "canary-subject"


@pytest.mark.parametrize(
    ("streams", "energy", "water"),
    [(..., True, True), ([], False, False), (["energy"], True, False), (["Energy"], False, False)],
)
def test_streams_claim_restricts_the_readable_streams(
    streams: object, energy: bool, water: bool
) -> None:
    principal = BY_SECRET.verify(signed(streams=streams), {}, now=NOW)

    assert (principal.may_read("energy"), principal.may_read("water")) == (energy, water)


def test_scopes_restrict_the_readable_streams() -> None:
    principal = BY_SCOPE.verify(signed(scope="read:energy"), {}, now=NOW)

    assert (principal.may_read("energy"), principal.may_read("water")) == (True, False)


def test_token_for_another_audience_is_refused() -> None:
    assert refusal(FOR_AUDIENCE, signed(), {}).reason == "audience"
    assert FOR_AUDIENCE.verify(signed(aud=AUDIENCE), {}, now=NOW).subject == "canary-subject"


PREVIOUS = "canary-that-was-the-secret-until-yesterday"


def test_both_secrets_are_accepted_while_both_are_configured() -> None:
    both = Verifier(replace(AUTH, jwt_secret_previous=PREVIOUS))
    old = forge({"alg": "HS256"}, CLAIMS, hs(PREVIOUS))

    assert both.verify(good(), {}, now=NOW).subject == both.verify(old, {}, now=NOW).subject
    assert refusal(both, forge({"alg": "HS256"}, CLAIMS, hs("another")), {}).reason == "signature"
    assert refusal(both, forge({"alg": "HS256"}, {"sub": 1}, hs(PREVIOUS)), {}).claim == "sub"
    # The operator has removed it from the configuration.
    for none in (None, ""):
        after = Verifier(replace(AUTH, jwt_secret_previous=none))
        assert refusal(after, old, {}).reason == "signature"


def test_secrets_are_ignored_beside_issuers(world: World) -> None:
    verifier = Verifier(replace(AUTH, issuers=ISSUERS, jwt_secret_previous=PREVIOUS))
    old = forge({"alg": "HS256"}, ALICE_CLAIMS, hs(PREVIOUS))

    assert refusal(verifier, old, world.keys).reason == "algorithm"


MOVING = replace(AUTH, issuers=ISSUERS, jwt_secret_beside_issuers=True)


def test_secrets_count_beside_issuers_if_the_settings_say_so(world: World) -> None:
    verifier = Verifier(replace(MOVING, jwt_secret_previous=PREVIOUS))
    old = forge({"alg": "HS256"}, CLAIMS, hs(PREVIOUS))

    for token in (good(), signed(iss=["x"]), old):
        assert verifier.verify(token, world.keys, now=NOW).token.issuer is None
    # Nobody requires it, but an entry of the deny list may name it.
    somebodys = signed(iss="somebody")
    for each in (BY_SECRET, verifier):
        for _ in range(2):
            found = each.verify(somebodys, world.keys, now=NOW).token
            assert found.issuer == "somebody"
            assert not each.has_lost(found, world.keys)
    assert verifier.verify(world.alice(), world.keys, now=NOW).token.issuer == ALICE
    # The secret signs in no issuer's name, and no issuer's key without its name.
    by_secret = forge({"alg": "HS256"}, ALICE_CLAIMS, hs())
    assert refusal(verifier, by_secret, world.keys).reason == "algorithm"
    assert refusal(verifier, world.alice(CLAIMS), world.keys).reason == "algorithm"
    # Nor is a public key taken for a secret.
    pem = encoded(world, Encoding.PEM)
    confused = forge({"alg": "HS256", "kid": "rsa"}, CLAIMS, hs(pem))
    assert refusal(verifier, confused, world.keys).reason == "signature"


@pytest.mark.parametrize("auth", [AUTH, MOVING], ids=["alone", "beside issuers"])
def test_secret_may_have_an_issuer_too(world: World, auth: Auth) -> None:
    verifier = Verifier(replace(auth, jwt_secret_issuer="https://secret.example"))

    for iss in (..., "https://secret.example/", "", None, ["https://secret.example"]):
        assert refusal(verifier, signed(iss=iss), world.keys).reason == "issuer"
    mine = signed(iss="https://secret.example")
    for _ in range(2):
        principal = verifier.verify(mine, world.keys, now=NOW)
        assert principal.token.issuer == "https://secret.example"
        assert not verifier.has_lost(principal.token, world.keys)
    minted = mint(SECRET, "me", 60, NOW, issuer="https://secret.example")
    assert verifier.verify(minted, world.keys, now=NOW).subject == "me"


def test_token_with_a_wrong_required_claim_is_refused() -> None:
    verifier = Verifier(replace(AUTH, required_claims={"client_id": ("app", "page")}))

    assert verifier.verify(signed(client_id="page"), {}, now=NOW)
    refused = refusal(verifier, signed(client_id="canary"), {})
    assert (refused.reason, refused.claim, refused.claim_name) == (
        "claims",
        "required",
        "client_id",
    )


@pytest.mark.parametrize("claim", [5, None, {"a": 1}, ["x", 1]])
def test_claim_for_keys_is_ignored_where_no_stream_has_any(claim: object) -> None:
    refused = refusal(Verifier(AUTH, keyed=True), signed(keys=claim), {})
    assert (refused.reason, refused.claim, refused.subject) == ("claims", "keys", CLAIMS["sub"])
    principal = Verifier(AUTH, keyed=False).verify(signed(keys=claim), {}, now=NOW)
    assert principal.token.rights is None


def test_long_token_is_refused_if_the_settings_say_so() -> None:
    strict = Verifier(replace(AUTH, refuse_long_tokens=True))
    at_most, longer = signed(exp=NOW + MAX_SECONDS), signed(exp=NOW + MAX_SECONDS + 1)

    assert strict.verify(at_most, {}, now=NOW).expires_at == NOW + MAX_SECONDS
    assert refusal(strict, longer, {}).claim == "exp"
    # A second later it is short enough.
    assert strict.verify(longer, {}, now=NOW + 1)
    assert strict.doubts == set()


def test_accepted_tokens_that_should_be_looked_at_are_noted() -> None:
    verifier = Verifier(AUTH)
    verifier.verify(good(), {}, now=NOW)
    assert verifier.doubts == set()
    verifier.verify(signed(aud="somebody else"), {}, now=NOW)
    assert verifier.doubts == {"audience"}
    verifier.verify(signed(exp=1e308), {}, now=NOW)
    assert verifier.doubts == {"audience", "long"}
    # Where the audience is checked there is no doubt, whatever checks it.
    for checking in ({"audience": "me"}, {"required_claims": {"aud": ("me",)}}):
        sure = Verifier(replace(AUTH, **checking))  # type: ignore[arg-type]
        sure.verify(signed(aud=["me", "you"]), {}, now=NOW)
        assert sure.doubts == set()


def test_key_is_lost_once_it_is_known_to_be_removed(world: World) -> None:
    token = BY_ISSUER.verify(world.alice(), world.keys, now=NOW).token
    alices = world.keys[ALICE]
    others = tuple(key for key in alices if key.kid != "rsa")

    assert not BY_ISSUER.has_lost(token, world.keys)
    # Not fetched yet, or too old: nobody knows.
    assert not BY_ISSUER.has_lost(token, {BOB: world.keys[BOB]})
    # The issuer's list changes, but not this key.
    assert not BY_ISSUER.has_lost(token, {ALICE: alices[:-1] + others})
    assert BY_ISSUER.has_lost(token, {ALICE: others})
    # The issuer is trusted no more, or a secret takes its place.
    assert Verifier(replace(AUTH, issuers=ISSUERS[1:])).has_lost(token, world.keys)
    assert BY_SECRET.has_lost(token, {})


def test_secret_is_lost_once_the_settings_have_it_no_more() -> None:
    token = BY_SECRET.verify(good(), {}, now=NOW).token

    assert not Verifier(AUTH).has_lost(token, {})
    rotated = replace(AUTH, jwt_secret=PREVIOUS, jwt_secret_previous=SECRET)
    assert not Verifier(rotated).has_lost(token, {})
    assert Verifier(replace(rotated, jwt_secret_previous=None)).has_lost(token, {})
    assert BY_ISSUER.has_lost(token, {})
    assert not Verifier(MOVING).has_lost(token, {})


def test_error_names_the_unusable_previous_secret(world: World) -> None:
    with pytest.raises(BootError, match=r"auth\.jwt_secret_previous cannot be used"):
        Verifier(replace(AUTH, jwt_secret_previous=encoded(world, Encoding.PEM).decode()))


# test-secret is from the README of energy-ws.
@pytest.mark.parametrize("secret", ["test-secret", "x", "schlüssel", '{"a": 1}', "a" * 1000])
def test_minted_token_is_accepted_without_a_warning(secret: str) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        token = mint(secret, "me", 60, NOW + 0.5, ["energy"])
        principal = Verifier(replace(AUTH, jwt_secret=secret)).verify(token, {}, now=NOW)

    assert (principal.subject, principal.expires_at) == ("me", NOW + 60 + LEEWAY)
    assert principal.streams == {"energy"}
    assert warned == []


def test_minted_token_is_readable_by_pyjwt() -> None:
    claims = jwt.decode(mint(SECRET, "me", 60, NOW), SECRET, ["HS256"], {"verify_exp": False})

    assert claims == {"sub": "me", "iat": NOW, "exp": NOW + 60}


def test_public_key_is_refused_as_a_secret(world: World) -> None:
    secrets = [
        "",
        encoded(world, Encoding.PEM).decode(),
        json.dumps(jwk(world.public)),
        "canary\udcff",
    ]
    for secret in secrets:
        with pytest.raises(BootError, match=r"auth\.jwt_secret") as verifying:
            Verifier(replace(AUTH, jwt_secret=secret))
        with pytest.raises(BootError, match=r"auth\.jwt_secret"):
            mint(secret, "me", 60, NOW)
        assert not secret or secret not in str(verifying.value)


def test_verifier_needs_a_secret_or_an_issuer() -> None:
    with pytest.raises(BootError):
        Verifier(Auth())


def test_repr_shows_no_key_material(world: World) -> None:
    shown = repr(world.keys) + repr(BY_SECRET) + repr(vars(BY_SECRET))

    assert SECRET not in shown
    assert "canary" not in shown
    assert jwk(world.public)["n"] not in shown


headers = st.dictionaries(
    st.sampled_from(["alg", "kid", "crit", "b64", "typ", "jwk", "zip"]),
    any_json | st.sampled_from(["HS256", "RS256", "none", "rsa", "ec"]),
)
claims_sets = st.dictionaries(
    st.sampled_from(["sub", "exp", "nbf", "iat", "aud", "iss", "streams", "jti", "scope", "scp"]),
    any_json | st.sampled_from([ALICE, BOB, AUDIENCE, "me", NOW, ["energy"]]),
)


@settings(deadline=None)
@given(st.text() | st.binary().map(lambda data: data.decode("latin-1")))
def test_any_text_is_refused(world: World, text: str) -> None:
    for verifier in (BY_SECRET, BY_ISSUER):
        with pytest.raises(TokenRefused):
            verifier.verify(text, world.keys, now=NOW)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60).map(b64), min_size=3, max_size=3).map(".".join))
def test_any_three_parts_are_refused(world: World, token: str) -> None:
    for verifier in (BY_SECRET, BY_ISSUER):
        with pytest.raises(TokenRefused):
            verifier.verify(token, world.keys, now=NOW)


@settings(deadline=None)
@given(headers, claims_sets)
def test_any_signed_token_is_refused_or_gives_a_valid_principal(
    world: World, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    cases = [
        (FOR_AUDIENCE, {"alg": "HS256"}, hs()),
        (BY_SECRET, {"alg": "HS256"}, hs()),
        (BY_SECRET, {}, hs()),
        (BY_SCOPE, {"alg": "HS256"}, hs()),
        (BY_ISSUER, {"alg": "RS256", "kid": "rsa"}, by(world.rsa, "RS256")),
        (BY_ISSUER, {}, by(world.rsa, "RS256")),
    ]
    for verifier, valid, sign in cases:
        try:
            principal = verifier.verify(
                forge(header | valid, {"sub": "me", "exp": NOW + 1} | claims, sign),
                world.keys,
                now=NOW,
            )
        except TokenRefused:
            continue
        assert principal.subject
        assert NOW < principal.expires_at <= NOW + MAX_SECONDS
        assert (principal.token.key.algorithm == "HS256") is (verifier is not BY_ISSUER)
