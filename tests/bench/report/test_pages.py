from __future__ import annotations

import pytest

from bench.report import pages
from bench.report.sections import RENDERERS
from tests.bench.report.examples import RESULTS, document, page


@pytest.mark.parametrize("bench", sorted(RENDERERS))
def test_section_has_a_whole_table_and_its_source(bench: str) -> None:
    text, plots = pages.block(bench, {bench: document(bench)})
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) >= 3
    assert f"    python -m bench.{bench} --seconds 60\n" in text
    assert "2026-11-23: 2 cores, A CPU, Linux 6.1, Python 3.11.7; picows 2.3.1." in text
    for name in plots:
        assert f"](performance/{name})" in text


def test_filling_a_page_twice_gives_the_same_page() -> None:
    results = {"curve": {"curve": document("curve")}}
    (once,), plots = pages.render([page("curve", "tune")], results)
    assert "old" not in once
    assert "between" in once
    assert "Not measured yet: `python -m bench.tune --out bench/results/tune.json`" in once
    assert list(plots) == ["curve.svg"]
    assert pages.render([once], results) == ([once], plots)


def test_several_results_of_a_bench_follow_each_other() -> None:
    results = {"curve": {"curve-four": document("curve"), "curve-two": document("curve")}}
    (text,), plots = pages.render([page("curve")], results)
    assert text.index("curve-four.svg") < text.index("curve-two.svg")
    assert sorted(plots) == ["curve-four.svg", "curve-two.svg"]


def test_results_without_a_place_are_refused() -> None:
    with pytest.raises(ValueError, match="no page has a place for the results of curve"):
        pages.render([page("tune"), page("delay")], {"curve": {"curve": document("curve")}})


def test_place_of_an_unknown_bench_is_refused() -> None:
    with pytest.raises(ValueError, match="'nothing', which has no renderer"):
        pages.render([page("nothing")], {})


def test_places_may_be_on_different_pages() -> None:
    results = {name: {name: document(name)} for name in ("curve", "idle")}
    (first, second), _ = pages.render([page("curve"), page("idle")], results)
    assert "bench.curve --seconds" in first
    assert "bench.idle --seconds" in second


def test_place_of_unknown_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="'nothing', which are unknown"):
        pages.render([page("nothing").replace("bench", "figures")], {})


def test_contradicting_results_are_refused() -> None:
    tried = document("tune")
    tried["results"] = {**tried["results"], "bytes": 1138}
    fanout = document("fanout")
    fanout["results"] = {"fanout": [{**RESULTS["fanout"]["fanout"][0], "worker_us": 30.0}]}
    results = {"tune": {"tune": tried}, "fanout": {"fanout": fanout}}
    with pytest.raises(ValueError, match="the formula gives 2, but 1 left headroom when measured"):
        pages.render([page("tune", "fanout")], results)


def test_command_is_quoted_for_the_shell() -> None:
    ran = {"command": ["delay.py", "--setting", "as shipped", "--out=x.json", "--plot", "y.svg"]}
    assert pages.command(ran) == "python -m bench.delay --setting 'as shipped'"
