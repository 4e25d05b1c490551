"""Tokens of issuers: each attack with the exact reason for its refusal."""

from __future__ import annotations

import builtins
import json
import socket
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding
from jwt.algorithms import RSAAlgorithm

from energyws.auth.claims import TokenReason, TokenRefused
from energyws.auth.jwks import BadKeys, parse_jwks
from energyws.auth.verifier import MAX_TRIED
from energyws.errors import KEYS_UNAVAILABLE
from tests.auth.tokens import (
    ALICE,
    ALICE_CLAIMS,
    BOB,
    BY_ISSUER,
    CLAIMS,
    LEEWAY,
    NOW,
    World,
    by,
    claims_of,
    encoded,
    forge,
    hs,
    jwk,
    jwks,
    refusal,
    swapped,
    unsigned,
)


def with_mallorys_key(world: World, **header: Any) -> str:
    return forge({"alg": "RS256"} | header, ALICE_CLAIMS, by(world.mallorys, "RS256"))


ES256 = {"alg": "ES256", "kid": "ec"}
WITH_ISSUERS: dict[str, tuple[Callable[[World], str], TokenReason]] = {
    "nothing": (lambda w: "", "missing"),
    "two parts": (lambda w: w.alice().rpartition(".")[0], "malformed"),
    "claims are a list": (lambda w: w.alice([ALICE_CLAIMS]), "malformed"),
    "header is nested deeply": (lambda w: forge(b"[" * 4000, ALICE_CLAIMS, unsigned), "malformed"),
    "claims are nested deeply": (lambda w: w.alice(b"[" * 4000), "malformed"),
    "unknown crit": (lambda w: w.alice(crit=["canary"], canary=1), "malformed"),
    # RFC 8725 section 3.8: the issuer.
    "iss missing": (lambda w: w.alice(CLAIMS), "issuer"),
    "iss null": (lambda w: w.alice(claims_of(None)), "issuer"),
    "iss is a list": (lambda w: w.alice(claims_of([ALICE])), "issuer"),
    "iss is a number": (lambda w: w.alice(claims_of(1)), "issuer"),
    "iss empty": (lambda w: w.alice(claims_of("")), "issuer"),
    "iss begins with the issuer's URL": (lambda w: w.alice(claims_of(f"{ALICE}.evil")), "issuer"),
    "iss is cut short": (lambda w: w.alice(claims_of(ALICE[:-1])), "issuer"),
    "iss with a slash": (lambda w: w.alice(claims_of(f"{ALICE}/")), "issuer"),
    "iss in capitals": (lambda w: w.alice(claims_of(ALICE.upper())), "issuer"),
    "iss is the issuer's name": (lambda w: w.alice(claims_of("a")), "issuer"),
    "iss of another issuer": (lambda w: w.alice(claims_of(BOB), kid="bobs"), "signature"),
    "iss of another issuer, with this one's kid": (
        lambda w: w.alice(claims_of(BOB)),
        "unknown_key",
    ),
    "another issuer's key": (
        lambda w: forge({"alg": "RS256", "kid": "rsa"}, ALICE_CLAIMS, by(w.bobs, "RS256")),
        "signature",
    ),
    "another issuer's key and kid": (
        lambda w: forge({"alg": "RS256", "kid": "bobs"}, ALICE_CLAIMS, by(w.bobs, "RS256")),
        "unknown_key",
    ),
    # RFC 8725 section 2.1: algorithm confusion.
    "alg none": (
        lambda w: forge({"alg": "none", "kid": "rsa"}, ALICE_CLAIMS, unsigned),
        "algorithm",
    ),
    "alg none without kid": (lambda w: forge({"alg": "none"}, ALICE_CLAIMS, unsigned), "algorithm"),
    "alg missing": (lambda w: w.alice(alg=...), "algorithm"),
    "alg is a list": (lambda w: w.alice(alg=["RS256"]), "algorithm"),
    "public key (PEM) as a secret": (
        lambda w: forge({"alg": "HS256", "kid": "rsa"}, ALICE_CLAIMS, hs(encoded(w, Encoding.PEM))),
        "algorithm",
    ),
    "public key (DER) as a secret": (
        lambda w: forge({"alg": "HS256", "kid": "rsa"}, ALICE_CLAIMS, hs(encoded(w, Encoding.DER))),
        "algorithm",
    ),
    "public key (JWK) as a secret": (
        lambda w: forge(
            {"alg": "HS256", "kid": "rsa"}, ALICE_CLAIMS, hs(json.dumps(jwk(w.public)))
        ),
        "algorithm",
    ),
    "public key (PEM) as a secret, called RS256": (
        lambda w: forge({"alg": "RS256", "kid": "rsa"}, ALICE_CLAIMS, hs(encoded(w, Encoding.PEM))),
        "signature",
    ),
    "the secret beside the issuers": (
        lambda w: forge({"alg": "HS256"}, ALICE_CLAIMS, hs()),
        "algorithm",
    ),
    "symmetric key in the JWKS": (
        lambda w: forge({"alg": "HS256", "kid": "oct"}, ALICE_CLAIMS, hs()),
        "algorithm",
    ),
    "symmetric key in the JWKS, called RS256": (
        lambda w: forge({"alg": "RS256", "kid": "oct"}, ALICE_CLAIMS, hs()),
        "unknown_key",
    ),
    "RS512 by an RS256 key": (
        lambda w: forge({"alg": "RS512", "kid": "rsa"}, ALICE_CLAIMS, by(w.rsa, "RS512")),
        "algorithm",
    ),
    "PS256 by an RS256 key": (
        lambda w: forge({"alg": "PS256", "kid": "rsa"}, ALICE_CLAIMS, by(w.rsa, "PS256")),
        "algorithm",
    ),
    "RS256 with another type's kid": (lambda w: w.alice(kid="ec"), "algorithm"),
    "ES256 with another type's kid": (
        lambda w: forge(ES256 | {"kid": "rsa"}, ALICE_CLAIMS, by(w.ec, "ES256")),
        "algorithm",
    ),
    # RFC 8725 section 3.10: a header that names a key.
    "kid unknown": (lambda w: w.alice(kid="canary"), "unknown_key"),
    "kid empty": (lambda w: w.alice(kid=""), "unknown_key"),
    "kid is a path": (lambda w: w.alice(kid="../../../../dev/null"), "unknown_key"),
    "kid is SQL": (lambda w: w.alice(kid="x' UNION SELECT 'canary'; --"), "unknown_key"),
    "kid is a URL": (lambda w: w.alice(kid="http://127.0.0.1:1/canary"), "unknown_key"),
    "kid in capitals": (lambda w: w.alice(kid="RSA"), "unknown_key"),
    "kid of 4 KB": (lambda w: w.alice(kid="k" * 4096), "unknown_key"),
    "kid of 10 KB": (lambda w: w.alice(kid="k" * 10240), "too_long"),
    "kid is a number": (lambda w: w.alice(kid=1), "malformed"),
    "kid is null": (lambda w: w.alice(kid=None), "malformed"),
    "kid is an object": (lambda w: w.alice(kid={"canary": 1}), "malformed"),
    "jwk in the header": (
        lambda w: with_mallorys_key(w, kid="rsa", jwk=jwk(w.mallorys.public_key())),
        "signature",
    ),
    "jwk in the header, with its kid": (
        lambda w: with_mallorys_key(w, kid="m", jwk=jwk(w.mallorys.public_key(), kid="m")),
        "unknown_key",
    ),
    "jwk in the header, without a kid": (
        lambda w: with_mallorys_key(w, jwk=jwk(w.mallorys.public_key())),
        "signature",
    ),
    "jku": (lambda w: with_mallorys_key(w, kid="rsa", jku="http://127.0.0.1:1/"), "signature"),
    "x5u": (lambda w: with_mallorys_key(w, kid="rsa", x5u="http://127.0.0.1:1/"), "signature"),
    "x5c": (lambda w: with_mallorys_key(w, kid="rsa", x5c=["canary"]), "signature"),
    # The signature; all zeros is CVE-2022-21449.
    "ES256 of zeros": (lambda w: forge(ES256, ALICE_CLAIMS, lambda d: bytes(64)), "signature"),
    "ES256 cut short": (
        lambda w: forge(ES256, ALICE_CLAIMS, lambda d: by(w.ec, "ES256")(d)[:-1]),
        "signature",
    ),
    "ES256 empty": (lambda w: forge(ES256, ALICE_CLAIMS, unsigned), "signature"),
    "EdDSA of zeros": (
        lambda w: forge({"alg": "EdDSA", "kid": "ed"}, ALICE_CLAIMS, lambda d: bytes(64)),
        "signature",
    ),
    "RS256 empty": (
        lambda w: forge({"alg": "RS256", "kid": "rsa"}, ALICE_CLAIMS, unsigned),
        "signature",
    ),
    "RS256 of zeros": (
        lambda w: forge({"alg": "RS256", "kid": "rsa"}, ALICE_CLAIMS, lambda d: bytes(256)),
        "signature",
    ),
    "another token's claims": (
        lambda w: swapped(w.alice(), w.alice(ALICE_CLAIMS | {"a": 1}), 1),
        "signature",
    ),
    # Claims are checked as with a secret.
    "exp past": (lambda w: w.alice(ALICE_CLAIMS | {"exp": NOW - 3600}), "expired"),
    "nbf future": (lambda w: w.alice(ALICE_CLAIMS | {"nbf": NOW + 3600}), "not_yet_valid"),
    "sub is a number": (lambda w: w.alice(ALICE_CLAIMS | {"sub": 1}), "claims"),
}


@pytest.mark.parametrize("name", WITH_ISSUERS)
def test_attack_on_the_issuers_is_refused(world: World, name: str) -> None:
    token, reason = WITH_ISSUERS[name]

    refused = refusal(BY_ISSUER, token(world), world.keys)

    assert refused.reason == reason


def test_unknown_key_names_the_issuer_to_refresh(world: World) -> None:
    assert refusal(BY_ISSUER, world.alice(kid="new"), world.keys).issuer == ALICE


@pytest.mark.parametrize("key_of", [ALICE, BOB])
@pytest.mark.parametrize("kid_of", [ALICE, BOB])
@pytest.mark.parametrize("iss", [ALICE, BOB])
def test_issuer_key_and_kid_must_match(world: World, iss: str, kid_of: str, key_of: str) -> None:
    key = {ALICE: world.rsa, BOB: world.bobs}[key_of]
    kid = {ALICE: "rsa", BOB: "bobs"}[kid_of]
    token = forge({"alg": "RS256", "kid": kid}, claims_of(iss), by(key, "RS256"))

    if iss == kid_of == key_of:
        assert BY_ISSUER.verify(token, world.keys, now=NOW).token.issuer == iss
    else:
        reason = "unknown_key" if kid_of != iss else "signature"
        assert refusal(BY_ISSUER, token, world.keys).reason == reason


def test_two_issuers_may_use_the_same_kid(world: World) -> None:
    keys = {
        ALICE: parse_jwks(jwks(jwk(world.public, kid="1"))),
        BOB: parse_jwks(jwks(jwk(world.bobs.public_key(), kid="1"))),
    }
    token = forge({"alg": "RS256", "kid": "1"}, claims_of(BOB), by(world.bobs, "RS256"))

    assert BY_ISSUER.verify(token, keys, now=NOW).token.issuer == BOB
    assert refusal(BY_ISSUER, world.alice(claims_of(BOB), kid="1"), keys).reason == "signature"


@pytest.mark.parametrize("keys", [{}, {ALICE: ()}, {BOB: None}])
def test_client_may_retry_before_the_first_fetch(world: World, keys: dict[str, Any]) -> None:
    loaded = {issuer: world.keys[issuer] if got is None else got for issuer, got in keys.items()}

    refused = refusal(BY_ISSUER, world.alice(), loaded)

    assert (refused.reason, refused.error.status) == ("keys_unavailable", 503)


@pytest.mark.parametrize("kid", ["rsa", "ec", "ed"])
def test_each_type_of_key_verifies_its_own_algorithm(world: World, kid: str) -> None:
    keys: dict[str, tuple[Any, str]] = {
        "rsa": (world.rsa, "RS256"),
        "ec": (world.ec, "ES256"),
        "ed": (world.ed, "EdDSA"),
    }
    key, algorithm = keys[kid]
    named = forge({"alg": algorithm, "kid": kid}, ALICE_CLAIMS, by(key, algorithm))
    # No kid is needed: each key is the only one of its type.
    nameless = forge({"alg": algorithm}, ALICE_CLAIMS, by(key, algorithm))

    for text in (named, nameless):
        principal = BY_ISSUER.verify(text, world.keys, now=NOW)
        assert (principal.subject, principal.expires_at) == ("canary-subject", NOW + 600 + LEEWAY)
        assert (principal.streams, principal.token.issuer) == (None, ALICE)
        assert principal.token.key.kid == kid


@pytest.mark.parametrize("named", [{}, {"alg": "EdDSA"}, {"alg": "Ed25519"}])
@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519"])
def test_ed25519_has_two_names(world: World, named: dict[str, str], alg: str) -> None:
    # Ed25519 by RFC 9864 section 2.2, EdDSA by RFC 8037.
    keys = {ALICE: parse_jwks(jwks(jwk(world.ed.public_key(), kid="ed", **named)))}
    token = forge({"alg": alg, "kid": "ed"}, ALICE_CLAIMS, by(world.ed, "EdDSA"))

    assert BY_ISSUER.verify(token, keys, now=NOW).token.issuer == ALICE
    forged = forge(
        {"alg": alg, "kid": "ed"}, ALICE_CLAIMS, by(Ed25519PrivateKey.generate(), "EdDSA")
    )
    assert refusal(BY_ISSUER, forged, keys).reason == "signature"


@pytest.mark.parametrize("alg", ["Ed448", "ed25519", "ES256"])
def test_ed25519_key_verifies_no_other_algorithm(world: World, alg: str) -> None:
    with pytest.raises(BadKeys):
        parse_jwks(jwks(jwk(world.ed.public_key(), kid="ed", alg=alg)))
    keys = {ALICE: parse_jwks(jwks(jwk(world.ed.public_key(), kid="ed")))}
    token = forge({"alg": alg, "kid": "ed"}, ALICE_CLAIMS, by(world.ed, "EdDSA"))
    assert refusal(BY_ISSUER, token, keys).reason == "algorithm"


def test_every_key_with_the_kid_is_tried(world: World) -> None:
    several = [jwk(key.public_key(), kid="1") for key in (world.bobs, world.mallorys, world.rsa)]
    keys = {ALICE: parse_jwks(jwks(*several))}

    assert BY_ISSUER.verify(world.alice(kid="1"), keys, now=NOW).token.issuer == ALICE
    stranger = forge(
        {"alg": "RS256", "kid": "1"}, ALICE_CLAIMS, by(generate_rsa(65537, 2048), "RS256")
    )
    assert refusal(BY_ISSUER, stranger, keys).reason == "signature"


def test_number_of_keys_tried_for_a_forged_token_is_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {ALICE: parse_jwks(jwks(*[jwk(world.bobs.public_key(), kid="1")] * 100))}
    tried: list[object] = []
    verify = RSAAlgorithm.verify

    def counted(self: RSAAlgorithm, *arguments: Any) -> bool:
        tried.append(arguments)
        return verify(self, *arguments)

    monkeypatch.setattr(RSAAlgorithm, "verify", counted)
    assert refusal(BY_ISSUER, world.alice(kid="1"), keys).reason == "signature"
    assert len(tried) == MAX_TRIED


REVERSED_BY_NEWER_KEYS = ["unknown_key", "signature", "algorithm"]


@pytest.mark.parametrize("name", WITH_ISSUERS)
def test_refusal_that_newer_keys_may_reverse_names_the_unknown_key(world: World, name: str) -> None:
    token, reason = WITH_ISSUERS[name]
    refused = refusal(BY_ISSUER, token(world), world.keys)

    if refused.unknown_key is None:
        assert refused.issuer is None
        assert reason not in ("unknown_key", "signature")
    else:
        assert refused.issuer in (ALICE, BOB)
        assert reason in REVERSED_BY_NEWER_KEYS
        refused.keys_pending = True
        assert refused.error is KEYS_UNAVAILABLE


def test_forbidden_algorithm_is_refused_for_good(world: World) -> None:
    for alg in ("none", "HS256", "RS512", "PS256"):
        token = forge({"alg": alg, "kid": "rsa"}, ALICE_CLAIMS, unsigned)
        assert refusal(BY_ISSUER, token, world.keys).unknown_key is None


def test_token_without_kid_needs_a_single_key_of_its_type(world: World) -> None:
    two = jwks(jwk(world.public, kid="1"), jwk(world.bobs.public_key(), kid="2"))
    without_kid = world.alice(kid=...)

    assert refusal(BY_ISSUER, without_kid, {ALICE: parse_jwks(two)}).reason == "unknown_key"
    one = jwks(jwk(world.ec.public_key(), kid="1"))
    assert refusal(BY_ISSUER, without_kid, {ALICE: parse_jwks(one)}).reason == "unknown_key"


def test_two_keys_may_share_a_kid_when_their_types_differ(world: World) -> None:
    keys = {
        ALICE: parse_jwks(jwks(jwk(world.ec.public_key(), kid="1"), jwk(world.public, kid="1")))
    }

    assert BY_ISSUER.verify(world.alice(kid="1"), keys, now=NOW).token.issuer == ALICE


def test_no_header_opens_a_file_or_a_socket(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = [make(world) for make, _ in WITH_ISSUERS.values()]

    def opened(*args: object, **kwargs: object) -> NoReturn:
        pytest.fail("verification opened a file or a socket")

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "open", opened)
        patched.setattr(socket, "socket", opened)
        reasons = []
        for token in tokens:
            try:
                BY_ISSUER.verify(token, world.keys, now=NOW)
            except TokenRefused as refused:
                reasons.append(refused.reason)
    assert reasons == [reason for _, reason in WITH_ISSUERS.values()]
