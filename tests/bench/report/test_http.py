from __future__ import annotations

from bench.report.http import first_gauge, sse, visitors
from tests.bench.report.examples import RESULTS


def test_sse_is_compared_with_the_websocket_of_the_same_rounds() -> None:
    text = sse(RESULTS["sse"]).markdown
    assert "2,000 clients, messages of 1,138 B:" in text
    assert "| 40,000 | WebSocket | 7.00 |  | 1,150 | 5.00 | 20.0 |" in text
    assert "| 40,000 | SSE | 7.10 | 1.02 (2.00–2.50) | 1,180 | 5.00 | 20.0 |" in text
    assert "| 40,000 | SSE, TLS |" in text


def test_visitors_are_described_with_the_ratios() -> None:
    text = visitors(RESULTS["visitors"]).markdown
    assert "20 open pages and 50 requests a second, which take 1.50 ms (p50) and 3.25 ms" in text
    assert "0.4% of them were refused with 429:" in text
    assert "| with visitors | 5.50 | 24.0 | 8.00 |" in text
    assert "With ÷ without: p99 2.25 (2.00–2.50), worker's CPU time 2.25 (2.00–2.50)." in text


def test_way_to_the_gauge_has_both_runs_side_by_side() -> None:
    text = first_gauge(RESULTS["first_gauge"]).markdown
    assert "in the second it held nothing either" in text
    assert "| clone | 0.2 | 0.2 | 0.8 | 0.8 |" in text
    assert "| gauge shows a number | 8.5 | 8.8 | 9.0 | 9.8 |" in text
    assert "ended" not in text
