"""Autobahn's verdicts as a table, and the committed one."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from bench.autobahn.__main__ import EXPECTED, RUNS
from bench.autobahn.outcomes import differences, table


def verdict(behavior: str = "OK", close: str = "OK", code: int | None = 1000) -> dict[str, Any]:
    return {"behavior": behavior, "behaviorClose": close, "remoteCloseCode": code}


VERDICTS = {
    "1.1.10": verdict(),
    "1.1.9": verdict("NON-STRICT"),
    "7.1.2": verdict(close="WRONG CODE", code=1002),
}


def test_table_counts_and_lists_what_is_not_ok() -> None:
    assert table(VERDICTS) == {
        "cases": 3,
        "behavior": {"NON-STRICT": 1, "OK": 2},
        "close": {"OK": 2, "WRONG CODE": 1},
        "codes": {"1000": 2, "1002": 1},
        "not OK": {"1.1.9": ["NON-STRICT", "OK"], "7.1.2": ["OK", "WRONG CODE"]},
    }


def test_each_difference_is_named() -> None:
    expected = table(VERDICTS)
    assert differences(expected, expected) == []
    # Where it cannot connect, Autobahn reports one failed case.
    assert len(differences(expected, table({"1.1.1": verdict("FAILED", "FAILED", None)}))) == 7
    better = {**VERDICTS, "7.1.2": verdict()}
    assert differences(expected, table(better))[-1] == (
        "case 7.1.2: expected OK (close: WRONG CODE), found OK"
    )
    assert differences(None, expected) == ["not in the committed table"]


@pytest.mark.parametrize("run", RUNS)
def test_committed_table_has_no_failure(run: str) -> None:
    expected = orjson.loads(EXPECTED.read_bytes())[run]
    if run == "limits":
        assert expected["codes"] == {"1009": 2}
        return
    assert set(expected["behavior"]) <= {"OK", "INFORMATIONAL", "UNIMPLEMENTED"}
    assert set(expected["close"]) <= {"OK", "INFORMATIONAL"}
    # Those with a window of 2^9: docs/protocol.md says that it is declined.
    assert all(case.startswith(("7.1.6", "7.13.", "13.3.", "13.5.")) for case in expected["not OK"])
