from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from bench.attacks.attack import ANYBODY, Attack, Bound
from bench.attacks.verdict import Reading, Trial, Window, broken, combined, figures, noticed

ATTACK = Attack(
    name="none",
    title="nothing",
    who=ANYBODY,
    answer="none",
    run=lambda target: None,
    each="opened",
    bounds=(Bound("held", 25, where="limits.connections_per_token"), Bound("answered", 0)),
)
MIB = 1 << 20


def window(p99_ms: float, *newcomers: float) -> Window:
    delays = [int(p99_ms * 1000)] * 100
    return Window(seconds=2.0, delays=delays, took={"newcomer": newcomers}, cpu=0.5)


def trial(**changes: Any) -> Trial:
    made = Trial(
        calm=[window(10, 0.002), window(12, 0.004), window(11, 0.003)],
        attacked=[window(20, 0.01), window(11, 0.3), window(12, 0.02)],
        recovery=Window(seconds=0.1, delays=[40_000], took={}, cpu=0.0),
        before=Reading(memory=60 * MIB, kernel=MIB, descriptors=40),
        peak=Reading(memory=70 * MIB, kernel=5 * MIB, descriptors=300),
        after=Reading(memory=65 * MIB, kernel=MIB, descriptors=40),
        gaps=0,
        duplicates=0,
        closed=0,
        missing=0,
        lost=0,
        replaced=0,
    )
    return replace(made, **changes)


def test_figures_are_medians_of_windows_and_the_worst_of_all() -> None:
    row = figures(ATTACK, trial(), 5.0)
    assert (row["calm_p99_ms"], row["p99_ms"], row["p99_ratio"]) == (11, 12, 1.09)
    assert row["p99_ratio_worst"] == 1.82
    assert row["worst_ms"] == 40
    assert (row["newcomer_ms"], row["newcomer_worst_ms"], row["newcomers"]) == (20, 300, 3)
    assert row["cores"] == 0.25
    assert (row["memory_peak_mib"], row["kernel_peak_mib"]) == (70, 5)
    assert "pong_ms" not in row
    assert broken(ATTACK, row, {}, ()) == noticed(ATTACK, row) == []


def test_price_of_each_is_what_the_workers_used_beyond_the_calm() -> None:
    busy = [Window(seconds=2.0, delays=[1], took={}, cpu=1.5)]
    none = Window(seconds=0.0, delays=[], took={}, cpu=0.0)
    row = figures(ATTACK, trial(attacked=busy, recovery=none, attacker={"opened": 1_000}), 5.0)
    # 0.75 cores instead of 0.25, for two seconds.
    assert row["us_each"] == 1000
    assert "us_each" not in figures(ATTACK, trial(), 5.0)


def test_window_without_deliveries_is_at_least_as_late_as_it_is_long() -> None:
    silent = Window(seconds=2.0, delays=[], took={}, cpu=0.0)
    assert silent.p99 == 2000
    assert noticed(ATTACK, figures(ATTACK, trial(attacked=[silent] * 3), 5.0)) == ["p99 × 181.82"]


def test_kernel_without_ss_is_left_out() -> None:
    reading = Reading(memory=1, kernel=None, descriptors=1)
    row = figures(ATTACK, trial(before=reading, peak=reading, after=reading), 5.0)
    assert not [name for name in row if name.startswith("kernel")]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"gaps": 2}, "2 gaps"),
        ({"duplicates": 1}, "1 duplicates"),
        ({"closed": 1}, "1 honest clients disconnected"),
        ({"missing": 3}, "3 records missing"),
        ({"replaced": 1}, "1 workers ended"),
    ],
)
def test_what_must_never_happen(change: dict[str, int], problem: str) -> None:
    assert broken(ATTACK, figures(ATTACK, trial(**change), 5.0), {}, ()) == [problem]


def test_bound_counts_only_where_the_service_has_its_limit() -> None:
    row = figures(ATTACK, trial(), 5.0)
    limited = {"limits.connections_per_token"}
    assert broken(ATTACK, row, {"held": 26}, ()) == []
    assert broken(ATTACK, row, {"held": 25}, limited) == []
    assert broken(ATTACK, row, {"held": 26, "answered": 1}, limited) == [
        "the attacker counts 26 held, at most 25",
        "the attacker counts 1 answered, at most 0",
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"attacked": [window(17)] * 3}, "p99 × 1.55"),
        ({"attacked": [window(11, 1.5)] * 3}, "a newcomer took 1.5 s"),
        ({"attacked": [window(11, 5.0, 1.5)]}, "1 of 2 newcomers not let in"),
        ({"lost": 4}, "4 pongs did not come"),
        (
            {"peak": Reading(memory=125 * MIB, kernel=None, descriptors=1)},
            "workers grew by 65 MiB",
        ),
    ],
)
def test_what_honest_clients_should_not_notice(change: dict[str, Any], problem: str) -> None:
    assert noticed(ATTACK, figures(ATTACK, trial(**change), 5.0)) == [problem]


def test_rounds_are_combined_by_medians() -> None:
    rows = [{"a": 1, "in": {"x": 5}}, {"a": 2, "in": {"y": 7}}, {"a": 9, "in": {"x": 6}}]
    assert combined(rows) == {"a": 2, "in": {"x": 5.5, "y": 7}}
    assert math.isclose(combined([{"a": 0.126}])["a"], 0.13)
