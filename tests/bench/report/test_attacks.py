from __future__ import annotations

from bench.report.attacks import attacks
from tests.bench.report.examples import RESULTS

EXAMPLE = RESULTS["attacks"]


def test_each_attack_has_a_row_for_each_revision() -> None:
    text = attacks(EXAMPLE).markdown
    assert "20 honest clients of 1 worker, 20 records a second each, limits as" in text
    row = (
        "12.0 → 13.0 | 1.08 | 0.900, 4.00 | 2.00, 30.0 | 0 | 60 / 61 / 60 | 1 / 2 / 1 | 0.20 | 70.0"
    )
    assert f"| refused | abc1234 | {row} | held |" in text
    assert f"| refused | 1234abc | {row} | 2 gaps; p99 × 91.00 |" in text
    assert "each worker has a core of its own; io_uring: in use. Medians of 1 × 3 windows" in text
    assert "| chatter | abc1234 |" in text
    assert "| chatter | 1234abc |" not in text
    assert "| for comparison |" in text
    assert "| refused | anybody | 4 sockets without a valid token" in text


def test_revision_is_left_out_if_there_is_only_one() -> None:
    rows = {name: {"this": found["this"]} for name, found in EXAMPLE["attacks"].items()}
    alone = {**EXAMPLE, "revisions": {"this": "abc1234"}, "attacks": rows}
    text = attacks(alone).markdown
    assert "| refused | 12.0 → 13.0 |" in text
