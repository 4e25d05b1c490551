"""The number of connections that workers shed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.control.policy.balance import share, surplus


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        ({}, {}),
        ({"a": 10}, {}),
        ({"a": 0, "b": 0}, {}),
        ({"a": 1, "b": 0}, {}),
        ({"a": 11, "b": 9}, {}),
        ({"a": 20, "b": 0}, {"a": 10}),
        ({"a": 100, "b": 0, "c": 0, "d": 0}, {"a": 75}),
        ({"a": 60, "b": 60, "c": 0}, {"a": 20, "b": 20}),
    ],
)
def test_surplus(loads: dict[str, int], expected: dict[str, int]) -> None:
    assert surplus(loads) == expected


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 10_000), max_size=8))
def test_no_worker_sheds_below_its_share(loads: dict[str, int]) -> None:
    for name, count in surplus(loads).items():
        assert count > 0
        assert loads[name] - count == share(loads)
