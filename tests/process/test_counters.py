"""Labelled counters and histograms on a row."""

from __future__ import annotations

from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.process import counters
from energyws.process.board import COLUMNS, Board, Field, Row
from energyws.process.counters import Family, Histogram, quantile


@pytest.fixture
def row() -> Row:
    return Board.create().row(0)


def test_columns_of_all_kinds_fit_in_a_row_without_overlap() -> None:
    kinds = [each for each in vars(counters).values() if isinstance(each, Family | Histogram)]
    ranges = sorted((each.first, each.end) for each in kinds)
    assert ranges[0][0] > max(Field)
    assert all(end <= first for (_, end), (first, _) in pairwise(ranges))
    assert ranges[-1][1] <= COLUMNS


def test_family_counts_by_labels_and_unknown_labels_as_the_last(row: Row) -> None:
    family = Family(60, [("a", "x"), ("b", "x"), ("other", "")])
    family.count(row, "b", "x")
    family.count(row, "b", "x", amount=4)
    family.count(row, "nonsense")
    counted = family.read(row.columns())
    assert counted == {("a", "x"): 0, ("b", "x"): 5, ("other", ""): 1}


def test_observation_counts_in_the_first_bucket_that_holds_it(row: Row) -> None:
    histogram = Histogram(60, (0.5, 1.0))
    for seconds in (0.1, 0.5, 0.7, 2.0):
        histogram.observe(row, seconds)
    counts, total = histogram.read(row.columns())
    assert counts == [2, 1, 1]
    assert total == pytest.approx(3.3)


@given(st.lists(st.floats(0, 20), min_size=1), st.sampled_from([0.5, 0.9, 1.0]))
def test_quantile_is_the_least_bound_with_enough_observations_within_it(
    observed: list[float], share: float
) -> None:
    row = Board.create().row(0)
    bounds = (1.0, 5.0, 10.0)
    histogram = Histogram(60, bounds)
    for seconds in observed:
        histogram.observe(row, seconds)
    counts, _ = histogram.read(row.columns())
    expected = next(
        bound
        for bound in (*bounds, inf)
        if (kept := sum(each <= bound for each in observed)) and kept >= share * len(observed)
    )
    assert quantile(bounds, counts, share) == expected


def test_quantile_of_nothing_is_unknown() -> None:
    assert quantile((1.0,), (0, 0), 0.5) is None
