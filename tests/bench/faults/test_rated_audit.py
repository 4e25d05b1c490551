"""Whether a client with max_rate got the newest of each key, and was told of all others."""

from __future__ import annotations

from typing import Any

import pytest

from bench.faults.audit import Case
from bench.faults.log import Log
from bench.faults.rated_audit import RatedAudit
from bench.faults.verdict import Losses, Verdict
from tests.bench.faults.test_audit import KEYS, NOTHING, PLACES

RETENTION = Losses(reasons=frozenset({"RETENTION"}))
# Of m1 there are 0, 3 and 5 in the first partition, and 1 in the second; of m2 2 and 4, 0 and 2.
BEGUN: list[list[Any]] = [
    ["connect", ["m1"], None, True],
    ["subscribed", "ab-0.100", None, None, None],
]
FIRST = ["data", 0, 0, "m1", "ab-1.100"]
THIRD = ["data", 0, 3, "m1", "ab-3.102"]
LAST = ["data", 0, 5, "m1", "ab-5.104"]


def verdict(
    *entries: list[Any],
    removed: list[set[int]] = NOTHING,
    losses: Losses | None = None,
    settled: bool = False,
) -> Verdict:
    found = Verdict()
    audit = RatedAudit("7")
    log = Log(PLACES, KEYS, {"ab": 0})
    audit.take([*BEGUN, *entries], Case(log, removed, losses or Losses(), found))
    if settled:
        audit.settled()
    return found


def test_superseded_records_are_told_and_add_up() -> None:
    told = ["position", "ab-5.104", 2]
    assert verdict(FIRST, LAST, told, settled=True) == Verdict()
    # Some may be told earlier.
    assert verdict(FIRST, THIRD, ["position", "ab-3.102", 1], LAST, settled=True) == Verdict()


@pytest.mark.parametrize("conflated", [0, 1, 3])
def test_another_number_is_a_problem(conflated: int) -> None:
    assert verdict(FIRST, LAST, ["position", "ab-5.104", conflated]).problems == [
        f"keyed client 7: {conflated} records superseded until ab-5.104, not 2"
    ]


def test_record_that_nothing_supersedes_is_a_gap() -> None:
    found = verdict(FIRST, ["position", "ab-5.104", 3])
    assert found.gaps == 2
    assert found.problems == [
        "keyed client 7: `position` is beyond 2 records not sent: (0, 3)",
    ]


def test_what_supersedes_may_come_after_a_position() -> None:
    told = ["position", "ab-3.102", 2]
    assert verdict(FIRST, told, LAST, settled=True) == Verdict()


def test_newest_must_have_come_in_the_end() -> None:
    # Its own position says so, and only what comes later could supersede the others.
    assert verdict(FIRST, ["data", 0, 3, "m1", "ab-5.104"]).gaps == 0
    assert verdict(FIRST, ["data", 0, 3, "m1", "ab-5.104"], settled=True).gaps == 1


def test_connection_may_end_before_the_rest_of_a_write() -> None:
    again = [["connect", ["m1"], "ab-3.102", True], ["subscribed", "ab-3.102", True, None, None]]
    assert verdict(THIRD, *again, LAST, ["position", "ab-5.104", 0]) == Verdict()
    found = verdict(["data", 0, 3, "m1", "ab-5.104"], ["connect", ["m1"], "ab-5.104", True])
    assert found.gaps == 1
    assert found.problems == [
        "keyed client 7: its resume is beyond 1 records not sent: (0, 5)",
    ]


def test_older_record_after_a_newer_one_is_out_of_order() -> None:
    assert verdict(LAST, ["data", 0, 3, "m1", "ab-5.104"]).reorderings == 1


def test_record_that_comes_again_is_a_duplicate() -> None:
    assert verdict(FIRST, FIRST).duplicates == 1
    assert verdict(FIRST, ["position", "ab-1.100", 0], FIRST).duplicates == 1


def test_record_of_another_key_is_foreign() -> None:
    assert verdict(["data", 1, 0, "m2", "ab-1.101"]).foreign == 1


def test_position_of_a_record_covers_it() -> None:
    assert "does not cover it" in verdict(["data", 0, 3, "m1", "ab-2.102"]).problems[0]


def test_records_that_are_gone_are_reported_and_not_counted() -> None:
    gap = ["lagged", "RETENTION", None, "ab-3.102"]
    entries = [FIRST, gap, LAST, ["position", "ab-5.104", 7]]
    assert verdict(*entries, removed=[{0, 3}, {0, 1}], losses=RETENTION).problems == []
    # Which later ones may supersede.
    assert verdict(FIRST, gap, losses=RETENTION).problems == []
    gone = ["lagged", "RETENTION", None, "ab-5.104"]
    assert "the log still has (0, 3)" in verdict(FIRST, gone, losses=RETENTION).problems[0]


def test_what_follows_a_snapshot_is_counted_from_its_position() -> None:
    begun = [["connect", ["m1"], None, True], ["subscribed", "ab-2.102", None, None, None, True]]
    first, place = ["snapshot", 1, 1, "m1"], ["position", "ab-2.102", 0]
    assert verdict(["anew"], *begun, first, place, LAST, ["position", "ab-5.104", 1]) == Verdict()
