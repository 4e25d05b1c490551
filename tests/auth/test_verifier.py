"""Tokens: each attack with the exact reason for which it is refused."""

from __future__ import annotations

import base64
import builtins
import hmac
import json
import math
import socket
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn, get_args

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    EllipticCurvePrivateKey,
)
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from energyws.auth.claims import TokenRefused
from energyws.auth.jwks import MAX_JWKS_BYTES, MAX_KEYS, BadKeys, Key, parse_jwks
from energyws.auth.verifier import MAX_TRIED, Principal, Verifier, mint
from energyws.errors import (
    KEYS_UNAVAILABLE,
    TOKEN_EXPIRED,
    UNAUTHORIZED,
    BootError,
    TokenReason,
)
from energyws.protocol.messages import MAX_TOKEN_BYTES
from energyws.settings import Auth, Issuer

NOW = 1_790_000_000.0
LEEWAY = 30.0
MAX_SECONDS = 86_400.0
SECRET = "canary-of-more-than-thirty-two-bytes"
ALICE, BOB = "https://alice.example", "https://bob.example"
AUDIENCE = "energyws"

CLAIMS: dict[str, Any] = {"sub": "canary-subject", "exp": NOW + 600}
ALICES = CLAIMS | {"iss": ALICE}

ERRORS = {
    "missing": UNAUTHORIZED,
    "malformed": UNAUTHORIZED,
    "too_long": UNAUTHORIZED,
    "algorithm": UNAUTHORIZED,
    "signature": UNAUTHORIZED,
    "issuer": UNAUTHORIZED,
    "audience": UNAUTHORIZED,
    "claims": UNAUTHORIZED,
    "expired": TOKEN_EXPIRED,
    "not_yet_valid": UNAUTHORIZED,
    "unknown_key": UNAUTHORIZED,
    "keys_unavailable": KEYS_UNAVAILABLE,
}

PrivateKey = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey
Signer = Callable[[bytes], bytes]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def forge(header: object, claims: object, sign: Signer) -> str:
    """A token from any header and claims, by hand: PyJWT refuses to make most of these."""
    parts = [each if isinstance(each, bytes) else json.dumps(each) for each in (header, claims)]
    signed = ".".join(b64(each.encode() if isinstance(each, str) else each) for each in parts)
    return f"{signed}.{b64(sign(signed.encode()))}"


def hs(secret: str | bytes = SECRET, digest: str = "sha256") -> Signer:
    key = secret.encode() if isinstance(secret, str) else secret
    return lambda data: hmac.digest(key, data, digest)


def by(key: PrivateKey, algorithm: str) -> Signer:
    return lambda data: jwt.get_algorithm_by_name(algorithm).sign(data, key)


def nobody(data: bytes) -> bytes:
    return b""


def jwk(key: Any, **members: Any) -> dict[str, Any]:
    """The public key's JWK (the private one's, where the private key is given)."""
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
    """Two issuers and somebody who is neither."""

    rsa: RSAPrivateKey
    ec: EllipticCurvePrivateKey
    ed: Ed25519PrivateKey
    bobs: RSAPrivateKey
    mallorys: RSAPrivateKey
    keys: Mapping[str, Sequence[Key]]

    @property
    def public(self) -> Any:
        return self.rsa.public_key()

    def alice(self, claims: object = ALICES, **header: Any) -> str:
        """A token of hers: good unless something is changed."""
        header = {"alg": "RS256", "kid": "rsa"} | header
        kept = {name: value for name, value in header.items() if value is not ...}
        return forge(kept, claims, by(self.rsa, "RS256"))


@pytest.fixture(scope="module")
def world() -> World:
    rsa, bobs, mallorys = (generate_rsa(65537, 2048) for _ in range(3))
    ec, ed = generate_ec(SECP256R1()), Ed25519PrivateKey.generate()
    alices = jwks(
        OCT,
        jwk(rsa.public_key(), kid="rsa", use="sig", alg="RS256", key_ops=["verify"]),
        jwk(ec.public_key(), kid="ec"),
        jwk(ed.public_key(), kid="ed"),
    )
    keys = {ALICE: parse_jwks(alices), BOB: parse_jwks(jwks(jwk(bobs.public_key(), kid="bobs")))}
    return World(rsa, ec, ed, bobs, mallorys, keys)


AUTH = Auth(jwt_secret=SECRET, leeway_seconds=LEEWAY, max_token_seconds=MAX_SECONDS)
ISSUERS = (
    Issuer(name="a", issuer=ALICE, jwks_url="https://alice.example/jwks"),
    Issuer(name="b", issuer=BOB, jwks_url="https://bob.example/jwks"),
)
BY_SECRET = Verifier(AUTH)
# The secret stands beside the issuers, and must not count.
BY_ISSUER = Verifier(replace(AUTH, issuers=ISSUERS))
FOR_AUDIENCE = Verifier(replace(AUTH, audience=AUDIENCE))
BY_SCOPE = Verifier(replace(AUTH, scope_prefix="read:"))


def refusal(verifier: Verifier, token: str, keys: Mapping[str, Sequence[Key]]) -> TokenRefused:
    with pytest.raises(TokenRefused) as caught:
        verifier.verify(token, keys, now=NOW)
    refused = caught.value
    assert refused.error is ERRORS[refused.reason]
    said = f"{refused} {refused!r} {''.join(traceback.format_exception(refused))}"
    assert "canary" not in said
    assert not [part for part in token.split(".") if len(part) > 8 and part in said]
    return refused


def signed(**changes: Any) -> str:
    """A token with the right secret; a claim that is `...` is left out."""
    claims = CLAIMS | changes
    kept = {name: value for name, value in claims.items() if value is not ...}
    return forge({"alg": "HS256"}, kept, hs())


def headed(**header: Any) -> str:
    return forge({"alg": "HS256"} | header, CLAIMS, hs())


def good() -> str:
    return signed()


def swapped(token: str, other: str, part: int) -> str:
    """`token` with one of its three parts from another token."""
    parts = token.split(".")
    parts[part] = other.split(".")[part]
    return ".".join(parts)


WITH_SECRET: dict[str, tuple[str, TokenReason]] = {
    "nothing": ("", "missing"),
    "8 KiB and a byte": ("a" * (MAX_TOKEN_BYTES + 1), "too_long"),
    "1 MB": ("a" * 1_000_000, "too_long"),
    "1 MB, well signed": (signed(pad="a" * 1_000_000), "too_long"),
    # Not three parts of base64url.
    "one part": ("abc", "malformed"),
    "two parts": (good().rpartition(".")[0], "malformed"),
    "four parts": (f"{good()}.abc", "malformed"),
    "two dots": ("..", "malformed"),
    "JWE of five parts": (".".join([b64(b'{"alg":"dir","enc":"A256GCM"}'), *"abcd"]), "malformed"),
    "not ASCII": (f"{good()[:-1]}é", "malformed"),
    "lone surrogate": (f"{good()[:-1]}\ud800", "malformed"),
    "NUL": (f"{good()}\0", "malformed"),
    # RFC 7515 section 2: without padding, or one token has several texts.
    "padded signature": (f"{good()}=", "malformed"),
    "padded parts": (".".join(f"{part}==" for part in good().split(".")), "malformed"),
    "line feed": (f"{good()}\n", "malformed"),
    "with its scheme": (f"Bearer {good()}", "malformed"),
    "base64, not base64url": (f"+/{good()}", "malformed"),
    "header is not base64": (swapped(good(), "!!!!.x.x", 0), "malformed"),
    # JSON that is none, or not an object.
    "header is not JSON": (forge(b"canary", CLAIMS, hs()), "malformed"),
    "header is a list": (forge([], CLAIMS, hs()), "malformed"),
    "header is not UTF-8": (forge(b'{"alg":"\xff"}', CLAIMS, hs()), "malformed"),
    "header is deep": (forge(b"[" * 4000, CLAIMS, hs()), "malformed"),
    "claims are not JSON": (forge({"alg": "HS256"}, b"canary", hs()), "malformed"),
    "claims are a list": (forge({"alg": "HS256"}, [CLAIMS], hs()), "malformed"),
    "claims are null": (forge({"alg": "HS256"}, None, hs()), "malformed"),
    "claims are empty": (forge({"alg": "HS256"}, b"", hs()), "malformed"),
    "claims are deep": (forge({"alg": "HS256"}, b"[" * 4000, hs()), "malformed"),
    "claims with 5,000 digits": (
        forge({"alg": "HS256"}, b'{"exp":' + b"1" * 5000 + b"}", hs()),
        "malformed",
    ),
    # RFC 8725 section 3.1: the algorithm.
    "alg none": (forge({"alg": "none"}, CLAIMS, nobody), "algorithm"),
    "alg None": (forge({"alg": "None"}, CLAIMS, nobody), "algorithm"),
    "alg NONE": (forge({"alg": "NONE"}, CLAIMS, nobody), "algorithm"),
    "alg nOnE": (forge({"alg": "nOnE"}, CLAIMS, nobody), "algorithm"),
    "alg none, well signed": (headed(alg="none"), "algorithm"),
    "alg empty": (headed(alg=""), "algorithm"),
    "alg null": (headed(alg=None), "algorithm"),
    "alg missing": (forge({}, CLAIMS, hs()), "algorithm"),
    "alg in small letters": (headed(alg="hs256"), "algorithm"),
    "alg is a list": (headed(alg=["HS256"]), "algorithm"),
    "alg is an object": (headed(alg={"HS256": 1}), "algorithm"),
    "alg is a number": (headed(alg=256), "algorithm"),
    "HS384": (forge({"alg": "HS384"}, CLAIMS, hs(digest="sha384")), "algorithm"),
    "HS512": (forge({"alg": "HS512"}, CLAIMS, hs(digest="sha512")), "algorithm"),
    "RS256 without issuers": (headed(alg="RS256"), "algorithm"),
    # RFC 7515 sections 4.1.4 and 4.1.11, RFC 7797.
    "unknown crit": (headed(crit=["canary"], canary=1), "malformed"),
    "empty crit": (headed(crit=[]), "malformed"),
    "crit is a string": (headed(crit="exp"), "malformed"),
    "b64 false": (headed(b64=False), "malformed"),
    "b64 false and critical": (headed(b64=False, crit=["b64"]), "malformed"),
    "b64 false, detached": (
        forge({"alg": "HS256", "b64": False, "crit": ["b64"]}, b"", hs()),
        "malformed",
    ),
    "kid is a number": (headed(kid=1), "malformed"),
    "kid is null": (headed(kid=None), "malformed"),
    "kid is a list": (headed(kid=["canary"]), "malformed"),
    # The signature.
    "another secret": (forge({"alg": "HS256"}, CLAIMS, hs("another")), "signature"),
    "empty secret": (forge({"alg": "HS256"}, CLAIMS, hs("")), "signature"),
    "no signature": (forge({"alg": "HS256"}, CLAIMS, nobody), "signature"),
    "half a signature": (forge({"alg": "HS256"}, CLAIMS, lambda d: hs()(d)[:16]), "signature"),
    "another token's claims": (swapped(good(), signed(sub="root"), 1), "signature"),
    "another token's header": (swapped(good(), headed(typ="JWT"), 0), "signature"),
    "expired, and forged": (forge({"alg": "HS256"}, {"exp": 0}, hs("another")), "signature"),
    # RFC 7519 section 4.1.2.
    "sub missing": (signed(sub=...), "claims"),
    "sub empty": (signed(sub=""), "claims"),
    "sub null": (signed(sub=None), "claims"),
    "sub is a number": (signed(sub=7), "claims"),
    "sub is true": (signed(sub=True), "claims"),
    "sub is a list": (signed(sub=["canary"]), "claims"),
    # RFC 7519 section 4.1.4.
    "exp missing": (signed(exp=...), "claims"),
    "exp null": (signed(exp=None), "claims"),
    "exp is a text": (signed(exp="2099"), "claims"),
    "exp is digits": (signed(exp=str(int(NOW) + 600)), "claims"),
    "exp true": (signed(exp=True), "claims"),
    "exp is a list": (signed(exp=[NOW + 600]), "claims"),
    "exp NaN": (signed(exp=math.nan), "claims"),
    "exp Infinity": (signed(exp=math.inf), "claims"),
    "exp -Infinity": (signed(exp=-math.inf), "claims"),
    "exp 1e400": (forge({"alg": "HS256"}, b'{"sub":"s","exp":1e400}', hs()), "claims"),
    "exp with 400 digits": (signed(exp=10**400), "claims"),
    "exp past": (signed(exp=NOW - 3600), "expired"),
    "exp past by the leeway": (signed(exp=NOW - LEEWAY), "expired"),
    "exp 0": (signed(exp=0), "expired"),
    "exp -1e308": (signed(exp=-1e308), "expired"),
    # RFC 7519 sections 4.1.5 and 4.1.6.
    "nbf future": (signed(nbf=NOW + LEEWAY + 1), "not_yet_valid"),
    "nbf 1e308": (signed(nbf=1e308), "not_yet_valid"),
    "nbf NaN": (signed(nbf=math.nan), "claims"),
    "nbf true": (signed(nbf=True), "claims"),
    "nbf null": (signed(nbf=None), "claims"),
    "nbf is a text": (signed(nbf="0"), "claims"),
    "iat future": (signed(iat=NOW + LEEWAY + 1), "not_yet_valid"),
    "iat Infinity": (signed(iat=math.inf), "claims"),
    "iat is a text": (signed(iat="yesterday"), "claims"),
    # Ours.
    "streams is a text": (signed(streams="energy"), "claims"),
    "streams null": (signed(streams=None), "claims"),
    "streams is an object": (signed(streams={"energy": True}), "claims"),
    "streams of numbers": (signed(streams=["energy", 1]), "claims"),
}


@pytest.mark.parametrize("name", WITH_SECRET)
def test_attack_on_the_secret_is_refused(name: str) -> None:
    token, reason = WITH_SECRET[name]

    assert refusal(BY_SECRET, token, {}).reason == reason


@pytest.mark.parametrize(
    ("claims", "wrong"),
    [
        ({"sub": ...}, "sub"),
        ({"sub": ["canary"]}, "sub"),
        ({"exp": ...}, "exp"),
        ({"exp": "canary"}, "exp"),
        ({"nbf": True}, "nbf"),
        ({"iat": math.inf}, "iat"),
        ({"streams": None}, "streams"),
        ({"scope": 5}, "scope"),
        ({"scp": ["read:energy", 5]}, "scope"),
        ({"scp": {"read:energy": True}}, "scope"),
        ({"scope": None}, "scope"),
    ],
)
def test_a_wrong_claim_is_named(claims: dict[str, Any], wrong: str) -> None:
    refused = refusal(BY_SCOPE, signed(**claims), {})

    assert (refused.reason, refused.claim) == ("claims", wrong)


def test_other_reasons_name_no_claim() -> None:
    assert refusal(BY_SECRET, signed(exp=0), {}).claim is None
    assert refusal(FOR_AUDIENCE, signed(aud="canary"), {}).claim is None


def test_every_reason_has_its_error_code() -> None:
    assert {reason: TokenRefused(reason).error for reason in get_args(TokenReason)} == ERRORS


def of(issuer: object) -> dict[str, Any]:
    return CLAIMS | {"iss": issuer}


def encoded(world: World, encoding: Encoding) -> bytes:
    key = world.rsa.public_key()
    return key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


def with_mallorys_key(world: World, **header: Any) -> str:
    return forge({"alg": "RS256"} | header, ALICES, by(world.mallorys, "RS256"))


ES256 = {"alg": "ES256", "kid": "ec"}
WITH_ISSUERS: dict[str, tuple[Callable[[World], str], TokenReason]] = {
    "nothing": (lambda w: "", "missing"),
    "two parts": (lambda w: w.alice().rpartition(".")[0], "malformed"),
    "claims are a list": (lambda w: w.alice([ALICES]), "malformed"),
    "header is deep": (lambda w: forge(b"[" * 4000, ALICES, nobody), "malformed"),
    "claims are deep": (lambda w: w.alice(b"[" * 4000), "malformed"),
    "unknown crit": (lambda w: w.alice(crit=["canary"], canary=1), "malformed"),
    # RFC 8725 section 3.8: the issuer.
    "iss missing": (lambda w: w.alice(CLAIMS), "issuer"),
    "iss null": (lambda w: w.alice(of(None)), "issuer"),
    "iss is a list": (lambda w: w.alice(of([ALICE])), "issuer"),
    "iss is a number": (lambda w: w.alice(of(1)), "issuer"),
    "iss empty": (lambda w: w.alice(of("")), "issuer"),
    "iss with ours as a prefix": (lambda w: w.alice(of(f"{ALICE}.evil")), "issuer"),
    "iss a prefix of ours": (lambda w: w.alice(of(ALICE[:-1])), "issuer"),
    "iss with a slash": (lambda w: w.alice(of(f"{ALICE}/")), "issuer"),
    "iss in capitals": (lambda w: w.alice(of(ALICE.upper())), "issuer"),
    "iss is the issuer's name": (lambda w: w.alice(of("a")), "issuer"),
    "iss of another": (lambda w: w.alice(of(BOB), kid="bobs"), "signature"),
    "iss of another, with our kid": (lambda w: w.alice(of(BOB)), "unknown_key"),
    "another issuer's key": (
        lambda w: forge({"alg": "RS256", "kid": "rsa"}, ALICES, by(w.bobs, "RS256")),
        "signature",
    ),
    "another issuer's key and kid": (
        lambda w: forge({"alg": "RS256", "kid": "bobs"}, ALICES, by(w.bobs, "RS256")),
        "unknown_key",
    ),
    # RFC 8725 section 2.1: algorithm confusion.
    "alg none": (lambda w: forge({"alg": "none", "kid": "rsa"}, ALICES, nobody), "algorithm"),
    "alg none without kid": (lambda w: forge({"alg": "none"}, ALICES, nobody), "algorithm"),
    "alg missing": (lambda w: w.alice(alg=...), "algorithm"),
    "alg is a list": (lambda w: w.alice(alg=["RS256"]), "algorithm"),
    "public key (PEM) as a secret": (
        lambda w: forge({"alg": "HS256", "kid": "rsa"}, ALICES, hs(encoded(w, Encoding.PEM))),
        "algorithm",
    ),
    "public key (DER) as a secret": (
        lambda w: forge({"alg": "HS256", "kid": "rsa"}, ALICES, hs(encoded(w, Encoding.DER))),
        "algorithm",
    ),
    "public key (JWK) as a secret": (
        lambda w: forge({"alg": "HS256", "kid": "rsa"}, ALICES, hs(json.dumps(jwk(w.public)))),
        "algorithm",
    ),
    "public key (PEM) as a secret, called RS256": (
        lambda w: forge({"alg": "RS256", "kid": "rsa"}, ALICES, hs(encoded(w, Encoding.PEM))),
        "signature",
    ),
    "the secret beside the issuers": (
        lambda w: forge({"alg": "HS256"}, ALICES, hs()),
        "algorithm",
    ),
    "symmetric key in the JWKS": (
        lambda w: forge({"alg": "HS256", "kid": "oct"}, ALICES, hs()),
        "algorithm",
    ),
    "symmetric key in the JWKS, called RS256": (
        lambda w: forge({"alg": "RS256", "kid": "oct"}, ALICES, hs()),
        "unknown_key",
    ),
    "RS512 by an RS256 key": (
        lambda w: forge({"alg": "RS512", "kid": "rsa"}, ALICES, by(w.rsa, "RS512")),
        "algorithm",
    ),
    "PS256 by an RS256 key": (
        lambda w: forge({"alg": "PS256", "kid": "rsa"}, ALICES, by(w.rsa, "PS256")),
        "algorithm",
    ),
    "RS256 with another type's kid": (lambda w: w.alice(kid="ec"), "algorithm"),
    "ES256 with another type's kid": (
        lambda w: forge(ES256 | {"kid": "rsa"}, ALICES, by(w.ec, "ES256")),
        "algorithm",
    ),
    # RFC 8725 section 3.10: what a header claims about keys.
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
    "jwk in the header, its kid": (
        lambda w: with_mallorys_key(w, kid="m", jwk=jwk(w.mallorys.public_key(), kid="m")),
        "unknown_key",
    ),
    "jwk in the header, no kid": (
        lambda w: with_mallorys_key(w, jwk=jwk(w.mallorys.public_key())),
        "signature",
    ),
    "jku": (lambda w: with_mallorys_key(w, kid="rsa", jku="http://127.0.0.1:1/"), "signature"),
    "x5u": (lambda w: with_mallorys_key(w, kid="rsa", x5u="http://127.0.0.1:1/"), "signature"),
    "x5c": (lambda w: with_mallorys_key(w, kid="rsa", x5c=["canary"]), "signature"),
    # The signature; all zeros is CVE-2022-21449.
    "ES256 of zeros": (lambda w: forge(ES256, ALICES, lambda d: bytes(64)), "signature"),
    "ES256 cut short": (
        lambda w: forge(ES256, ALICES, lambda d: by(w.ec, "ES256")(d)[:-1]),
        "signature",
    ),
    "ES256 empty": (lambda w: forge(ES256, ALICES, nobody), "signature"),
    "EdDSA of zeros": (
        lambda w: forge({"alg": "EdDSA", "kid": "ed"}, ALICES, lambda d: bytes(64)),
        "signature",
    ),
    "RS256 empty": (lambda w: forge({"alg": "RS256", "kid": "rsa"}, ALICES, nobody), "signature"),
    "RS256 of zeros": (
        lambda w: forge({"alg": "RS256", "kid": "rsa"}, ALICES, lambda d: bytes(256)),
        "signature",
    ),
    "another token's claims": (
        lambda w: swapped(w.alice(), w.alice(ALICES | {"a": 1}), 1),
        "signature",
    ),
    # Claims count for issuers as they do for a secret.
    "exp past": (lambda w: w.alice(ALICES | {"exp": NOW - 3600}), "expired"),
    "nbf future": (lambda w: w.alice(ALICES | {"nbf": NOW + 3600}), "not_yet_valid"),
    "sub is a number": (lambda w: w.alice(ALICES | {"sub": 1}), "claims"),
}


@pytest.mark.parametrize("name", WITH_ISSUERS)
def test_attack_on_the_issuers_is_refused(world: World, name: str) -> None:
    token, reason = WITH_ISSUERS[name]

    refused = refusal(BY_ISSUER, token(world), world.keys)

    assert refused.reason == reason


def test_unknown_key_says_whose_keys_to_refresh(world: World) -> None:
    assert refusal(BY_ISSUER, world.alice(kid="new"), world.keys).issuer == ALICE


@pytest.mark.parametrize("key_of", [ALICE, BOB])
@pytest.mark.parametrize("kid_of", [ALICE, BOB])
@pytest.mark.parametrize("iss", [ALICE, BOB])
def test_issuer_key_and_kid_must_belong_together(
    world: World, iss: str, kid_of: str, key_of: str
) -> None:
    key = {ALICE: world.rsa, BOB: world.bobs}[key_of]
    kid = {ALICE: "rsa", BOB: "bobs"}[kid_of]
    token = forge({"alg": "RS256", "kid": kid}, of(iss), by(key, "RS256"))

    if iss == kid_of == key_of:
        assert BY_ISSUER.verify(token, world.keys, now=NOW).issuer == iss
    else:
        reason = "unknown_key" if kid_of != iss else "signature"
        assert refusal(BY_ISSUER, token, world.keys).reason == reason


def test_same_kid_at_two_issuers_names_each_ones_own_key(world: World) -> None:
    keys = {
        ALICE: parse_jwks(jwks(jwk(world.public, kid="1"))),
        BOB: parse_jwks(jwks(jwk(world.bobs.public_key(), kid="1"))),
    }
    token = forge({"alg": "RS256", "kid": "1"}, of(BOB), by(world.bobs, "RS256"))

    assert BY_ISSUER.verify(token, keys, now=NOW).issuer == BOB
    assert refusal(BY_ISSUER, world.alice(of(BOB), kid="1"), keys).reason == "signature"


@pytest.mark.parametrize("keys", [{}, {ALICE: ()}, {BOB: None}])
def test_no_keys_yet_is_not_the_clients_fault(world: World, keys: dict[str, Any]) -> None:
    loaded = {issuer: world.keys[issuer] if got is None else got for issuer, got in keys.items()}

    refused = refusal(BY_ISSUER, world.alice(), loaded)

    assert (refused.reason, refused.error.status) == ("keys_unavailable", 503)


@pytest.mark.parametrize("kid", ["rsa", "ec", "ed"])
def test_each_type_of_key_checks_its_own_algorithm(world: World, kid: str) -> None:
    keys: dict[str, tuple[Any, str]] = {
        "rsa": (world.rsa, "RS256"),
        "ec": (world.ec, "ES256"),
        "ed": (world.ed, "EdDSA"),
    }
    key, algorithm = keys[kid]
    named = forge({"alg": algorithm, "kid": kid}, ALICES, by(key, algorithm))
    # One key of this type only: there is nothing to mistake it for.
    nameless = forge({"alg": algorithm}, ALICES, by(key, algorithm))

    expected = Principal("canary-subject", NOW + 600 + LEEWAY, None, ALICE)
    assert BY_ISSUER.verify(named, world.keys, now=NOW) == expected
    assert BY_ISSUER.verify(nameless, world.keys, now=NOW) == expected


@pytest.mark.parametrize("told", [{}, {"alg": "EdDSA"}, {"alg": "Ed25519"}])
@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519"])
def test_ed25519_has_two_names(world: World, told: dict[str, str], alg: str) -> None:
    # RFC 9864 section 2.2; EdDSA is the name of RFC 8037.
    keys = {ALICE: parse_jwks(jwks(jwk(world.ed.public_key(), kid="ed", **told)))}
    token = forge({"alg": alg, "kid": "ed"}, ALICES, by(world.ed, "EdDSA"))

    assert BY_ISSUER.verify(token, keys, now=NOW).issuer == ALICE
    forged = forge({"alg": alg, "kid": "ed"}, ALICES, by(Ed25519PrivateKey.generate(), "EdDSA"))
    assert refusal(BY_ISSUER, forged, keys).reason == "signature"


@pytest.mark.parametrize("alg", ["Ed448", "ed25519", "ES256"])
def test_an_ed25519_key_checks_nothing_else(world: World, alg: str) -> None:
    with pytest.raises(BadKeys):
        parse_jwks(jwks(jwk(world.ed.public_key(), kid="ed", alg=alg)))
    keys = {ALICE: parse_jwks(jwks(jwk(world.ed.public_key(), kid="ed")))}
    token = forge({"alg": alg, "kid": "ed"}, ALICES, by(world.ed, "EdDSA"))
    assert refusal(BY_ISSUER, token, keys).reason == "algorithm"


def test_of_keys_with_one_kid_each_is_tried(world: World) -> None:
    several = [jwk(key.public_key(), kid="1") for key in (world.bobs, world.mallorys, world.rsa)]
    keys = {ALICE: parse_jwks(jwks(*several))}

    assert BY_ISSUER.verify(world.alice(kid="1"), keys, now=NOW).issuer == ALICE
    stranger = forge({"alg": "RS256", "kid": "1"}, ALICES, by(generate_rsa(65537, 2048), "RS256"))
    assert refusal(BY_ISSUER, stranger, keys).reason == "signature"


def test_a_forged_token_costs_a_bounded_number_of_signatures(
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


DOUBTFUL = ["unknown_key", "signature", "algorithm"]


@pytest.mark.parametrize("name", WITH_ISSUERS)
def test_what_other_keys_might_check_is_in_doubt(world: World, name: str) -> None:
    token, reason = WITH_ISSUERS[name]
    refused = refusal(BY_ISSUER, token(world), world.keys)

    if refused.doubt is None:
        assert refused.issuer is None
        assert reason not in ("unknown_key", "signature")
    else:
        assert refused.issuer in (ALICE, BOB)
        assert reason in DOUBTFUL
        refused.unsettled = True
        assert refused.error is KEYS_UNAVAILABLE


def test_algorithms_that_are_never_taken_are_refused_at_once(world: World) -> None:
    for alg in ("none", "HS256", "RS512", "PS256"):
        token = forge({"alg": alg, "kid": "rsa"}, ALICES, nobody)
        assert refusal(BY_ISSUER, token, world.keys).doubt is None


def test_token_without_kid_needs_the_only_key_of_its_type(world: World) -> None:
    two = jwks(jwk(world.public, kid="1"), jwk(world.bobs.public_key(), kid="2"))
    without_kid = world.alice(kid=...)

    assert refusal(BY_ISSUER, without_kid, {ALICE: parse_jwks(two)}).reason == "unknown_key"
    one = jwks(jwk(world.ec.public_key(), kid="1"))
    assert refusal(BY_ISSUER, without_kid, {ALICE: parse_jwks(one)}).reason == "unknown_key"


def test_two_keys_may_share_a_kid_when_their_types_differ(world: World) -> None:
    keys = {
        ALICE: parse_jwks(jwks(jwk(world.ec.public_key(), kid="1"), jwk(world.public, kid="1")))
    }

    assert BY_ISSUER.verify(world.alice(kid="1"), keys, now=NOW).issuer == ALICE


def test_no_header_makes_it_open_anything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = [make(world) for make, _ in WITH_ISSUERS.values()]

    def opened(*args: object, **kwargs: object) -> NoReturn:
        pytest.fail("it opened something")

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
    "aud, and nobody asks": (signed(aud="somebody else"), NOW + 600 + LEEWAY),
    "iss, and nobody asks": (signed(iss=["x"]), NOW + 600 + LEEWAY),
    "jti of another type": (signed(jti=5), NOW + 600 + LEEWAY),
    "kid is a path": (headed(kid="/dev/null"), NOW + 600 + LEEWAY),
    "typ": (headed(typ="at+jwt"), NOW + 600 + LEEWAY),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_good_token_is_accepted_until_it_expires(name: str) -> None:
    token, expires_at = ACCEPTED[name]

    principal = BY_SECRET.verify(token, {}, now=NOW)

    assert principal == Principal("canary-subject", expires_at, None, None)


def test_token_of_the_greatest_length_is_accepted() -> None:
    # Base64 turns three bytes into four: the pad is sized by what is still missing.
    pad = (MAX_TOKEN_BYTES - len(signed(pad=""))) * 3 // 4
    token = signed(pad="a" * pad)

    assert MAX_TOKEN_BYTES - 4 < len(token) <= MAX_TOKEN_BYTES
    assert BY_SECRET.verify(token, {}, now=NOW).subject == "canary-subject"


@pytest.mark.parametrize("aud", [AUDIENCE, [AUDIENCE], ["other", AUDIENCE]])
def test_token_for_this_audience_is_accepted(aud: object) -> None:
    assert FOR_AUDIENCE.verify(signed(aud=aud), {}, now=NOW).subject == "canary-subject"


@pytest.mark.parametrize(
    "aud",
    [..., None, "", "energy", "energywss", "Energyws", [], ["other"], [[AUDIENCE]], {AUDIENCE: 1}],
)
def test_token_for_another_audience_is_refused(aud: object) -> None:
    assert refusal(FOR_AUDIENCE, signed(aud=aud), {}).reason == "audience"


@pytest.mark.parametrize(
    ("streams", "energy", "water"),
    [(..., True, True), ([], False, False), (["energy"], True, False), (["Energy"], False, False)],
)
def test_streams_claim_restricts_what_may_be_read(
    streams: object, energy: bool, water: bool
) -> None:
    principal = BY_SECRET.verify(signed(streams=streams), {}, now=NOW)

    assert (principal.may_read("energy"), principal.may_read("water")) == (energy, water)


ANY, NONE, ENERGY = None, frozenset[str](), frozenset({"energy"})


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
        # The claim that lists streams counts alone.
        ({"streams": ["energy"]}, ENERGY),
        ({"streams": ["energy"], "scope": "read:water"}, ENERGY),
        ({"streams": [], "scope": "read:water"}, NONE),
    ],
)
def test_scopes_name_the_streams_that_may_be_read(
    claims: dict[str, Any], allowed: frozenset[str] | None
) -> None:
    assert BY_SCOPE.verify(signed(**claims), {}, now=NOW).streams == allowed


@pytest.mark.parametrize("prefix", ["", "energyws/read."])
def test_any_prefix_may_mark_the_scopes(prefix: str) -> None:
    verifier = Verifier(replace(AUTH, scope_prefix=prefix))

    assert verifier.verify(signed(scope=f"{prefix}energy"), {}, now=NOW).may_read("energy")
    assert not verifier.verify(signed(scope="x"), {}, now=NOW).may_read("energy")


@pytest.mark.parametrize(
    ("claims", "allowed"),
    [
        ({"https://energy.example/streams": ["energy"]}, ENERGY),
        ({"https://energy.example/streams": []}, NONE),
        ({}, ANY),
        # Of no meaning under another name.
        ({"streams": ["energy"]}, ANY),
        ({"streams": "energy", "scope": 5}, ANY),
    ],
)
def test_the_claim_that_lists_streams_may_have_another_name(
    claims: dict[str, Any], allowed: frozenset[str] | None
) -> None:
    verifier = Verifier(replace(AUTH, streams_claim="https://energy.example/streams"))

    assert verifier.verify(signed(**claims), {}, now=NOW).streams == allowed


PREVIOUS = "canary-that-was-the-secret-until-yesterday"


def test_two_secrets_are_good_while_they_overlap() -> None:
    both = Verifier(replace(AUTH, jwt_secret_previous=PREVIOUS))
    old = forge({"alg": "HS256"}, CLAIMS, hs(PREVIOUS))

    assert both.verify(good(), {}, now=NOW) == both.verify(old, {}, now=NOW)
    assert refusal(both, forge({"alg": "HS256"}, CLAIMS, hs("another")), {}).reason == "signature"
    assert refusal(both, forge({"alg": "HS256"}, {"sub": 1}, hs(PREVIOUS)), {}).claim == "sub"
    # Once it is taken out of the configuration.
    for none in (None, ""):
        after = Verifier(replace(AUTH, jwt_secret_previous=none))
        assert refusal(after, old, {}).reason == "signature"


def test_the_previous_secret_counts_no_more_than_the_other_beside_issuers(world: World) -> None:
    verifier = Verifier(replace(AUTH, issuers=ISSUERS, jwt_secret_previous=PREVIOUS))
    old = forge({"alg": "HS256"}, ALICES, hs(PREVIOUS))

    assert refusal(verifier, old, world.keys).reason == "algorithm"


def test_a_previous_secret_that_cannot_be_used_is_named(world: World) -> None:
    with pytest.raises(BootError, match=r"auth\.jwt_secret_previous cannot be used"):
        Verifier(replace(AUTH, jwt_secret_previous=encoded(world, Encoding.PEM).decode()))


# The secret of the seed's README is among them.
@pytest.mark.parametrize("secret", ["test-secret", "x", "schlüssel", '{"a": 1}', "a" * 1000])
def test_minted_token_is_accepted_without_a_warning(secret: str) -> None:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        token = mint(secret, "me", 60, NOW + 0.5, ["energy"])
        principal = Verifier(replace(AUTH, jwt_secret=secret)).verify(token, {}, now=NOW)

    assert principal == Principal("me", NOW + 60 + LEEWAY, frozenset({"energy"}), None)
    assert warned == []


def test_minted_token_is_readable_by_others() -> None:
    claims = jwt.decode(mint(SECRET, "me", 60, NOW), SECRET, ["HS256"], {"verify_exp": False})

    assert claims == {"sub": "me", "iat": NOW, "exp": NOW + 60}


def test_secret_that_is_public_is_no_secret(world: World) -> None:
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


def test_no_way_to_check_a_token_is_refused_at_once() -> None:
    with pytest.raises(BootError):
        Verifier(Auth())


def test_nothing_shows_key_material(world: World) -> None:
    shown = repr(world.keys) + repr(BY_SECRET) + repr(vars(BY_SECRET))

    assert SECRET not in shown
    assert "canary" not in shown
    assert jwk(world.public)["n"] not in shown


any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)
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
def test_any_text_is_refused_and_nothing_else(world: World, text: str) -> None:
    for verifier in (BY_SECRET, BY_ISSUER):
        with pytest.raises(TokenRefused):
            verifier.verify(text, world.keys, now=NOW)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=60).map(b64), min_size=3, max_size=3).map(".".join))
def test_any_three_parts_are_refused_and_nothing_else(world: World, token: str) -> None:
    for verifier in (BY_SECRET, BY_ISSUER):
        with pytest.raises(TokenRefused):
            verifier.verify(token, world.keys, now=NOW)


@settings(deadline=None)
@given(headers, claims_sets)
def test_whatever_is_signed_is_a_sound_principal_or_refused(
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
    for verifier, sound, sign in cases:
        try:
            principal = verifier.verify(
                forge(header | sound, {"sub": "me", "exp": NOW + 1} | claims, sign),
                world.keys,
                now=NOW,
            )
        except TokenRefused:
            continue
        assert principal.subject
        assert NOW < principal.expires_at <= NOW + MAX_SECONDS
        assert (principal.issuer is None) is (verifier is not BY_ISSUER)


def small_rsa() -> Any:
    return generate_rsa(65537, 1024).public_key()  # noqa: S505


UNUSABLE: dict[str, Callable[[World], object]] = {
    "symmetric": lambda w: OCT,
    "private": lambda w: jwk(w.rsa),
    "private, EC": lambda w: jwk(w.ec),
    "for encryption": lambda w: jwk(w.public, use="enc"),
    "use null": lambda w: jwk(w.public, use=None),
    "for signing only": lambda w: jwk(w.public) | {"key_ops": ["sign"]},
    "key_ops is a text": lambda w: jwk(w.public) | {"key_ops": "verify"},
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
    "a text": lambda w: "key",
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
    ("data", "said"),
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
def test_bad_jwks_says_what_is_wrong(data: bytes, said: str) -> None:
    with pytest.raises(BadKeys, match=said):
        parse_jwks(data)


@settings(deadline=None)
@given(st.binary() | any_json.map(json.dumps).map(str.encode))
def test_any_document_is_refused_and_nothing_else(data: bytes) -> None:
    with pytest.raises(BadKeys):
        parse_jwks(data)


@settings(deadline=None)
@given(st.data())
def test_any_change_to_a_key_leaves_a_key_or_none(world: World, data: st.DataObject) -> None:
    entry = jwk(data.draw(st.sampled_from([world.public, world.ec.public_key()])))
    members = st.sampled_from([*entry, "use", "alg", "kid", "key_ops", "crv", "x", "y"])
    entry |= data.draw(st.dictionaries(members, any_json, min_size=1))

    try:
        (key,) = parse_jwks(jwks(entry))
    except BadKeys:
        return
    assert key.algorithm in ("RS256", "ES256")
