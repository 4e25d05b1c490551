"""How measurements of streams with keys are shown."""

from __future__ import annotations

from bench.report.sections import RENDERERS
from tests.bench.report.examples import RESULTS


def shown(bench: str) -> str:
    return RENDERERS[bench](RESULTS[bench]).markdown


def test_curve_has_published_figures_where_there_are_some() -> None:
    text = shown("keyed_curve")
    assert "| 10,000 | 1,500,000 | 5.25 | 4.00 | 20.5 | 25.0 | 3.00 | 0 | 19.0 | 2 |" in text
    assert "| 20,000 | 1,500,000 | 5.25 | 4.00 | 20.5 | 25.0 | 3.00 | 0 |  | 2 |" in text
    assert list(RENDERERS["keyed_curve"](RESULTS["keyed_curve"]).plots) == ["keyed_curve"]


def test_households_compare_each_process_with_itself_at_rest() -> None:
    text = shown("households")
    assert "1,212 were for a client; rings of 40,000 frames. 99.995% of the wanted came" in text
    assert "| worker-0 | 40.00% | 0.20% |" in text
    assert "| generator-0 | 50.00% |  |" in text


def test_rollout_tells_what_was_read_again() -> None:
    assert "| 20,000 | 3 | 0 | 0 | 0 | 45.5 | 46.5 | 1.25 |" in shown("rollout")


def test_costs_are_those_of_a_record_and_of_a_key() -> None:
    assert "| 5,000 | 4.50 | 4.00 | 0.500 |" in shown("key_costs")
    assert "| 4,000 | 50 | 11,000 | 280 |" in shown("key_costs")
