"""Whether missing records are gone, and the client received a Gap in their place."""

from __future__ import annotations

from typing import Any

import pytest

from bench.faults.judge import judge
from bench.faults.ledger import Ledger
from bench.faults.verdict import Facts, Losses, Verdict

# Two partitions of ten records; the second one's offsets are 100 more than the numbers.
FACTS = Facts([list(range(10)), list(range(100, 110))], [set(), set()])
NOTHING: list[set[int]] = [set(), set()]
RETENTION = Losses(reasons=frozenset({"RETENTION"}))


def verdict(
    ledger: Ledger,
    removed: list[set[int]] = NOTHING,
    losses: Losses | None = None,
    facts: Facts = FACTS,
) -> Verdict:
    report = ledger.report()
    failures: list[dict[str, Any]] = [] if report is None else [{"client": 7, **report}]
    found = Verdict()
    judge(found, {"failures": failures}, facts, removed, losses or Losses())
    return found


def with_hole(first: int, past: int, *, reason: str | None, missed: int | None, to: int) -> Ledger:
    """A client that lacks numbers of partition 0 and received a Gap up to offset `to`."""
    ledger = Ledger([first, 0])
    if reason is not None:
        ledger.add_gap(reason, missed, [to, 100])
    ledger.take(0, past)
    ledger.take(1, 0)
    return ledger


def test_client_without_fault_has_no_problem() -> None:
    assert verdict(Ledger([5, 5])) == Verdict()


def test_unreported_hole_is_a_gap_even_if_its_records_are_gone() -> None:
    found = verdict(with_hole(2, 5, reason=None, missed=None, to=0), [{2, 3, 4}, set()], RETENTION)
    assert found.gaps == 3
    assert found.problems == ["client 7, partition 0: 2 to 4 missing, and no Gap reported it"]


def test_reported_hole_of_removed_records_passes() -> None:
    ledger = with_hole(2, 5, reason="RETENTION", missed=3, to=5)
    found = verdict(ledger, [{0, 1, 2, 3, 4}, set()], RETENTION)
    assert (found.gaps, found.reported, found.problems) == (0, 1, [])


def test_reported_hole_of_existing_records_is_a_gap() -> None:
    ledger = with_hole(2, 5, reason="RETENTION", missed=3, to=5)
    found = verdict(ledger, [{2, 3}, set()], RETENTION)
    assert found.gaps == 1
    assert "the log still has 4" in found.problems[0]


def test_reported_hole_passes_again_if_its_gap_was_still_open_at_the_last_report() -> None:
    ledger = Ledger([2, 0])
    ledger.add_gap("RETENTION", 3, [5, 100])
    ledger.take(0, 5)
    removed = [{2, 3, 4}, set()]
    assert verdict(ledger, removed, RETENTION).reported == 1
    ledger.forget()
    ledger.take(1, 0)
    assert verdict(ledger, removed, RETENTION) == Verdict()


def test_gap_that_ends_before_the_hole_does_not_explain_it() -> None:
    ledger = with_hole(2, 5, reason="RETENTION", missed=2, to=4)
    found = verdict(ledger, [{2, 3, 4}, set()], RETENTION)
    assert found.gaps == 3


def test_two_gaps_in_a_row_may_report_one_hole() -> None:
    # Retention removed more before the client had read on.
    ledger = Ledger([2, 0])
    ledger.add_gap("RETENTION", 2, [4, 100])
    ledger.add_gap("RETENTION", 3, [7, 100])
    ledger.take(0, 7)
    ledger.take(1, 0)
    found = verdict(ledger, [set(range(2, 7)), set()], RETENTION)
    assert (found.gaps, found.reported, found.problems) == (0, 2, [])


def test_reason_that_the_class_does_not_allow_is_a_problem() -> None:
    ledger = with_hole(2, 5, reason="LAGGED", missed=3, to=5)
    found = verdict(ledger, [{2, 3, 4}, set()], RETENTION)
    assert found.problems == [
        "client 7 received a Gap LAGGED (missed 3), which this class does not allow"
    ]


def test_gap_without_a_hole_is_a_problem() -> None:
    ledger = Ledger([0, 0])
    ledger.add_gap("RETENTION", 0, [0, 0])
    ledger.take(0, 0)
    assert verdict(ledger, losses=RETENTION).problems == []
    ledger.take(1, 0)
    assert "missed nothing there" in verdict(ledger, losses=RETENTION).problems[0]


@pytest.mark.parametrize(("counted", "problems"), [(True, 1), (False, 0)])
def test_count_of_missing_records_must_be_right(counted: bool, problems: int) -> None:
    losses = Losses(reasons=frozenset({"RETENTION"}), counted=counted)
    ledger = with_hole(2, 5, reason="RETENTION", missed=4, to=5)
    found = verdict(ledger, [{2, 3, 4}, set()], losses)
    assert len(found.problems) == problems


def test_epoch_change_covers_all_missing_records_of_the_old_log() -> None:
    losses = Losses(reasons=frozenset({"EPOCH_CHANGED"}))
    ledger = with_hole(2, 5, reason="EPOCH_CHANGED", missed=None, to=0)
    assert verdict(ledger, [{2, 3, 4}, set()], losses).problems == []
    # All records of the new log must arrive.
    assert verdict(ledger, [{2, 3}, set()], losses).gaps == 1


def test_number_that_was_never_written_is_not_missing() -> None:
    facts = Facts(FACTS.offsets, [{2, 3, 4}, set()])
    assert verdict(with_hole(2, 5, reason=None, missed=None, to=0), facts=facts) == Verdict()


def test_duplicates_and_damage_are_counted_and_named() -> None:
    ledger = Ledger([3, 3])
    ledger.take(0, 1)
    ledger.take(1, 4)
    ledger.take(1, 3)
    ledger.corrupt.append("checksum")
    ledger.refused = "Refused: 4401"
    found = verdict(ledger)
    assert (found.duplicates, found.reorderings, found.corrupt, found.gaps) == (1, 1, 1, 0)
    assert found.problems == [
        "client 7, partition 0: 1 came again",
        "client 7, partition 1: 3 came late",
        "client 7: checksum",
        "client 7 ended: Refused: 4401",
    ]
