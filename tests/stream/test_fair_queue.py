"""The queue in which subjects take turns: order, fairness and its bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.stream.fair_queue import FairQueue, QueueFull


def taken(queued: FairQueue[str]) -> list[str]:
    """The waiting entries, in the order in which they are served."""
    found = []
    while (next_one := queued.take()) is not None:
        found.append(next_one[1])
    return found


def queue(*entries: str, capacity: int = 1000) -> FairQueue[str]:
    """Entries such as `a1`: the first of subject `a`."""
    queued: FairQueue[str] = FairQueue(capacity)
    for entry in entries:
        queued.join(entry[0], entry, 10)
    return queued


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


def test_subject_that_may_not_be_served_is_skipped() -> None:
    queued = queue("a1", "a2", "b1")
    assert queued.take(lambda subject: subject != "a") == ("b", "b1")
    assert queued.take(lambda subject: subject != "a") is None
    assert taken(queued) == ["a1", "a2"]


def test_entry_that_has_left_is_not_served() -> None:
    queued = queue("a1", "a2", "b1")
    for entry in ("a1", "b1"):
        queued.leave(entry)
    assert taken(queued) == ["a2"]
    assert (len(queued), queued.weight) == (1, 10)


def test_requeued_entry_is_served_after_its_subjects_others() -> None:
    queued = queue("a1", "a2")
    assert queued.take() == ("a", "a1")
    queued.requeue("a1")
    assert taken(queued) == ["a2", "a1"]


def test_single_subject_fills_half_and_leaves_room_for_another() -> None:
    queued = queue(*(f"a{n}" for n in range(5)), capacity=100)
    with pytest.raises(QueueFull):
        queued.join("a", "a5", 10)
    # Taken entries still count.
    assert taken(queued) == [f"a{n}" for n in range(5)]
    with pytest.raises(QueueFull):
        queued.join("a", "a5", 10)
    queued.join("b", "b0", 10)
    queued.leave("a0")
    queued.join("a", "a6", 10)


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["join", "take", "leave"])), max_size=200
    )
)
def test_queue_holds_entries_that_joined_and_have_not_left(script: list[tuple[str, str]]) -> None:
    queued: FairQueue[int] = FairQueue(400)
    here: dict[int, str] = {}
    for number, (subject, action) in enumerate(script):
        own = [entry for entry, owner in here.items() if owner == subject]
        if action == "join":
            room = 10 * len(own) + 10 <= 400 - 10 * len(here)
            if room:
                queued.join(subject, number, 10)
                here[number] = subject
            else:
                with pytest.raises(QueueFull):
                    queued.join(subject, number, 10)
        elif action == "take":
            next_one = queued.take()
            assert next_one is None or here[next_one[1]] == next_one[0]
        elif own:
            queued.leave(own[0])
            del here[own[0]]
    assert (len(queued), queued.weight) == (len(here), 10 * len(here))
    for entry in here:
        queued.leave(entry)
    assert (len(queued), queued.weight, queued.take()) == (0, 0, None)
