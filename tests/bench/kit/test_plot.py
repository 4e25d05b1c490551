from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.kit.plot import HEIGHT, WIDTH, decades, line_chart, nice_ticks, number, stacked

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("top", "ticks"),
    [
        (0, [0, 1]),
        (1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (7, [0, 2, 4, 6, 8]),
        (50_000, [0, 10_000, 20_000, 30_000, 40_000, 50_000]),
        (787, [0, 200, 400, 600, 800]),
    ],
)
def test_ticks_are_round_and_reach_the_top(top: float, ticks: list[float]) -> None:
    assert nice_ticks(top) == pytest.approx(ticks)


@given(st.floats(1e-6, 1e9))
def test_ticks_cover_and_are_few(top: float) -> None:
    ticks = nice_ticks(top)
    assert ticks[0] == 0
    assert ticks[-1] >= top * (1 - 1e-6)
    assert 2 <= len(ticks) <= 7


@pytest.mark.parametrize(
    ("least", "most", "found"),
    [(1, 10, [1, 10]), (2, 30, [1, 10, 100]), (0.5, 0.7, [0.1, 1]), (10, 10, [10, 100])],
)
def test_decades_hold_the_values(least: float, most: float, found: list[float]) -> None:
    assert decades(least, most) == pytest.approx(found)


@pytest.mark.parametrize(
    ("value", "text"), [(50_000, "50,000"), (0.25, "0.25"), (1, "1"), (0, "0")]
)
def test_numbers_read_as_in_prose(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("logarithmic", [False, True])
def test_chart_is_one_line_per_series_within_its_frame(logarithmic: bool) -> None:
    chart = line_chart(
        "A < B & C",
        "clients",
        "ms",
        {"mean": [(1, 10), (8, 33)], "p99": [(1, 20), (8, 250)]},
        logarithmic=logarithmic,
    )
    root = ElementTree.fromstring(chart)
    lines = [line.attrib["points"].split() for line in root.iter(f"{SVG}polyline")]
    assert [len(line) for line in lines] == [2, 2]
    for point in (point for line in lines for point in line):
        x, y = map(float, point.split(","))
        assert 0 <= x <= WIDTH
        assert 0 <= y <= HEIGHT
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"A < B & C", "clients", "ms", "mean", "p99"} <= set(texts)


def test_higher_values_are_drawn_higher() -> None:
    chart = line_chart("t", "x", "y", {"s": [(0, 1), (1, 2)]})
    line = next(ElementTree.fromstring(chart).iter(f"{SVG}polyline"))
    low, high = (float(point.split(",")[1]) for point in line.attrib["points"].split())
    assert high < low


def test_points_that_cannot_be_drawn_are_left_out() -> None:
    chart = line_chart("t", "x", "y", {"s": [(0, 0), (1, 2), (2, float("nan"))]}, logarithmic=True)
    line = next(ElementTree.fromstring(chart).iter(f"{SVG}polyline"))
    assert len(line.attrib["points"].split()) == 1


def test_chart_without_points_is_refused() -> None:
    with pytest.raises(ValueError, match="no points"):
        line_chart("t", "x", "y", {"s": []})


def test_stacked_charts_are_one_picture_as_high_as_both() -> None:
    chart = line_chart("t", "x", "y", {"s": [(1, 1)]})
    root = ElementTree.fromstring(stacked([chart, chart]))
    assert root.attrib["height"] == str(2 * HEIGHT)
    assert len(list(root.iter(f"{SVG}circle"))) == 2
