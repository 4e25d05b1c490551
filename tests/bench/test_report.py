from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from bench import report
from bench.sections import RENDERERS, figure, table

DELAY = {"mean": 5.25, "p50": 4.0, "p99": 20.5, "max": 31.0}
CORES = {
    "supervisor": 0.01,
    "consumer": 0.02,
    "worker-0": 0.4,
    "worker-1": 0.35,
    "generator-0": 0.5,
    "observer": 0.1,
    "producer": 0.01,
    "broker": 0.05,
}
MEASURED_RATE = {
    "write_ms": DELAY,
    "append_ms": {**DELAY, "mean": 4.75},
    "consumer_share_of_a_core": 0.0712,
    "consumer_us_per_record": 71.2,
}
OURS = {
    "worker_us": 4.0,
    "consumer_us": 0.5,
    "delay_p50_ms": 5.0,
    "delay_p99_ms": 20.0,
    "delay_p100_ms": 30.0,
}
RATIO = {"ratio": 2.25, "ratio_min": 2.0, "ratio_max": 2.5}
PEER = {
    "tls": False,
    "bytes": 440,
    "target": 40_000.0,
    "load": 40_000,
    "us": 9.0,
    "delay_p50_ms": 6.0,
    "delay_p99_ms": 25.0,
    "delay_p100_ms": 40.0,
    "lost": 0,
    "kept_up": True,
    "energyws": OURS,
    "worker": RATIO,
    "service": {**RATIO, "ratio": 2.0},
    "rss_kb_connected": 9.5,
    "rss_kb_used": 12.0,
}
MEMORY = dict.fromkeys(("rss", "pss", "private_dirty", "kernel_slab", "kernel_tcp"), 9000.0)
STEP: dict[str, Any] = {
    "name": "drain replica a",
    "seconds": 62.5,
    "reconnects": 5000,
    "failed": 0,
    "newcomers": 900,
    "newcomers_refused": 2,
    "gaps": 0,
    "duplicates": 0,
    "reorderings": 0,
    "pause_median": 0.5,
    "pause_p99": 0.95,
    "pause_longest": 1.25,
    "connects_each_second": [70, 180, 90],
    "problems": [],
}
RESULTS: dict[str, dict[str, Any]] = {
    "curve": {
        "broker": "kafka",
        "points": {
            "1000": {
                "workers": 2,
                "records": 240,
                "delay_ms": {**DELAY, "standard_deviation": 2.0},
                "published_ms": 10,
                "worker_us_per_delivery": 5.1,
                "cores": CORES,
            },
            "3000": {
                "workers": 2,
                "records": 240,
                "delay_ms": {**DELAY, "standard_deviation": 2.0},
                "published_ms": None,
                "worker_us_per_delivery": 5.1,
                "cores": CORES,
            },
        },
    },
    "deflate": {
        "real": {
            "without a network": {
                "message_bytes": 1138.0,
                "shared_us": 30.1,
                "shared_bytes": 520.0,
                "each_us": 12.0,
                "each_bytes": 90.0,
                "each_kib_per_client": 40.0,
            },
            "20/s, shared": {
                "us_per_delivery": 5.0,
                "consumer_us_per_record": 300.0,
                "bytes_per_delivery": 524.0,
            },
            "20/s, websockets each": {"us_per_delivery": 30.0, "bytes_per_delivery": 94.0},
            "20/s, CPU of shared / plain": [0.9, 0.95, 1.0],
        }
    },
    "delay": {
        "clients": 100,
        "delay": {
            "kafka": {"as shipped": {"idle_share_of_a_core": 0.004, "1000/s": MEASURED_RATE}},
            "embedded": {
                "as shipped": {
                    "idle_share_of_a_core": 0.006,
                    "1/s": {k: v for k, v in MEASURED_RATE.items() if k != "append_ms"},
                }
            },
        },
        "ceiling": {
            "as shipped": {
                "records": 200_000,
                "record_bytes": 988,
                "records_per_second": 66_719,
                "mb_per_second": 65.8,
                "consumer_us_per_record": 15.5,
                "consumer_share_of_a_core": 1.03,
                "worker_us_per_record": 8.1,
            }
        },
    },
    "exactly_once": {
        "clients": 2000,
        "frames": 1_200_000,
        "others": 2000,
        "gaps": 0,
        "duplicates": 0,
        "checked": 1203,
        "closed": 0,
        "least": 600,
        "most": 600,
        "records": 600,
        "expected": 1_200_000,
        "exactly_once": True,
        "delay_ms": {"p50": 7.1, "p99": 22.0, "p100": 41.0},
        "cpu_seconds": {"worker-0": 3.0},
    },
    "fanout": {
        "fanout": [
            {
                "tls": tls,
                "clients": 2000,
                "bytes": 1138,
                "records_per_second": rate,
                "worker_us": 5.5,
                "consumer_us": 0.3,
                "writes_per_delivery": 1.0 if rate == 20.0 else 0.05,
                "deliveries_per_core_second": 181_818,
                "delay_p50_ms": 10.5,
                "delay_p99_ms": 20.5,
                "delay_p100_ms": 25.5,
                "first_to_last_p50_ms": 9.5,
                **loop,
            }
            for tls, rate, loop in (
                (False, 20.0, {"c_us": 5.1, "ratio": 1.08, "ratio_min": 1.05, "ratio_max": 1.1}),
                (True, 1000.0, {}),
            )
        ]
    },
    "idle": {
        "worker-0": {"rss_mib": 55.04, "pss_mib": 40.1},
        "total": {"rss_mib": 140.2, "pss_mib": 100.9},
    },
    "deploy": {
        "clients": 10_000,
        "records_a_second": 1.0,
        "drain_delay_seconds": 2.0,
        "drain_seconds": 62.5,
        "ceiling": 200.0,
        "busiest_second": 180,
        "steps": [STEP, {**STEP, "name": "drain replica b"}],
    },
    "metrics": {
        "loads": [
            {
                "clients": 2000,
                "bytes": 440,
                "deliveries_per_second": 40_000.0,
                **{
                    f"{what}_ratio{which}": value
                    for what in ("worker", "service")
                    for which, value in (("", 1.01), ("_min", 0.985), ("_max", 1.03))
                },
                "worker_us_with": 7.07,
                "worker_us_without": 7.0,
            }
        ],
        "scrape": {
            "scrape_bytes": 21_000,
            "scrape_ms": 4.25,
            "scrape_cpu_ms": {"supervisor": 3.5, "consumer": 0.0, "worker-0": 0.0},
        },
    },
    "memory": {
        "clients": 10_000,
        "plain": {"before": MEMORY, "idle": MEMORY},
        "tls": {"before": MEMORY, "idle": MEMORY},
    },
    "peers": {
        "clients": 2000,
        "peers": {"axum": {"axum": "0.8.9", "rust": "1.95.0"}, "picows": {"picows": "2.3.1"}},
        "skipped": {"ws": "npm not found on PATH"},
        "rows": [
            {
                "peer": "energyws",
                **{name: PEER[name] for name in ("tls", "bytes", "target", "load", "energyws")},
                **{name: PEER[name] for name in ("rss_kb_connected", "rss_kb_used")},
            },
            {"peer": "axum", **PEER},
            {
                "peer": "picows",
                **PEER,
                "target": 2_000_000.0,
                "load": 320_000,
                "kept_up": False,
                "worker": {**RATIO, "ratio": 0.9},
            },
        ],
    },
    "replicas": {
        "broker": "kafka",
        "bytes": 1138,
        "rows": [
            {
                "replicas": replicas,
                "records_per_second": 20.0,
                "connections": 3,
                "received_per_second": 25_153,
                "sent_per_second": 3368,
                "broker_cores": 0.0613,
            }
            for replicas in (1, 2)
        ],
    },
    "resume": {
        "resuming": 1000,
        "records_each": 10_000,
        "seconds_until_all_have_them": 21.4,
        "records_read_from_kafka": 19_500,
        "live": 1000,
        "live_delay_ms_before": {"p50": 5.0, "p99": 12.0, "p100": 20.0},
        "live_delay_ms_meanwhile": {"p50": 6.0, "p99": 24.0, "p100": 60.0},
        "p99_ratio": 2.0,
        "cpu_seconds_meanwhile": {"worker-0": 9.0},
        "exactly_once": True,
    },
    "storm": {
        "workers": 2,
        "clients": 10_000,
        "live": 1_000,
        "missed": 30,
        "storms": {
            variant: {
                "seconds_until_last": {"upgraded": 2.1, "subscribed": 2.1, "caught_up": 2.5},
                "seconds_until_half": {"upgraded": 1.1, "subscribed": 1.1, "caught_up": 1.9},
                "cpu_us_per_client": {"worker-0": 150.0, "worker-1": 140.5, "generator": 60.0},
                "refused": 0,
                "sessions_resumed": 5_000,
                "gaps": 0,
                "live_delay_ms_before": {"p50": 5.0, "p99": 12.0, "p100": 20.0},
                "live_delay_ms_meanwhile": {"p50": 9.0, "p99": 90.0, "p100": 120.0},
                "exactly_once": True,
                "good": True,
            }
            for variant in ("seen", "fresh", "tls", "tls_sessions")
        },
    },
    "tune": {
        "clients": 2000,
        "rate": 20.0,
        "bytes": 440,
        "foreign": False,
        "rows": [
            {
                "workers": workers,
                "deliveries_per_second": 40_000,
                "cores": CORES,
                "machine_share": 0.6,
                "delay_ms": DELAY,
                "exact": True,
            }
            for workers in (1, 2)
        ],
        "advice": {"workers": 1, "reason": "it is enough", "warnings": ["all cores were busy"]},
    },
}


def document(bench: str) -> dict[str, Any]:
    return {
        "command": [f"{bench}.py", "--seconds", "60", "--out", "somewhere.json"],
        "time": "2026-11-23T21:00:00Z",
        "cpu": "A CPU",
        "cores": 2,
        "kernel": "6.1",
        "python": "3.11.7",
        "packages": {"picows": "2.3.1"},
        "results": RESULTS[bench],
    }


def page(*benches: str) -> str:
    places = [f"<!-- bench {b}: begin -->\nold\n<!-- bench {b}: end -->\n" for b in benches]
    return "# Page\n\n" + "between\n".join(places) + "end\n"


def test_every_renderer_has_an_example() -> None:
    assert sorted(RESULTS) == sorted(RENDERERS)


@pytest.mark.parametrize("bench", sorted(RENDERERS))
def test_section_has_a_whole_table_and_its_source(bench: str) -> None:
    text, plots = report.block(bench, {bench: document(bench)})
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) >= 3
    assert f"    python -m bench.{bench} --seconds 60\n" in text
    assert "2026-11-23: 2 cores, A CPU, Linux 6.1, Python 3.11.7; picows 2.3.1." in text
    for name in plots:
        assert f"](performance/{name})" in text


def test_tables_have_as_many_cells_in_each_row() -> None:
    for bench in RENDERERS:
        lines = RENDERERS[bench](RESULTS[bench]).markdown.splitlines()
        for one, other in pairwise(lines):
            if one.startswith("|") and other.startswith("|"):
                assert one.count("|") == other.count("|"), bench


def test_curve_compares_with_what_was_published() -> None:
    text = RENDERERS["curve"](RESULTS["curve"]).markdown
    assert "| 1,000 | 5.25 | 4.00 | 20.5 | 31.0 | 10.0 | 0.525 | 2 | 0.750 |" in text
    assert "| 3,000 | 5.25 | 4.00 | 20.5 | 31.0 |  |  | 2 |" in text


def test_metrics_have_their_ratio_and_what_a_scrape_costs() -> None:
    text = RENDERERS["metrics"](RESULTS["metrics"]).markdown
    assert "| 2,000 | 440 | 40,000 | 1.010 (0.985–1.030) |" in text
    assert "One scrape: 21,000 bytes in 4.25 ms" in text
    assert "supervisor 3.50 ms, consumer 0.00 ms, worker-0 0.00 ms" in text


def test_deploy_shows_the_ceiling_where_there_is_one() -> None:
    both = RENDERERS["deploy"](RESULTS["deploy"])
    assert "at most 180 connect in a second, 200 may:" in both.markdown
    assert "| drain replica b | 62.5 | 5,000 | 0 | 900 | 2 | 0 | 0 | 0.500 | 0.950 | 1.25 |" in (
        both.markdown
    )
    _, drawing = both.plots["deploy"]
    assert "ceiling" in drawing
    one = RENDERERS["deploy"]({**RESULTS["deploy"], "ceiling": None})
    assert "ceiling" not in one.markdown
    assert one.plots == {}


def test_delay_begins_at_the_append_where_the_broker_tells_it() -> None:
    text = RENDERERS["delay"](RESULTS["delay"]).markdown
    assert "| as shipped | 1000/s | 4.75 |" in text
    assert "| as shipped | 1/s | 5.25 |" in text


def test_peers_that_cost_less_or_cannot_follow_are_told() -> None:
    text = RENDERERS["peers"](RESULTS["peers"]).markdown
    assert "| energyws | 40,000 | 4.00 |  |  | 5.00 |" in text
    assert "| axum | 40,000 | 9.00 | 2.25 | 2.00 |" in text
    assert "| picows | 320,000 (its maximum) (**late**) | 9.00 | 0.900 (**less**) | 2.00 |" in text
    assert "ws was not measured: npm not found on PATH." in text


def test_page_is_filled_again_and_again_with_the_same() -> None:
    results = {"curve": {"curve": document("curve")}}
    (once,), plots = report.render([page("curve", "tune")], results)
    assert "old" not in once
    assert "between" in once
    assert "Not measured yet: `python -m bench.tune --out bench/results/tune.json`" in once
    assert list(plots) == ["curve.svg"]
    assert report.render([once], results) == ([once], plots)


def test_several_results_of_a_bench_stand_below_each_other() -> None:
    results = {"curve": {"curve-four": document("curve"), "curve-two": document("curve")}}
    (text,), plots = report.render([page("curve")], results)
    assert text.index("curve-four.svg") < text.index("curve-two.svg")
    assert sorted(plots) == ["curve-four.svg", "curve-two.svg"]


def test_results_without_a_place_are_refused() -> None:
    with pytest.raises(ValueError, match="no page has a place for the results of curve"):
        report.render([page("tune"), page("delay")], {"curve": {"curve": document("curve")}})


def test_place_of_no_bench_is_refused() -> None:
    with pytest.raises(ValueError, match="'nothing', which has no renderer"):
        report.render([page("nothing")], {})


def test_places_may_be_on_different_pages() -> None:
    results = {name: {name: document(name)} for name in ("curve", "idle")}
    (first, second), _ = report.render([page("curve"), page("idle")], results)
    assert "bench.curve --seconds" in first
    assert "bench.idle --seconds" in second


def test_place_of_unknown_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="'nothing', which nobody knows"):
        report.render([page("nothing").replace("bench", "figures")], {})


def test_pages_that_contradict_themselves_are_not_written() -> None:
    tried = document("tune")
    tried["results"] = {**tried["results"], "bytes": 1138}
    fanout = document("fanout")
    fanout["results"] = {"fanout": [{**RESULTS["fanout"]["fanout"][0], "worker_us": 30.0}]}
    results = {"tune": {"tune": tried}, "fanout": {"fanout": fanout}}
    with pytest.raises(ValueError, match="the formula says 2, but 1 left headroom when tried"):
        report.render([page("tune", "fanout")], results)


def test_command_writes_and_checks(tmp_path: Path) -> None:
    results, plots, path = tmp_path / "results", tmp_path / "plots", tmp_path / "page.md"
    results.mkdir()
    (results / "curve.json").write_bytes(orjson.dumps(document("curve")))
    path.write_text(page("curve"))
    where = [f"--page={path}", f"--results={results}", f"--plots={plots}"]
    assert report.main([*where, "--check"]) == 1
    assert report.main(where) == 0
    assert report.main([*where, "--check"]) == 0
    (plots / "stray.svg").write_text("")
    assert report.main([*where, "--check"]) == 1
    assert report.main(where) == 0
    assert sorted(file.name for file in plots.iterdir()) == ["curve.svg"]


def test_pages_in_the_repository_are_what_their_results_give() -> None:
    assert report.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (0, "0"),
        (1_234_567.8, "1,234,568"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.01234, "0.012"),
    ],
)
def test_figures_have_few_digits(value: float | None, text: str) -> None:
    assert figure(value) == text


def test_command_can_be_pasted() -> None:
    ran = {"command": ["delay.py", "--setting", "as shipped", "--out=x.json", "--plot", "y.svg"]}
    assert report.command(ran) == "python -m bench.delay --setting 'as shipped'"


def test_cells_may_hold_a_bar() -> None:
    assert table(["a", "b"], [["x|y", "1"]]) == "| a | b |\n|---|---:|\n| x\\|y | 1 |\n"
