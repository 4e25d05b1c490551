"""The charts of the demo's screen."""

from __future__ import annotations

import pytest

from energyws.demo.screen.sparkline import Trace, sparkline


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 3, "   "),
        ([5.0], 3, "  ▁"),
        ([7.0, 7.0], 2, "▁▁"),
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, "▁▂▃▄▅▆▇█"),
        ([99, 0, 70], 2, "▁█"),
        ([0, None, 70], 3, "▁ █"),
        ([1.0, 2.0], 0, ""),
    ],
)
def test_values_are_bars_between_their_lowest_and_highest(
    values: list[float | None], width: int, line: str
) -> None:
    assert sparkline(values, width) == line


def test_reading_belongs_to_the_second_of_its_timestamp() -> None:
    trace = Trace(4)
    trace.add(100.9, 1)
    trace.add(103.0, 4)
    # The two seconds without readings are a hole.
    assert trace.until(104.5) == [1, None, None, 4]
    # Received late.
    trace.add(102.2, 3)
    trace.add(101.5, 2)
    assert trace.until(104.5) == [1, 2, 3, 4]


def test_second_that_has_just_begun_is_left_out() -> None:
    trace = Trace(2)
    trace.add(100, 1)
    trace.add(101, 2)
    assert trace.until(101.9) == [None, 1]


def test_reading_late_by_milliseconds_is_no_hole() -> None:
    trace = Trace(3)
    for timestamp in (100.99, 102.01, 103.0):
        trace.add(timestamp, timestamp)
    assert None not in trace.until(104)


def test_trace_does_not_grow() -> None:
    trace = Trace(10)
    for second in range(1000):
        trace.add(second, second)
    assert len(trace._values) <= 20
    assert trace.until(1000) == list(range(990, 1000))
