"""What is done while memory runs out: the level, how much is freed, and by whom."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.process.cgroup import MemoryUse
from energyws.process.memory_pressure import (
    LEAST_HELD_BYTES,
    MOST_AT_ONCE,
    Level,
    MemoryPressure,
    to_close,
)

LIMIT = 1000


def levels(*used: int, percent: float | None = 90.0) -> list[Level]:
    pressure = MemoryPressure()
    return [pressure.look(MemoryUse(each, LIMIT), percent, 0).level for each in used]


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        ((0, 899), [Level.NONE, Level.NONE]),
        ((900, 949), [Level.REFUSING, Level.REFUSING]),
        ((950, 1200), [Level.CLOSING, Level.CLOSING]),
        # Until enough is free, and no longer.
        ((900, 899, 880, 879), [Level.REFUSING, Level.REFUSING, Level.REFUSING, Level.NONE]),
        ((950, 940, 890, 870), [Level.CLOSING, Level.REFUSING, Level.REFUSING, Level.NONE]),
        ((890, 880), [Level.NONE, Level.NONE]),
    ],
)
def test_level_follows_the_memory_in_use(used: tuple[int, ...], expected: list[Level]) -> None:
    assert levels(*used) == expected


def test_nothing_is_done_without_a_limit_or_a_setting() -> None:
    assert levels(1000, percent=None) == [Level.NONE]
    pressure = MemoryPressure()
    assert pressure.look(MemoryUse(999, LIMIT), 90, 0).level is Level.CLOSING
    assert pressure.look(None, 90, 0) == (Level.NONE, 0)


def test_half_of_what_is_too_much_is_freed_and_what_is_under_way_counts() -> None:
    pressure = MemoryPressure()
    assert pressure.look(MemoryUse(960, LIMIT), 90, 0).bytes == 30
    assert pressure.look(MemoryUse(960, LIMIT), 90, 30).bytes == 15
    assert pressure.look(MemoryUse(960, LIMIT), 90, 60).bytes == 0
    assert pressure.look(MemoryUse(960, LIMIT), 90, 100).bytes == 0
    # Newcomers are refused, but nobody is closed.
    assert pressure.look(MemoryUse(940, LIMIT), 90, 0).bytes == 0


@given(st.integers(1, 16), st.integers(95, 120))
def test_all_workers_together_free_what_is_too_much_and_no_more(workers: int, share: int) -> None:
    unit = 1 << 20
    pressures = [MemoryPressure() for _ in range(workers)]
    freeing = [0] * workers
    use = MemoryUse(share * unit, 100 * unit)
    excess = use.used - 90 * unit
    for _ in range(20):
        for number, pressure in enumerate(pressures):
            freeing[number] += pressure.look(use, 90, sum(freeing)).bytes
    assert excess * 0.99 <= sum(freeing) <= excess


def test_who_holds_most_is_closed_first_and_no_more_than_needed() -> None:
    kib = 1024
    held = [(100 * kib, "a"), (300 * kib, "b"), (200 * kib, "c"), (LEAST_HELD_BYTES - 1, "honest")]
    assert to_close(held, 1) == [(300 * kib, "b")]
    assert to_close(held, 300 * kib) == [(300 * kib, "b")]
    assert [name for _, name in to_close(held, 301 * kib)] == ["b", "c"]
    # Those that read are never closed: it would free nothing.
    assert [name for _, name in to_close(held, 1 << 40)] == ["b", "c", "a"]
    assert to_close(held, 0) == []


def test_only_so_many_are_closed_at_once() -> None:
    held = [(1 << 20, number) for number in range(1_000)]
    assert len(to_close(held, 1 << 40)) == MOST_AT_ONCE
