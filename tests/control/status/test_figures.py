"""Figures as short text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.control.status.figures import (
    bound,
    count,
    duration,
    io_uring,
    percent,
    rate,
    size,
    whole,
)
from energyws.control.status.model import UpperBound, view
from energyws.process.board import Field
from energyws.process.io_uring import IoUring
from tests.control.documents import Child, document


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0, "0"),
        (1234, "1,234"),
        (99_999, "99,999"),
        (100_000, "100k"),
        (999_499, "999k"),
        (999_500, "1.00M"),
        (1_234_567, "1.23M"),
        (45_600_000_000, "45.6G"),
    ],
)
def test_count(value: float | None, text: str) -> None:
    assert count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (0.04, "0.0"), (9.9, "9.9"), (9.96, "10"), (1234.4, "1,234")],
)
def test_rate(value: float | None, text: str) -> None:
    assert rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1536, "1.50 KiB"),
        (77_800_000, "74.2 MiB"),
        (1 << 30, "1.00 GiB"),
    ],
)
def test_size(value: float | None, text: str) -> None:
    assert size(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.0, "0 s"),
        (0.00025, "250 µs"),
        (0.0025, "2.5 ms"),
        (0.1, "100 ms"),
        (0.0009995, "1 ms"),
        (0.9996, "1 s"),
        (1.5, "1.5 s"),
        (59.96, "60 s"),
        (250.0, "4 m 10 s"),
        (11_220.0, "3 h 7 m"),
        (1_048_000.0, "12 d 3 h"),
    ],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_bound_and_percent() -> None:
    assert [bound(None), bound(UpperBound(0.01)), bound(UpperBound(1.0, beyond=True))] == [
        *("–", "10 ms", ">1 s")
    ]
    assert [percent(None), percent(0.004), percent(1.5)] == ["–", "0%", "150%"]


@given(st.floats(min_value=0, max_value=1e15))
def test_figures_fit_their_columns(value: float) -> None:
    assert len(count(value)) <= 6
    assert len(rate(value)) <= 6
    assert len(size(value)) <= 8


@given(st.floats(min_value=0, max_value=86_400 * 1000 - 1))
def test_durations_fit_their_columns(seconds: float) -> None:
    assert len(duration(seconds)) <= 10
    if seconds < 60:
        assert len(duration(seconds)) <= 7


def test_whole_seconds() -> None:
    assert [whole(None), whole(1.9), whole(0.0)] == [None, 1.0, 0.0]


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ([], "io_uring not known yet"),
        ([IoUring.UNKNOWN], "io_uring not known yet"),
        ([IoUring.IN_USE, IoUring.IN_USE], "io_uring in use"),
        ([IoUring.IN_USE, IoUring.UNKNOWN], "io_uring in use"),
        ([IoUring.OFF], "io_uring not used: server.io_uring is off"),
        (
            [IoUring.OFF, IoUring.IN_USE, IoUring.OFF],
            "io_uring in use (worker-1) · not used: server.io_uring is off (worker-0, worker-2)",
        ),
    ],
)
def test_whether_workers_use_io_uring(said: list[IoUring], text: str) -> None:
    workers = [
        Child(f"worker-{slot}", fields={Field.IO_URING: each}) for slot, each in enumerate(said)
    ]
    assert io_uring(view(document(1.0, [Child("consumer"), *workers]))) == text
