"""The cache changes only the cost of a verification, never its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from unittest.mock import patch

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from energyws.auth import verifier as module
from energyws.auth.claims import TokenRefused
from energyws.auth.jwks import Key
from energyws.auth.token_cache import TokenCache, digest
from energyws.auth.verifier import Principal, Verifier
from energyws.settings import Auth, Issuer
from tests.principals import principal

NOW = 1_790_000_000.0
LEEWAY = 30.0
SECRET = "a secret of more than thirty-two bytes"
ALICE, BOB = "https://alice.example", "https://bob.example"
OLD, NEW, BOBS = (Ed25519PrivateKey.generate() for _ in range(3))

Keys = Mapping[str, Sequence[Key]]


def key(private: Ed25519PrivateKey) -> tuple[Key, ...]:
    return (Key("kid", "EdDSA", private.public_key()),)


KEYS: dict[str, Keys] = {
    "both": {ALICE: key(OLD), BOB: key(BOBS)},
    "rotated": {ALICE: key(NEW), BOB: key(BOBS)},
    "swapped": {ALICE: key(BOBS), BOB: key(OLD)},
    "gone": {BOB: key(BOBS)},
    "none": {},
}


def by_issuer() -> Verifier:
    issuers = tuple(Issuer(name=iss, issuer=iss, jwks_url=f"{iss}/jwks") for iss in (ALICE, BOB))
    return Verifier(Auth(issuers=issuers, leeway_seconds=LEEWAY, max_token_seconds=3600))


def by_secret() -> Verifier:
    return Verifier(Auth(jwt_secret=SECRET, leeway_seconds=LEEWAY))


def token(private: Ed25519PrivateKey, issuer: str, **claims: Any) -> str:
    claims = {"sub": "me", "exp": NOW + 600, "iss": issuer} | claims
    return jwt.encode(claims, private, "EdDSA", {"kid": "kid"})


def shared(**claims: Any) -> str:
    return jwt.encode({"sub": "me", "exp": NOW + 600} | claims, SECRET, "HS256")


def outcome(verifier: Verifier, text: str, keys: Keys, now: float) -> Principal | tuple[Any, ...]:
    try:
        return verifier.verify(text, keys, now=now)
    except TokenRefused as refused:
        return refused.reason, refused.issuer


def reason(verifier: Verifier, text: str, now: float, keys: Keys = KEYS["none"]) -> str | None:
    """The reason for refusing the token; None if it is accepted."""
    result = outcome(verifier, text, keys, now)
    return None if isinstance(result, Principal) else result[0]


TOKENS = [
    token(OLD, ALICE),
    token(OLD, ALICE, nbf=NOW + 300, streams=["energy"]),
    token(OLD, BOB),
    token(NEW, ALICE),
    token(BOBS, BOB, exp=NOW + 100),
    token(OLD, ALICE)[:-4] + "AAAA",
]
STEPS = st.tuples(st.sampled_from(TOKENS), st.sampled_from(sorted(KEYS)), st.integers(0, 700))


@given(st.lists(STEPS, max_size=12))
def test_outcome_does_not_depend_on_the_cache(
    steps: list[tuple[str, str, int]],
) -> None:
    verifier = by_issuer()
    for text, keys, later in steps:
        result = outcome(verifier, text, KEYS[keys], NOW + later)
        assert result == outcome(by_issuer(), text, KEYS[keys], NOW + later)


def test_signature_is_checked_once() -> None:
    verifier = by_secret()
    with patch.object(module, "verified", wraps=module.verified) as checked:
        first = verifier.verify(shared(), {}, now=NOW)
        assert verifier.verify(shared(), {}, now=NOW) == first

    assert checked.call_count == 1


def test_cached_token_expires_on_time() -> None:
    verifier, text = by_secret(), shared()
    assert reason(verifier, text, NOW) is None

    assert reason(verifier, text, NOW + 600 + LEEWAY - 1) is None
    assert reason(verifier, text, NOW + 600 + LEEWAY) == "expired"


def test_max_token_seconds_start_with_each_connection() -> None:
    verifier, text = by_secret(), shared(exp=NOW + 10**9)
    most = Auth(jwt_secret=SECRET).max_token_seconds

    assert verifier.verify(text, {}, now=NOW).expires_at == NOW + most
    assert verifier.verify(text, {}, now=NOW + 7).expires_at == NOW + 7 + most


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_token_refused_as_too_early_is_accepted_later(claim: str) -> None:
    verifier, text = by_secret(), shared(**{claim: NOW + 300})

    assert reason(verifier, text, NOW) == "not_yet_valid"
    assert reason(verifier, text, NOW + 300) is None
    # The clock was set back.
    assert reason(verifier, text, NOW) == "not_yet_valid"


def test_cached_token_is_refused_once_its_key_is_gone() -> None:
    verifier, text = by_issuer(), token(OLD, ALICE)
    assert reason(verifier, text, NOW, KEYS["both"]) is None

    assert reason(verifier, text, NOW, KEYS["rotated"]) == "signature"
    assert reason(verifier, text, NOW, KEYS["gone"]) == "keys_unavailable"
    assert reason(verifier, text, NOW, KEYS["both"]) is None


def test_forged_signature_is_refused_after_a_good_one() -> None:
    verifier, text = by_secret(), shared()
    assert reason(verifier, text, NOW) is None
    signed, _, signature = text.rpartition(".")
    forged = f"{signed}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}"

    assert reason(verifier, forged, NOW) == "signature"
    assert reason(verifier, shared(sub="root").rpartition(".")[0] + "." + signature, NOW) == (
        "signature"
    )


def test_issuers_share_no_keys() -> None:
    verifier, text = by_issuer(), token(OLD, ALICE)
    principal = verifier.verify(text, KEYS["both"], now=NOW)

    assert principal.token.issuer == ALICE
    # Signed with Alice's key, in Bob's name.
    assert reason(verifier, token(OLD, BOB), NOW, KEYS["both"]) == "signature"
    assert reason(verifier, text, NOW, {BOB: KEYS["both"][ALICE]}) == "keys_unavailable"


def test_refused_tokens_are_not_cached() -> None:
    verifier = by_secret()
    for text in (shared(exp=0), shared(nbf=NOW + 300), shared(sub=""), "a.b.c"):
        assert reason(verifier, text, NOW) is not None

    assert len(verifier._cache) == 0


def test_expired_token_is_dropped() -> None:
    verifier = by_secret()
    assert reason(verifier, shared(), NOW) is None
    assert reason(verifier, shared(), NOW + 3600) == "expired"

    assert len(verifier._cache) == 0


CLAIMS = principal("me", NOW).token


def test_least_recently_used_token_is_dropped() -> None:
    cache = TokenCache(2)
    cache.keep(b"a", CLAIMS)
    cache.keep(b"b", CLAIMS)
    assert cache.find(b"a") is CLAIMS

    cache.keep(b"c", CLAIMS)

    assert [cache.find(each) for each in (b"a", b"b", b"c")] == [CLAIMS, None, CLAIMS]


@given(st.lists(st.binary(max_size=1)))
def test_size_is_bounded(digests: list[bytes]) -> None:
    cache = TokenCache(5)
    for each in digests:
        cache.keep(each, CLAIMS)

        assert len(cache) <= 5
        assert cache.find(each) is CLAIMS


@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_digests_of_different_tokens_differ(one: str, other: str) -> None:
    assert (digest(one) == digest(other)) == (one == other)
