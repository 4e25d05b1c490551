"""When a token that no key checks may be refused for good: after its keys were looked up for it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from energyws.auth.unknown_keys import SETTLED_SECONDS, UnknownKeys, unknown_key

ONE, OTHER = unknown_key("iss", "kid", "me"), unknown_key("iss", "other", "me")
NOW = 1000.0


def test_nothing_is_settled_before_a_fetch_that_began_afterwards() -> None:
    doubts = UnknownKeys()

    assert not doubts.settled(ONE, None, NOW)
    # Begun before, however often it is asked about.
    assert not doubts.settled(ONE, NOW - 1, NOW + 1)
    assert not doubts.settled(ONE, NOW, NOW + 2)
    assert doubts.settled(ONE, NOW + 2, NOW + 3)


def test_an_answer_for_one_settles_no_other() -> None:
    doubts = UnknownKeys()
    doubts.settled(ONE, None, NOW)

    assert not doubts.settled(OTHER, NOW + 1, NOW + 2)
    assert doubts.settled(ONE, NOW + 1, NOW + 2)


def test_an_answer_does_not_hold_for_ever() -> None:
    doubts = UnknownKeys()
    doubts.settled(ONE, None, NOW)
    fetched = NOW + 1
    assert doubts.settled(ONE, fetched, fetched + SETTLED_SECONDS)

    later = fetched + SETTLED_SECONDS + 1
    # The issuer may have published it since.
    assert not doubts.settled(ONE, fetched, later)
    assert not doubts.settled(ONE, fetched, later + 1)
    assert doubts.settled(ONE, later + 2, later + 3)


def test_a_doubt_that_was_pushed_out_is_a_new_one() -> None:
    doubts = UnknownKeys(most=1)
    doubts.settled(ONE, None, NOW)
    doubts.settled(OTHER, None, NOW + 1)

    assert not doubts.settled(ONE, NOW + 2, NOW + 3)


@given(st.lists(st.binary(max_size=2), max_size=40))
def test_never_more_than_so_many_are_kept(seen: list[bytes]) -> None:
    doubts = UnknownKeys(most=5)
    for at, each in enumerate(seen):
        doubts.settled(each, None, float(at))
        assert len(doubts) <= 5


named = st.none() | st.text(st.characters(exclude_categories=()), max_size=3)


@given(st.tuples(st.text(max_size=3), named, named), st.tuples(st.text(max_size=3), named, named))
def test_issuer_key_and_subject_tell_doubts_apart(
    one: tuple[str, str | None, str | None], other: tuple[str, str | None, str | None]
) -> None:
    assert (unknown_key(*one) == unknown_key(*other)) == (one == other)


@given(st.integers() | st.lists(st.text()))
def test_a_subject_that_is_no_text_is_none(subject: object) -> None:
    assert unknown_key("iss", "kid", subject) == unknown_key("iss", "kid", None)


moments = st.lists(
    st.tuples(st.sampled_from(["see", "fetch"]), st.floats(0.1, 100)), min_size=1, max_size=30
)


@given(moments)
def test_what_is_settled_had_a_fetch_after_it_was_seen(moments: list[tuple[str, float]]) -> None:
    doubts, now, fetched = UnknownKeys(), NOW, None
    seen: list[float] = []
    for what, later in moments:
        now += later
        if what == "fetch":
            fetched = now
            continue
        if doubts.settled(ONE, fetched, now):
            assert fetched is not None
            assert seen
            assert seen[0] < fetched
            assert now - fetched <= SETTLED_SECONDS
        seen.append(now)
