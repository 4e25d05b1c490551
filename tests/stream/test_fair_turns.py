"""The order of turns, by what the ones before have cost."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from energyws.stream import fair_turns as module
from energyws.stream.fair_turns import FairTurns


def serve(turns: FairTurns[str], cost: int = 1) -> str:
    subject, entry = turns.take()
    turns.charge(subject, cost)
    return entry


def test_many_entries_of_one_subject_do_not_delay_that_of_another() -> None:
    turns = FairTurns[str]()
    for number in range(4):
        turns.join(b"many", f"m{number}")
    assert serve(turns) == "m0"
    turns.join(b"one", "o")
    assert [serve(turns) for _ in range(4)] == ["o", "m1", "m2", "m3"]
    assert not turns


def test_who_costs_less_has_more_turns() -> None:
    turns = FairTurns[str]()
    served = []
    costs = {"a": 10, "b": 100}
    for name in costs:
        turns.join(name.encode(), name)
    for _ in range(22):
        subject, entry = turns.take()
        turns.charge(subject, costs[entry])
        turns.join(subject, entry)
        served.append(entry)
    assert Counter(served) == {"a": 20, "b": 2}


def test_subject_that_asked_for_nothing_saves_up_nothing() -> None:
    turns = FairTurns[str]()
    for number in range(9):
        turns.join(b"busy", f"b{number}")
    for _ in range(5):
        serve(turns, 100)
    for number in range(3):
        turns.join(b"late", f"l{number}")
    assert [serve(turns, 100) for _ in range(5)] == ["l0", "b5", "l1", "b6", "l2"]


def test_one_that_asks_again_after_each_answer_comes_after_those_it_has_delayed() -> None:
    turns = FairTurns[str]()
    turns.join(b"big", "big")
    turns.join(b"small", "small")
    assert serve(turns, 1_000) == "big"
    turns.join(b"big", "big")
    turns.join(b"other", "other")
    assert [serve(turns, 10) for _ in range(3)] == ["small", "other", "big"]


def test_entry_that_waits_already_keeps_its_place() -> None:
    turns = FairTurns[str]()
    for entry in ("a", "b", "a", "a"):
        turns.join(b"s", entry)
    assert [serve(turns), serve(turns)] == ["a", "b"]
    assert not turns


def test_accounts_are_bounded() -> None:
    turns = FairTurns[str]()
    for number in range(5 * module.MOST_ACCOUNTS):
        turns.join(b"%d" % number, "x")
        serve(turns)
        assert len(turns._accounts) <= module.MOST_ACCOUNTS


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(1, 50)), max_size=60))
def test_every_entry_has_its_turn_in_the_order_of_its_subject(
    joins: list[tuple[bytes, int]],
) -> None:
    turns = FairTurns[int]()
    for number, (subject, _) in enumerate(joins):
        turns.join(subject, number)
    served: dict[bytes, list[int]] = {}
    while turns:
        subject, entry = turns.take()
        served.setdefault(subject, []).append(entry)
        turns.charge(subject, joins[entry][1])
    for subject in {each for each, _ in joins}:
        assert served[subject] == [n for n, (each, _) in enumerate(joins) if each == subject]
