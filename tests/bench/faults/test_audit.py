"""Whether a client with a few keys got theirs, all of them, and was never told more than it has."""

from __future__ import annotations

from typing import Any

import pytest

from bench.faults.audit import Audit, Case
from bench.faults.log import Log
from bench.faults.verdict import Losses, Verdict

# Offsets are the numbers, plus 100 in the second partition. Only number 1 of the first was never
# written.
KEYS = [["m1", "m1", "m2", "m1", "m2", "m1"], ["m2", "m1", "m2", "m3"]]
PLACES: list[list[tuple[int, int] | None]] = [
    [(0, 0), None, (0, 1), (0, 2), (0, 3), (0, 4)],
    [(0, 100), (0, 101), (0, 102), (0, 103)],
]
NOTHING: list[set[int]] = [set(), set()]
RETENTION = Losses(reasons=frozenset({"RETENTION"}))

Entries = list[list[Any]]
BEGUN: Entries = [["connect", ["m1"], None], ["subscribed", "ab-0.100", None, None, None]]
# All that a client with the key m1 wants, with the positions of these records.
FIRST = ["data", 0, 0, "m1", "ab-1.100"]
SECOND = ["data", 1, 1, "m1", "ab-2.102"]
THIRD = ["data", 0, 3, "m1", "ab-3.102"]
LAST = ["data", 0, 5, "m1", "ab-5.104"]


def verdict(
    entries: Entries, removed: list[set[int]] = NOTHING, losses: Losses | None = None
) -> Verdict:
    found = Verdict()
    Audit("7").take(entries, Case(Log(PLACES, KEYS, {"ab": 0}), removed, losses or Losses(), found))
    return found


def problems(*entries: list[Any]) -> list[str]:
    """Those of a client with the key m1 after its first `subscribed`."""
    return verdict([*BEGUN, *entries]).problems


def test_client_that_gets_its_records_has_no_problem() -> None:
    assert verdict([*BEGUN, FIRST, SECOND, THIRD, LAST]) == Verdict()


def test_positions_may_come_wherever_nothing_is_left_out() -> None:
    told = [["position", text] for text in ("ab-0.100", "ab-2.101", "ab-2.102", "ab-4.103")]
    assert problems(told[0], FIRST, told[1], SECOND, told[2], THIRD, told[3], LAST) == []


def test_position_beyond_a_record_that_was_not_sent_is_a_gap() -> None:
    found = verdict([*BEGUN, FIRST, ["position", "ab-3.102"]])
    assert found.gaps == 2
    assert found.problems == [
        "keyed client 7: `position` is beyond 2 records not sent: (0, 3)",
    ]


@pytest.mark.parametrize(
    ("true", "too_far"),
    [("ab-0.101", "ab-1.101"), ("ab-0.101", "ab-0.102"), ("ab-0.101", "ab-5.104")],
)
def test_one_record_too_far_is_too_far(true: str, too_far: str) -> None:
    assert problems(["position", true]) == []
    assert "not sent" in problems(["position", too_far])[0]


def test_record_that_is_left_out_is_a_gap_at_the_next_one() -> None:
    found = verdict([*BEGUN, FIRST, THIRD])
    assert found.gaps == 1
    assert found.problems == [
        "keyed client 7: `data` (partition 0, 3) is beyond 1 records not sent: (1, 1)"
    ]


def test_record_of_another_key_is_foreign() -> None:
    found = verdict([*BEGUN, FIRST, ["data", 1, 0, "m2", "ab-1.101"]])
    assert found.foreign == 1
    assert found.problems == ["keyed client 7: partition 1, 0: it may not have this key"]


def test_record_that_comes_again_is_a_duplicate() -> None:
    found = verdict([*BEGUN, FIRST, FIRST])
    assert found.duplicates == 1
    assert found.problems == [
        "keyed client 7: partition 0, 0: it came again, or after a later position"
    ]


def test_position_of_a_record_covers_it() -> None:
    assert problems(["data", 0, 0, "m1", "ab-0.100"]) == [
        "keyed client 7: partition 0, 0: its position ab-0.100 does not cover it"
    ]


def test_position_does_not_go_back() -> None:
    assert problems(FIRST, ["position", "ab-0.101"]) == [
        "keyed client 7: its position goes back, from ab-1.100 to ab-0.101"
    ]


def test_client_goes_on_where_it_was_with_other_keys() -> None:
    other = [["connect", ["m2"], "ab-2.102"], ["subscribed", "ab-2.102", True, None, None]]
    rest = [["data", 1, 2, "m2", "ab-2.103"], ["data", 0, 4, "m2", "ab-4.103"]]
    assert problems(FIRST, SECOND, *other, *rest) == []
    # What it got before it would now be foreign, and what it did not want then is no gap.
    assert len(problems(FIRST, SECOND, *other, THIRD)) == 1
    assert len(problems(FIRST, SECOND, *other, rest[1])) == 1


def test_answer_to_a_resume_leaves_nothing_out() -> None:
    again = [["connect", ["m1"], "ab-1.100"], ["subscribed", "ab-3.102", True, None, None]]
    assert problems(FIRST, *again) == [
        "keyed client 7: `subscribed` is beyond 2 records not sent: (0, 3)"
    ]


def test_client_resumes_from_what_it_was_told_last() -> None:
    assert problems(FIRST, ["connect", ["m1"], "ab-0.100"]) == [
        "keyed client 7: it resumes from ab-0.100, but its last position is ab-1.100"
    ]


def test_client_that_is_replaced_starts_from_where_the_next_one_says() -> None:
    again = [["anew"], ["connect", ["m1"], "ab-0.100"]]
    reply = ["subscribed", "ab-0.100", True, None, None]
    assert problems(FIRST, *again, reply, FIRST, SECOND) == []


@pytest.mark.parametrize("missed", [None, 2])
def test_records_that_are_gone_are_reported(missed: int | None) -> None:
    gap = ["lagged", "RETENTION", missed, "ab-3.102"]
    found = verdict([*BEGUN, FIRST, gap, LAST], [{0, 3}, {0, 1}], RETENTION)
    assert (found.gaps, found.reported, found.problems) == (0, 1, [])


def test_resume_tells_what_is_gone() -> None:
    again = [["connect", ["m1"], "ab-1.100"], ["subscribed", "ab-2.102", False, "RETENTION", None]]
    found = verdict([*BEGUN, FIRST, *again, THIRD, LAST], [set(), {0, 1}], RETENTION)
    assert (found.gaps, found.reported, found.problems) == (0, 1, [])


def test_gap_over_records_that_the_log_still_has_is_one() -> None:
    gap = ["lagged", "RETENTION", None, "ab-3.102"]
    found = verdict([*BEGUN, FIRST, gap], [{0, 3}, {0}], RETENTION)
    assert found.gaps == 1
    assert "the log still has (1, 1)" in found.problems[0]


def test_gap_does_not_count_what_others_miss() -> None:
    gap = ["lagged", "RETENTION", 5, "ab-3.102"]
    found = verdict([*BEGUN, FIRST, gap], [{0, 2, 3}, {0, 1}], RETENTION)
    assert "of its keys 2 records are missing" in found.problems[0]


def test_class_allows_the_reasons_of_gaps() -> None:
    found = verdict([*BEGUN, FIRST, ["lagged", "LAGGED", None, "ab-1.100"]], losses=RETENTION)
    assert "LAGGED (missed None), which this class does not allow" in found.problems[0]


def test_another_log_has_its_own_offsets() -> None:
    keys, places = [["m1", "m1", "m1"]], [[(0, 0), (0, 1), (1, 0)]]
    losses = Losses(reasons=frozenset({"EPOCH_CHANGED"}))
    gap = ["lagged", "EPOCH_CHANGED", None, "cd-0"]
    entries = [
        ["connect", ["m1"], None],
        ["subscribed", "ab-0", None, None, None],
        ["data", 0, 0, "m1", "ab-1"],
        gap,
        ["data", 0, 2, "m1", "cd-1"],
    ]
    found = Verdict()
    log = Log(places, keys, {"ab": 0})
    log.seen(0, 2, "cd-1".partition("-")[0])
    Audit("7").take(entries, Case(log, [{0, 1}], losses, found))
    assert found.problems == []
    Audit("7").take([*entries[:3], gap], Case(log, [{0}], losses, found))
    assert "the log still has (0, 1)" in found.problems[0]


def snapshot(*entries: list[Any], complete: bool = True, at: str = "ab-4.103") -> list[str]:
    """The problems of a client with the keys m1 and m2 that begins with this snapshot."""
    begun = [["connect", ["m1", "m2"], None], ["subscribed", at, None, None, None, complete]]
    return verdict([*begun, *entries, ["position", at]]).problems


NEWEST = [["snapshot", 0, 3, "m1"], ["snapshot", 0, 4, "m2"]]


def test_snapshot_has_the_newest_record_of_each_key_before_its_position() -> None:
    assert snapshot(*NEWEST) == []
    # A key may have a newest record in each partition.
    assert snapshot(["snapshot", 1, 1, "m1"], ["snapshot", 1, 2, "m2"]) == []
    assert snapshot(["snapshot", 0, 0, "m1"], NEWEST[1]) == [
        "keyed client 7: a snapshot has (0, 0), but the newest is [(0, 3), (1, 1)]"
    ]
    assert len(snapshot(["snapshot", 0, 5, "m1"], NEWEST[1])) == 1


def test_only_an_incomplete_snapshot_may_lack_a_key() -> None:
    assert "a complete snapshot lacks (" in snapshot(NEWEST[0])[0]
    assert snapshot(NEWEST[0], complete=False) == []
    assert snapshot(NEWEST[0], at="ab-0.100", complete=False) != []
    assert snapshot(at="ab-0.100") == []


def test_snapshot_has_no_other_keys_and_each_once() -> None:
    assert len(snapshot(*NEWEST, ["snapshot", 1, 3, "m3"])) == 1
    assert len(snapshot(*NEWEST, NEWEST[0])) == 1


def test_what_follows_a_snapshot_begins_at_its_position() -> None:
    begun = [["connect", ["m1"], None], ["subscribed", "ab-2.102", None, None, None, True]]
    first, place = ["snapshot", 1, 1, "m1"], ["position", "ab-2.102"]
    assert verdict([*begun, first, place, THIRD, LAST]) == Verdict()
    # What the snapshot covers does not come again, and nothing comes before its end.
    assert verdict([*begun, first, place, SECOND]).duplicates == 1
    assert "before the position of the snapshot" in verdict([*begun, first, THIRD]).problems[0]
    # A client that loses its connection before the end begins anew.
    assert verdict([*begun, *begun, first, place, THIRD, LAST]) == Verdict()
