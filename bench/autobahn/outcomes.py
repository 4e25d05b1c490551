"""Autobahn's verdicts as a table: counts, and each case that is not simply OK."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

# How many cases; how often each verdict; and [behavior, behaviorClose] of each case that is not
# OK in both, with the close code for those that end with one of ours.
Table = dict[str, Any]


def table(verdicts: Mapping[str, Mapping[str, Any]]) -> Table:
    """The table of one run. verdicts: as in Autobahn's index.json, by case."""
    behaviors = Counter(each["behavior"] for each in verdicts.values())
    closes = Counter(each["behaviorClose"] for each in verdicts.values())
    codes = Counter(str(each["remoteCloseCode"]) for each in verdicts.values())
    return {
        "cases": len(verdicts),
        "behavior": dict(sorted(behaviors.items())),
        "close": dict(sorted(closes.items())),
        "codes": dict(sorted(codes.items())),
        "not OK": {
            case: [each["behavior"], each["behaviorClose"]]
            for case, each in sorted(verdicts.items(), key=lambda item: _order(item[0]))
            if (each["behavior"], each["behaviorClose"]) != ("OK", "OK")
        },
    }


def differences(expected: Table | None, found: Table) -> list[str]:
    """What differs, one line each."""
    if expected is None:
        return ["not in the committed table"]
    lines = [
        f"{key}: expected {expected[key]}, found {found[key]}"
        for key in ("cases", "behavior", "close", "codes")
        if expected[key] != found[key]
    ]
    ours, theirs = expected["not OK"], found["not OK"]
    cases = sorted(ours.keys() | theirs.keys(), key=_order)
    return lines + [
        f"case {case}: expected {_words(ours.get(case))}, found {_words(theirs.get(case))}"
        for case in cases
        if ours.get(case) != theirs.get(case)
    ]


def _words(verdict: list[str] | None) -> str:
    return "OK" if verdict is None else f"{verdict[0]} (close: {verdict[1]})"


def _order(case: str) -> list[int]:
    return [int(part) for part in case.split(".")]
