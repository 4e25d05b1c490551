from __future__ import annotations

import math
from ctypes import c_float
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.schemas import values


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_shortest_number_is_the_same_in_single_precision(value: float) -> None:
    short = values.float32(value)
    assert c_float(short).value == value
    assert len(f"{abs(short):e}") <= len(f"{abs(value):e}")


def test_what_a_producer_wrote_in_single_precision_is_what_one_reads() -> None:
    assert values.float32(c_float(0.1).value) == 0.1
    assert values.float32(c_float(230.1).value) == 230.1
    assert math.isnan(values.float32(math.nan))
    assert values.float32(-math.inf) == -math.inf


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999)))
def test_time_is_read_as_it_was(at: datetime) -> None:
    at = at.replace(tzinfo=UTC)
    since = at - datetime(1970, 1, 1, tzinfo=UTC)
    micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    text = values.instant(micros * 1000)
    assert text is not None
    assert datetime.fromisoformat(text) == at


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (250_000_000, "1970-01-01T00:00:00.250Z"),
        (1_000, "1970-01-01T00:00:00.000001Z"),
        (253_402_300_800 * 10**9, None),
        (-(2**63) * 10**6, None),
        (2**63 * 10**6, None),
    ],
)
def test_time_has_the_digits_that_it_needs(nanoseconds: int, text: str | None) -> None:
    assert values.instant(nanoseconds) == text


def test_days_and_times_of_day() -> None:
    assert values.day(20_484) == "2026-01-31"
    assert values.day(-719_162) == "0001-01-01"
    assert values.day(-719_163) is None
    assert values.day(2**31) is None
    assert values.time_of_day(86_399 * 10**9 + 5_000_000) == "23:59:59.005"
    assert values.time_of_day(86_400 * 10**9) is None
    assert values.time_of_day(-1) is None


@pytest.mark.parametrize(
    ("unscaled", "scale", "text"),
    [
        (b"", 2, "0.00"),
        (b"\xfb\x2e", 2, "-12.34"),
        (b"\1", 0, "1"),
        (b"\1", 3, "0.001"),
        (b"\1", -2, "100"),
    ],
)
def test_decimal_has_all_its_digits(unscaled: bytes, scale: int, text: str) -> None:
    assert values.decimal(unscaled, scale) == text


def test_numbers_that_json_cannot_express_are_counted_at_any_depth() -> None:
    nested: object = [math.nan, {"a": [-math.inf, 1.0, None, "null"], "b": math.inf}]
    for _ in range(100_000):
        nested = [nested]
    assert values.inexpressible(nested, b"null") == 3
    assert values.inexpressible(nested, b"{}") == 0
    # What is freed by recursion would end this process.
    while isinstance(nested, list) and len(nested) == 1:
        nested = nested.pop()
