"""The accounts of all clients of a run that get some keys."""

from __future__ import annotations

from typing import Any, cast

from bench.faults.audits import Audits
from bench.faults.log import Log
from bench.faults.producer import Producer
from bench.faults.verdict import Losses, Verdict

_PLACES: list[list[tuple[int, int] | None]] = [[(0, 0), (0, 1), (1, 0)]]


class Written:
    """A producer that has written three records of one key, the last one in a second log."""

    def written_log(self, epochs: dict[str, int]) -> Log:
        return Log(_PLACES, [["m1", "m1", "m1"]], epochs)


def judged(audits: Audits, journals: dict[int, list[list[Any]]], *, settled: bool) -> Verdict:
    found = Verdict()
    losses = Losses(reasons=frozenset({"EPOCH_CHANGED"}))
    producer = cast("Producer", Written())
    audits.judge(found, journals, producer, [{0, 1}], losses, settled=settled)
    return found


def begun(*, rated: bool) -> list[list[Any]]:
    return [["connect", ["m1"], None, rated], ["subscribed", "ab-0", None, None, None]]


def test_each_client_is_judged_by_what_it_asks_for() -> None:
    told = [["data", 0, 1, "m1", "ab-2"], ["position", "ab-2", 1]]
    first = ["data", 0, 0, "m1", "ab-1"]
    audits = Audits()
    journals = {3: [*begun(rated=True), *told], 4: [*begun(rated=False), first, told[0]]}
    assert judged(audits, journals, settled=False) == Verdict()
    found = judged(Audits(), {4: [*begun(rated=False), *told]}, settled=False)
    assert found.gaps == 1


def test_account_goes_on_in_the_next_report() -> None:
    audits = Audits()
    too_far = ["data", 0, 0, "m1", "ab-2"]
    assert judged(audits, {3: [*begun(rated=True), too_far]}, settled=False) == Verdict()
    assert judged(audits, {3: []}, settled=True).gaps == 1


def test_records_tell_which_log_an_epoch_is() -> None:
    audits = Audits()
    gap = ["lagged", "EPOCH_CHANGED", None, "cd-0"]
    entries = [*begun(rated=False), gap, ["data", 0, 2, "m1", "cd-1"]]
    assert judged(audits, {4: entries}, settled=True).problems == []
