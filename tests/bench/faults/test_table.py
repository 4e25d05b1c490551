"""How the results of a class become a row."""

from __future__ import annotations

from dataclasses import asdict

from bench.faults.classes import FAULTS
from bench.faults.table import Result, load, markdown
from bench.faults.verdict import Outcome

FAULT = FAULTS["worker-kill"]


def outcome(**fields: object) -> Outcome:
    known = {"fault": FAULT.name, "broker": "embedded", "clients": 200, "frames": 1000}
    return Outcome(**{**known, **fields})  # type: ignore[arg-type]


def cells(*outcomes: Outcome) -> list[str]:
    return Result(FAULT, "embedded", outcomes).row()[4:]


def test_row_says_how_many_clients_used_sse_and_how_long_they_waited() -> None:
    one = outcome(sse_clients=50, sse_frames=200, silence=0.5, sse_silence=2.0)
    end = outcome(sse_clients=50, sse_frames=10, repetition=-1)
    assert cells(one, end) == [
        "1",
        "200 × 2,000, 50 × 210 of them SSE",
        *["0"] * 4,
        "0.50, SSE 2.00",
        "0.00",
        "passed",
    ]
    assert "2,000 frames checked (210 of them over SSE): 0 gaps" in markdown(
        [Result(FAULT, "embedded", [one, end])]
    )


def test_row_of_a_run_without_sse_does_not_name_it() -> None:
    assert cells(outcome()) == ["1", "200 × 1,000", *["0"] * 4, "0.00", "0.00", "passed"]


def test_row_says_what_clients_with_keys_of_their_own_got() -> None:
    one = outcome(keyed_clients=50, keyed_frames=30, foreign=1)
    assert cells(one)[1] == "200 × 1,000, 50 × 30 with keys of their own"
    assert "0 corrupt, 1 foreign; " in markdown([Result(FAULT, "embedded", [one])])


def test_results_of_a_run_before_sse_and_keys_can_be_read() -> None:
    saved = asdict(outcome())
    for name in list(saved):
        if name.startswith(("sse_", "keyed_")) or name in ("foreign", "io_uring"):
            del saved[name]
    about = {"number": 3, "name": FAULT.name, "broker": "embedded", "skipped": None}
    (result,) = load({"results": {"classes": [{**about, "outcomes": [saved]}]}})
    assert "1 faults injected, 1,000 frames checked: 0 gaps" in markdown([result])


def test_a_class_says_everything_that_its_workers_said_of_io_uring() -> None:
    outcomes = [outcome(io_uring=said) for said in ("in_use", "", "in_use, failed", "in_use")]
    assert Result(FAULT, "embedded", outcomes).io_uring == "in_use / in_use, failed"
