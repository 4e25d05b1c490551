from __future__ import annotations

from typing import Any

from bench.tune.advice import Trial
from bench.tune.table import picture, table, trial


def row(workers: int, **fields: Any) -> dict[str, Any]:
    return {
        "workers": workers,
        "deliveries_per_second": 40_000,
        "cores": {
            "supervisor": 0.01,
            "consumer": 0.02,
            "worker-0": 0.2,
            "worker-1": 0.25,
            "generator-0": 0.5,
            "observer": 0.1,
        },
        "machine_share": 0.6,
        "delay_ms": {"mean": 3.0, "p50": 2.0, "p99": 9.0, "max": 12.0},
        "exact": True,
        **fields,
    }


def test_trial_has_the_busiest_worker_and_the_busiest_generator() -> None:
    assert trial(row(2)) == Trial(2, 0.25, 0.5, 0.6, 9.0, True)


def test_table_has_a_line_for_each_number_of_workers() -> None:
    head, one, two = table([row(1), row(2)]).splitlines()
    assert head.split()[0] == "workers"
    assert one.split()[0] == "1"
    assert two.split()[0] == "2"
    assert "4.0 ×" in two


def test_picture_shows_delay_and_cpu() -> None:
    drawn = picture([row(1), row(2)])
    assert "Delay by the number of workers" in drawn
    assert "busiest worker" in drawn
