from __future__ import annotations

from typing import Any

import pytest

from energyws.testing.conformance.patterns import fill, mismatch, shown


@pytest.mark.parametrize(
    ("pattern", "value"),
    [
        (1, 1),
        (None, None),
        ("a", "a"),
        ({"a": 1}, {"a": 1, "b": 2}),
        ([1, "<any>"], [1, None]),
        ("<string>", ""),
        ("<integer>", 0),
        ("<boolean>", False),
        ("<array>", []),
        ("<object>", {}),
        ("<time>", "2025-12-26T12:34:56.789Z"),
        ({"a": "<absent>"}, {}),
        ({"<one of>": [1, "<string>"]}, "x"),
        ({"{stream}": "{stream}s"}, {"energy": "energys"}),
        ("<unknown>", "<unknown>"),
    ],
)
def test_value_matches(pattern: Any, value: Any) -> None:
    assert mismatch(pattern, value, {"stream": "energy"}) is None


@pytest.mark.parametrize(
    ("pattern", "value", "reason"),
    [
        (1, 2, "wanted 1, got 2"),
        (1, True, "wanted 1, got true"),
        (1, 1.0, "wanted 1, got 1.0"),
        ({"a": {"b": 1}}, {"a": {"b": "1"}}, "a.b: wanted 1, got 1"),
        ({"a": 1}, {}, "a: missing in {}"),
        ({"a": None}, {}, "a: missing in {}"),
        ({"a": 1}, None, "wanted object, got null"),
        ({"a": "<absent>"}, {"a": None}, "a: must not be there"),
        ([1], [1, 2], "wanted a list of 1, got [1, 2]"),
        ([{"a": 1}], [{"a": 2}], "[0].a: wanted 1, got 2"),
        ("<integer>", True, "wanted integer, got true"),
        ("<integer>", 1.0, "wanted integer, got 1.0"),
        ("<time>", "today", "wanted time, got today"),
        ({"<one of>": [1, 2]}, 3, "wanted 1, got 3 or wanted 2, got 3"),
    ],
)
def test_value_does_not_match(pattern: Any, value: Any, reason: str) -> None:
    assert mismatch(pattern, value, {}) == reason


def test_value_gets_a_name() -> None:
    known: dict[str, Any] = {}
    pattern = {"a": {"<one of>": [1, "<string ID>"]}, "b": ["<any B>"]}
    assert mismatch(pattern, {"a": "aa-1", "b": [{"c": 1}]}, known) is None
    assert known == {"ID": "aa-1", "B": {"c": 1}}
    assert fill({"x{ID}": ["after {ID}", 7]}, known) == {"xaa-1": ["after aa-1", 7]}


def test_long_value_is_cut() -> None:
    assert shown(["x" * 999]) == f'["{"x" * 198}…'
