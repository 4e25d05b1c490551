"""The queue in which subjects take turns: order, fairness and its bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.stream.fair_queue import FairQueue, QueueFull


def taken(turns: FairQueue[str]) -> list[str]:
    """Everything that waits, in the order of its turns."""
    found = []
    while (next_one := turns.take()) is not None:
        found.append(next_one[1])
    return found


def queue(*entries: str, capacity: int = 1000) -> FairQueue[str]:
    """Entries such as `a1`: the first of subject `a`."""
    turns: FairQueue[str] = FairQueue(capacity)
    for entry in entries:
        turns.join(entry[0], entry, 10)
    return turns


def test_one_subjects_many_entries_never_delay_anothers_first() -> None:
    assert taken(queue("a1", "a2", "a3", "a4", "b1", "b2", "c1")) == [
        "a1",
        "b1",
        "c1",
        "a2",
        "b2",
        "a3",
        "a4",
    ]


def test_subject_that_may_not_is_passed_over() -> None:
    turns = queue("a1", "a2", "b1")
    assert turns.take(lambda subject: subject != "a") == ("b", "b1")
    assert turns.take(lambda subject: subject != "a") is None
    assert taken(turns) == ["a1", "a2"]


def test_entry_that_leaves_has_no_turn() -> None:
    turns = queue("a1", "a2", "b1")
    for entry in ("a1", "b1"):
        turns.leave(entry)
    assert taken(turns) == ["a2"]
    assert (len(turns), turns.weight) == (1, 10)


def test_entry_that_waits_again_does_so_behind_its_subjects_others() -> None:
    turns = queue("a1", "a2")
    assert turns.take() == ("a", "a1")
    turns.requeue("a1")
    assert taken(turns) == ["a2", "a1"]


def test_one_subject_alone_gets_half_and_there_is_room_for_another() -> None:
    turns = queue(*(f"a{n}" for n in range(5)), capacity=100)
    with pytest.raises(QueueFull):
        turns.join("a", "a5", 10)
    # What was taken still weighs.
    assert taken(turns) == [f"a{n}" for n in range(5)]
    with pytest.raises(QueueFull):
        turns.join("a", "a5", 10)
    turns.join("b", "b0", 10)
    turns.leave("a0")
    turns.join("a", "a6", 10)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["join", "take", "leave"])), max_size=200
    )
)
def test_it_holds_what_joined_and_did_not_leave(script: list[tuple[str, str]]) -> None:
    turns: FairQueue[int] = FairQueue(400)
    here: dict[int, str] = {}
    for number, (subject, action) in enumerate(script):
        mine = [entry for entry, whose in here.items() if whose == subject]
        if action == "join":
            room = 10 * len(mine) + 10 <= 400 - 10 * len(here)
            if room:
                turns.join(subject, number, 10)
                here[number] = subject
            else:
                with pytest.raises(QueueFull):
                    turns.join(subject, number, 10)
        elif action == "take":
            next_one = turns.take()
            assert next_one is None or here[next_one[1]] == next_one[0]
        elif mine:
            turns.leave(mine[0])
            del here[mine[0]]
    assert (len(turns), turns.weight) == (len(here), 10 * len(here))
    for entry in here:
        turns.leave(entry)
    assert (len(turns), turns.weight, turns.take()) == (0, 0, None)
