"""What a house draws: always the same for a seed and a moment, and like a household's day."""

from __future__ import annotations

from datetime import datetime, timedelta
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energyws.demo.house import House

SEEDS = st.integers(0, 2**32)
MOMENTS = st.datetimes(datetime(2000, 1, 2), datetime(2100, 1, 1))
FUSE_WATTS = 25 * 230


def watts(house: House, day: datetime, start: float, end: float) -> list[float]:
    """The total in W at every minute between two hours of a day."""
    moments = (day + timedelta(hours=start, minutes=n) for n in range(round((end - start) * 60)))
    return [sum(house.demand(moment).watts) for moment in moments]


@given(SEEDS, st.lists(MOMENTS, min_size=1, max_size=5))
def test_demand_depends_on_seed_and_moment_alone(seed: int, moments: list[datetime]) -> None:
    used = House(seed)
    for moment in moments:
        assert used.demand(moment) == House(seed).demand(moment)


@given(SEEDS, MOMENTS)
def test_every_phase_stays_between_standby_and_its_fuse(seed: int, moment: datetime) -> None:
    for phase in House(seed).demand(moment).watts:
        assert 15 <= phase < FUSE_WATTS


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.dates(datetime(2020, 1, 1).date(), datetime(2030, 1, 1).date()))
def test_evening_draws_most_and_the_small_hours_least(seed: int, date: datetime) -> None:
    day = datetime(date.year, date.month, date.day)
    house = House(seed)
    night = mean(watts(house, day, 2, 5))
    assert night < mean(watts(house, day, 6.5, 8.5))
    assert night * 2 < mean(watts(house, day, 17, 21))


@pytest.mark.parametrize("seed", range(4))
def test_days_differ(seed: int) -> None:
    house = House(seed)
    monday = datetime(2026, 1, 12)
    assert watts(house, monday, 17, 19) != watts(house, monday + timedelta(days=1), 17, 19)


def test_some_houses_charge_a_car_and_some_do_not() -> None:
    day = datetime(2026, 1, 12)
    peaks = [
        max(max(watts(House(seed), day + timedelta(days=n), 18, 24)) for n in range(7))
        for seed in range(12)
    ]
    assert sum(peak > 6_900 for peak in peaks) >= 2
    assert sum(peak < 6_900 for peak in peaks) >= 2


def test_charging_goes_on_after_midnight_and_ends() -> None:
    house = next(
        house
        for house in map(House, range(200))
        if sum(house.demand(datetime(2026, 1, 13, 0, 1)).watts) > 6_000
    )
    assert sum(house.demand(datetime(2026, 1, 12, 23, 59)).watts) > 6_000
    assert max(watts(house, datetime(2026, 1, 13), 2, 5)) < 1_000
