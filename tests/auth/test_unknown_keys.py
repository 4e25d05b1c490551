"""A token that no key verifies is refused for good once keys have been fetched again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from energyws.auth.unknown_keys import CONFIRMED_SECONDS, UnknownKeys, unknown_key

ONE, OTHER = unknown_key("iss", "kid", "me"), unknown_key("iss", "other", "me")
NOW = 1000.0


def test_only_a_fetch_that_began_later_confirms_a_key() -> None:
    unknown = UnknownKeys()

    assert not unknown.is_confirmed(ONE, None, NOW)
    # These fetches began before it, or at the same moment.
    assert not unknown.is_confirmed(ONE, NOW - 1, NOW + 1)
    assert not unknown.is_confirmed(ONE, NOW, NOW + 2)
    assert unknown.is_confirmed(ONE, NOW + 2, NOW + 3)


def test_keys_are_confirmed_separately() -> None:
    unknown = UnknownKeys()
    unknown.is_confirmed(ONE, None, NOW)

    assert not unknown.is_confirmed(OTHER, NOW + 1, NOW + 2)
    assert unknown.is_confirmed(ONE, NOW + 1, NOW + 2)


def test_old_fetch_confirms_nothing() -> None:
    unknown = UnknownKeys()
    unknown.is_confirmed(ONE, None, NOW)
    fetched = NOW + 1
    assert unknown.is_confirmed(ONE, fetched, fetched + CONFIRMED_SECONDS)

    later = fetched + CONFIRMED_SECONDS + 1
    # The issuer may have published the key in the meantime.
    assert not unknown.is_confirmed(ONE, fetched, later)
    assert not unknown.is_confirmed(ONE, fetched, later + 1)
    assert unknown.is_confirmed(ONE, later + 2, later + 3)


def test_evicted_key_counts_as_new() -> None:
    unknown = UnknownKeys(capacity=1)
    unknown.is_confirmed(ONE, None, NOW)
    unknown.is_confirmed(OTHER, None, NOW + 1)

    assert not unknown.is_confirmed(ONE, NOW + 2, NOW + 3)


@given(st.lists(st.binary(max_size=2), max_size=40))
def test_size_is_bounded(seen: list[bytes]) -> None:
    unknown = UnknownKeys(capacity=5)
    for at, each in enumerate(seen):
        unknown.is_confirmed(each, None, float(at))
        assert len(unknown) <= 5


named = st.none() | st.text(st.characters(exclude_categories=()), max_size=3)


@given(st.tuples(st.text(max_size=3), named, named), st.tuples(st.text(max_size=3), named, named))
def test_issuer_key_and_subject_are_distinguished(
    one: tuple[str, str | None, str | None], other: tuple[str, str | None, str | None]
) -> None:
    assert (unknown_key(*one) == unknown_key(*other)) == (one == other)


@given(st.integers() | st.lists(st.text()))
def test_subject_that_is_not_a_string_counts_as_missing(subject: object) -> None:
    assert unknown_key("iss", "kid", subject) == unknown_key("iss", "kid", None)


moments = st.lists(
    st.tuples(st.sampled_from(["see", "fetch"]), st.floats(0.1, 100)), min_size=1, max_size=30
)


@given(moments)
def test_key_is_confirmed_only_by_a_recent_later_fetch(
    moments: list[tuple[str, float]],
) -> None:
    unknown, now, fetched = UnknownKeys(), NOW, None
    seen: list[float] = []
    for action, later in moments:
        now += later
        if action == "fetch":
            fetched = now
            continue
        if unknown.is_confirmed(ONE, fetched, now):
            assert fetched is not None
            assert seen
            assert seen[0] < fetched
            assert now - fetched <= CONFIRMED_SECONDS
        seen.append(now)
