from __future__ import annotations

from itertools import pairwise

from bench.report.sections import RENDERERS
from tests.bench.report.examples import RESULTS


def test_every_renderer_has_an_example() -> None:
    assert sorted(RESULTS) == sorted(RENDERERS)


def test_all_rows_of_a_table_have_equally_many_cells() -> None:
    for bench in RENDERERS:
        lines = RENDERERS[bench](RESULTS[bench]).markdown.splitlines()
        for one, other in pairwise(lines):
            if one.startswith("|") and other.startswith("|"):
                assert one.count("|") == other.count("|"), bench


def test_curve_is_compared_with_the_published_figures() -> None:
    text = RENDERERS["curve"](RESULTS["curve"]).markdown
    assert "| 1,000 | 5.25 | 4.00 | 20.5 | 31.0 | 10.0 | 0.525 | 2 | 0.750 |" in text
    assert "| 3,000 | 5.25 | 4.00 | 20.5 | 31.0 |  |  | 2 |" in text


def test_fanout_shows_whether_io_uring_was_used_if_the_results_say_so() -> None:
    (plain, tls) = RESULTS["fanout"]["fanout"]
    before = RENDERERS["fanout"](RESULTS["fanout"]).markdown
    assert "| plain | 2,000 | 1,138 | 20.0 |" in before
    rows = [
        {**plain, "io_uring": "in_use"},
        {**plain, "io_uring": "off"},
        {**tls, "io_uring": "tls"},
    ]
    text = RENDERERS["fanout"]({"fanout": rows}).markdown
    assert "| plain, io_uring in use | 2,000 | 1,138 |" in text
    assert "| plain, io_uring off | 2,000 | 1,138 |" in text
    assert "| TLS | 2,000 | 1,138 |" in text


def test_peers_say_whether_energyws_used_io_uring() -> None:
    first, *others = RESULTS["peers"]["rows"]
    off = {**others[0], "peer": "energyws (io_uring off)"}
    rows = [{**first, "io_uring": "in_use"}, off, *others]
    text = RENDERERS["peers"]({**RESULTS["peers"], "rows": rows}).markdown
    assert "| energyws (io_uring) | 40,000 | 4.00 |  |  | 5.00 |" in text
    assert "| energyws (io_uring off) | 40,000 | 9.00 | 2.25 | 2.00 |" in text


def test_handshake_is_compared_with_the_loop() -> None:
    text = RENDERERS["handshake"](RESULTS["handshake"]).markdown
    assert "2,000 clients of one worker come back together:" in text
    assert "| TLS, session resumed | 480 | 240 | 2.00 (1.90–2.10) | 430 |" in text


def test_metrics_show_the_ratio_and_the_cost_of_a_scrape() -> None:
    text = RENDERERS["metrics"](RESULTS["metrics"]).markdown
    assert "| 2,000 | 440 | 40,000 | 1.010 (0.985–1.030) |" in text
    assert "One scrape: 21,000 bytes in 4.25 ms" in text
    assert "supervisor 3.50 ms, consumer 0.00 ms, worker-0 0.00 ms" in text


def test_deploy_shows_the_ceiling_if_there_is_one() -> None:
    both = RENDERERS["deploy"](RESULTS["deploy"])
    assert "180 connects in the busiest second, ceiling 200:" in both.markdown
    assert "| drain replica b | 62.5 | 5,000 | 0 | 900 | 2 | 0 | 0 | 0.500 | 0.950 | 1.25 |" in (
        both.markdown
    )
    _, drawing = both.plots["deploy"]
    assert "ceiling" in drawing
    one = RENDERERS["deploy"]({**RESULTS["deploy"], "ceiling": None})
    assert "ceiling" not in one.markdown
    assert one.plots == {}


def test_delay_starts_at_the_append_if_the_broker_has_its_time() -> None:
    text = RENDERERS["delay"](RESULTS["delay"]).markdown
    assert "| as shipped | 1000/s | 4.75 |" in text
    assert "| as shipped | 1/s | 5.25 |" in text


def test_peers_that_cost_less_or_do_not_keep_up_are_marked() -> None:
    text = RENDERERS["peers"](RESULTS["peers"]).markdown
    assert "| energyws | 40,000 | 4.00 |  |  | 5.00 |" in text
    assert "| axum | 40,000 | 9.00 | 2.25 | 2.00 |" in text
    assert "| picows | 320,000 (its maximum) (**late**) | 9.00 | 0.900 (**less**) | 2.00 |" in text
    assert "ws was not measured: npm not found on PATH." in text
