"""How one client's ledger classifies the numbers it receives."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.faults.ledger import Ledger


def ledger(*taken: tuple[int, int]) -> Ledger:
    made = Ledger([0, 0])
    for partition, number in taken:
        made.take(partition, number)
    return made


def holes(made: Ledger) -> list[tuple[int, int, int]]:
    return sorted((hole.partition, hole.first, hole.past) for hole in made.holes)


def test_dense_numbers_of_several_partitions_give_no_report() -> None:
    made = ledger((0, 0), (1, 0), (1, 1), (0, 1))
    assert made.report() is None
    assert (made.frames, made.next) == (4, [2, 2])


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([(0, 1)], [(0, 0, 1)]),
        ([(0, 0), (0, 3)], [(0, 1, 3)]),
        ([(0, 0), (0, 2), (0, 5), (1, 1)], [(0, 1, 2), (0, 3, 5), (1, 0, 1)]),
    ],
)
def test_skipped_numbers_are_holes(
    taken: list[tuple[int, int]], expected: list[tuple[int, int, int]]
) -> None:
    assert holes(ledger(*taken)) == expected


def test_number_that_comes_again_is_a_duplicate() -> None:
    made = ledger((0, 0), (0, 1), (0, 0))
    assert made.duplicates == [(0, 0)]
    assert (made.holes, made.reorderings, made.next) == ([], [], [2, 0])


def test_number_that_comes_late_is_a_reordering_and_splits_its_hole() -> None:
    made = ledger((0, 4), (0, 2))
    assert made.reorderings == [(0, 2)]
    assert made.duplicates == []
    assert holes(made) == [(0, 0, 2), (0, 3, 4)]
    made.take(0, 2)
    assert made.duplicates == [(0, 2)]


def test_hole_has_only_the_gap_that_was_reported_just_before_it() -> None:
    made = ledger((0, 0))
    made.add_gap("RETENTION", 2, [3, 0])
    made.take(0, 3)
    made.take(0, 5)
    first, second = made.holes
    assert [gap.reason for gap in first.reported] == ["RETENTION"]
    assert second.reported == []
    # Partition 1 may still have a hole that this Gap explains.
    assert made.reported[0].pending == {1}


def test_forget_keeps_a_gap_whose_hole_may_still_appear() -> None:
    made = ledger((0, 0))
    made.add_gap("RETENTION", 2, [3, 0])
    made.take(0, 0)
    made.forget()
    assert made.duplicates == []
    made.take(0, 3)
    made.take(1, 0)
    report = made.report()
    assert report is not None
    assert report["holes"] == [{"partition": 0, "first": 1, "past": 3, "reported": [0]}]
    made.forget()
    assert made.report() is None


def test_forget_keeps_a_hole_whose_gap_may_explain_another_hole() -> None:
    made = ledger((0, 0), (1, 0))
    made.add_gap("RETENTION", 2, [3, 1])
    made.take(0, 3)
    made.forget()
    report = made.report()
    assert report is not None
    assert (report["holes"][0]["reported"], report["reported"][0]["known"]) == ([0], True)
    made.take(1, 1)
    made.forget()
    assert made.report() is None


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12)), max_size=60))
def test_every_number_below_the_next_was_received_or_is_in_a_hole(
    taken: list[tuple[int, int]],
) -> None:
    made = ledger(*taken)
    came = Counter(taken)
    for partition in (0, 1):
        missing = {
            number
            for hole in made.holes
            if hole.partition == partition
            for number in range(hole.first, hole.past)
        }
        due = range(made.next[partition])
        assert missing == {number for number in due if (partition, number) not in came}
    assert Counter(made.duplicates) == came - Counter(dict.fromkeys(came, 1))
    assert len(made.reorderings) + len(made.duplicates) <= made.frames
