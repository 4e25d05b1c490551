"""What a claim about keys allows, beside a naive reading of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.auth.claims import TokenRefused
from energyws.auth.key_rights import AllowedKeys, BadKey, ForbiddenKey, key_filter, key_rights
from energyws.protocol.keys import MAX_KEY_BYTES, escaped
from energyws.settings import Auth, Stream

KEYED = Stream(topic="t", key="record", access="keyed")
OPEN = Stream(topic="t", key="record")
NAMESPACED = "https://energy.example/keys"
NAMES = st.text("ab", min_size=1, max_size=3)
CLAIMS = st.lists(st.one_of(NAMES, st.text("ab", max_size=2).map(lambda text: text + "*")))


def allowed(claim: object, stream: str = "energy") -> AllowedKeys | None:
    rights = key_rights({"keys": claim}, Auth())
    assert rights is not None
    return rights.of(stream)


def matches(pattern: str, key: str) -> bool:
    return key.startswith(pattern[:-1]) if pattern.endswith("*") else key == pattern


def covers(pattern: str, want: str) -> bool:
    """Whether all that a client asks for with this is allowed by that."""
    if want.endswith("*"):
        return pattern.endswith("*") and want[:-1].startswith(pattern[:-1])
    return matches(pattern, want)


@given(CLAIMS, NAMES)
def test_filter_of_a_token_admits_what_its_claim_names(claim: list[str], key: str) -> None:
    admitted = any(matches(pattern, key) for pattern in claim)
    if not claim:
        with pytest.raises(ForbiddenKey):
            key_filter(KEYED, allowed(claim), None)
        return
    only = key_filter(KEYED, allowed(claim), None)
    assert (only is None) is ("*" in claim)
    assert (only is None or only.admits(escaped(key))) is admitted


@given(CLAIMS, st.lists(st.one_of(NAMES, NAMES.map(lambda text: text + "*")), min_size=1), NAMES)
def test_no_request_gets_more_than_the_claim_names(
    claim: list[str], wanted: list[str], key: str
) -> None:
    try:
        only = key_filter(KEYED, allowed(claim), wanted)
    except ForbiddenKey:
        assert not all(any(covers(pattern, want) for pattern in claim) for want in wanted)
        return
    assert only is not None
    if only.admits(escaped(key)):
        assert any(matches(want, key) for want in wanted)
        assert any(matches(pattern, key) for pattern in claim)


def test_token_without_the_claim_has_no_keys_of_a_keyed_stream() -> None:
    assert key_rights({}, Auth()) is None
    for wanted in (None, ["a"], ["*"]):
        with pytest.raises(ForbiddenKey):
            key_filter(KEYED, None, wanted)


def test_everybody_may_have_everything_of_an_open_stream() -> None:
    assert key_filter(OPEN, None, None) is None
    assert key_filter(OPEN, allowed(["a"]), ["*"]) is None
    only = key_filter(OPEN, None, ["a", "b"])
    assert only is not None
    assert only.exact == {b"a", b"b"}
    with pytest.raises(ForbiddenKey):
        key_filter(OPEN, None, ["a*"])
    assert key_filter(OPEN, allowed("*"), ["a*"]) is not None


def test_star_means_what_the_token_allows() -> None:
    only = key_filter(KEYED, allowed(["a", "b*"]), ["*"])
    assert only is not None
    assert only.exact == {b"a"}
    assert only.prefixes == (b"b",)
    assert key_filter(KEYED, allowed("*"), ["*"]) is None


def test_claim_may_be_per_stream() -> None:
    claim = {"energy": ["a"], "water": "b"}
    for stream, key in (("energy", b"a"), ("water", b"b")):
        mine = allowed(claim, stream)
        assert mine is not None
        assert mine.named.exact == {key}
    assert allowed(claim, "gas") is None


@pytest.mark.parametrize(
    "claim",
    [
        None,
        4711,
        True,
        [1],
        ["a", None],
        [["a"]],
        {"energy": None},
        {"energy": {"a": "b"}},
        "",
        [""],
        ["\ud800"],
        ["x" * (MAX_KEY_BYTES + 1)],
    ],
)
def test_claim_of_another_shape_refuses_the_token(claim: Any) -> None:
    with pytest.raises(TokenRefused) as refused:
        key_rights({NAMESPACED: claim}, Auth(keys_claim=NAMESPACED))
    assert (refused.value.reason, refused.value.claim) == ("claims", "keys")
    assert refused.value.claim_name == NAMESPACED


@pytest.mark.parametrize("wanted", ["", "x" * (MAX_KEY_BYTES + 1), "\ud800"])
def test_what_cannot_be_a_key_is_said_without_repeating_it(wanted: str) -> None:
    with pytest.raises(BadKey, match="a key"):
        key_filter(OPEN, None, [wanted])
