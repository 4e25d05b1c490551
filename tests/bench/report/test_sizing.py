"""The figures in docs/sizing.md agree with the measurements and with the code."""

from __future__ import annotations

from typing import Any

import pytest

from bench.report import __main__ as report
from bench.report import pages, sizing
from bench.tune.advice import BUSIEST_SHARE
from energyws.control.host.shortages import OTHER_DESCRIPTORS

SIZING = next(path for path in report.PAGES if path.name == "sizing.md").read_text()


def documents(*rows: dict[str, Any], tune: dict[str, Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"fanout": {"fanout": {"results": {"fanout": rows}}}}
    if tune is not None:
        found["tune"] = {"tune": {"results": tune}}
    return found


def row(us: float = 6.0, **fields: Any) -> dict[str, Any]:
    return {
        "tls": False,
        "clients": 2000,
        "bytes": 440,
        "records_per_second": 20.0,
        "worker_us": us,
        "writes_per_delivery": 1.0,
        **fields,
    }


def tried(shares: list[float], **fields: Any) -> dict[str, Any]:
    rows = [
        {
            "workers": number,
            "cores": {"worker-0": share, "consumer": 0.01, "generator-0": 0.2},
            "machine_share": 0.3,
            "delay_ms": {"p99": 10.0},
            "exact": True,
        }
        for number, share in enumerate(shares, 1)
    ]
    advice = {"workers": 1, "reason": "it is enough", "warnings": []}
    return {"clients": 2000, "rate": 20, "bytes": 440, "rows": rows, "advice": advice, **fields}


def test_formula_and_trials_on_this_page_agree() -> None:
    results = pages.find(report.RESULTS)
    assert list(sizing.comparable(results)), "bench.tune and bench.fanout have no load in common"
    assert sizing.contradictions(results) == []


def test_page_has_the_formula_of_the_code() -> None:
    assert f"µs a delivery ÷ 1,000,000 ÷ {BUSIEST_SHARE:g}, rounded up" in SIZING


@pytest.mark.parametrize("name", sorted(sizing.DERIVED))
def test_every_derived_figure_has_a_place(name: str) -> None:
    assert f"<!-- figures {name}: begin -->" in SIZING


@pytest.mark.parametrize(
    ("results", "count"),
    [
        (documents(row(), tune=tried([0.24])), 1),
        (documents(row(), tune=tried([0.24], bytes=1138)), 0),
        # bench.tune has the default setting.
        (documents(row(io_uring="off"), tune=tried([0.24])), 0),
        (documents(row(io_uring="in_use"), row(io_uring="off"), tune=tried([0.24])), 1),
        (documents(row(), tune=tried([0.24], bytes=None)), 0),
        (documents(row(), tune=tried([0.24], clients=5000)), 0),
        (documents(row(), tune=tried([0.24], rate=1)), 0),
        (documents(row(tls=True), tune=tried([0.24])), 0),
        (documents(row()), 0),
        ({}, 0),
    ],
)
def test_only_similar_loads_are_compared(results: dict[str, Any], count: int) -> None:
    assert len(list(sizing.comparable(results))) == count


def test_contradiction_names_the_load_and_both_numbers() -> None:
    (found,) = sizing.contradictions(documents(row(), tune=tried([0.7, 0.4])))
    assert found == (
        "2,000 clients, 20 records a second: the formula gives 1, but 2 left headroom when measured"
    )


def test_capacity_follows_from_the_most_expensive_delivery() -> None:
    text = sizing.capacity(
        documents(row(6.0), row(8.0, clients=15_000), row(0.2, writes_per_delivery=0.03))
    )
    # 0.6 s of CPU a second, 8 µs each.
    assert "| plain | 440 | 8.00 | 75,000 | 75,000 | 18,000 | 3,700 | 264 |" in text
    assert text.count("\n| plain") == 1


def test_workers_table_has_the_results_of_formula_and_measurement() -> None:
    text = sizing.workers(documents(row(45.0), tune=tried([0.5])))
    assert "| plain | 2,000 | 440 | 20.0 | 45.0 | 1.80 | 3 |" in text
    assert "The formula gives 3; the measurement recommends `server.workers: 1`, because it" in text


def test_room_with_one_worker_has_descriptors_for_all_connections() -> None:
    assert f"| 1,000 | 1 | {1000 + OTHER_DESCRIPTORS:,} |" in sizing.room({})
