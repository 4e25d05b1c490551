"""What a household draws from the grid at any moment of any day.

A house is a fixed set of appliances and a timetable drawn anew for every day, both from its seed:
the same seed and moment always give the same demand. Three phases of 230 V with 25 A fuses.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Final, NamedTuple

_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR
# A charger that balances its load keeps each phase below its fuse (25 A x 230 V = 5,750 W).
_CHARGING_LIMIT_WATTS: Final = 5_500.0
# Compressors draw this much inductive reactive power for each watt.
_COMPRESSOR_LAG: Final = 0.6
# Start and end hour of each part of the day, and the share of it that a heat pump runs.
_HEATING: Final = ((0, 5, 0.12), (5, 9, 0.5), (9, 16, 0.25), (16, 22, 0.4), (22, 24, 0.15))

Phases = tuple[float, float, float]


class Demand(NamedTuple):
    """Per phase: active power in W, and reactive power in var (positive: inductive)."""

    watts: Phases
    var: Phases


class _Load(NamedTuple):
    """One run of an appliance: on for `duty` of every `cycle` seconds, or all the time."""

    phases: tuple[int, ...]
    start: float
    seconds: float
    watts: float
    cycle: float = _DAY
    duty: float = 1.0
    lag: float = 0.0

    def is_on(self, second: float) -> bool:
        since = second - self.start
        return 0 <= since < self.seconds and since % self.cycle < self.duty * self.cycle


class _Day(NamedTuple):
    loads: tuple[_Load, ...]
    car: _Load | None


class House:
    """One household: standby and cold all day, breakfast, dinner, an evening at home; and either
    an electric car that charges in the evening or a heat pump that rests at night."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        traits = random.Random(f"house {seed}")
        self._standby = (traits.uniform(50, 90), traits.uniform(25, 60), traits.uniform(15, 40))
        # The filters of switched power supplies: capacitive, whatever the load.
        self._filters = (
            -traits.uniform(200, 350),
            -traits.uniform(150, 300),
            -traits.uniform(40, 90),
        )
        self._has_car = traits.random() < 0.5
        self._days: dict[int, _Day] = {}

    def demand(self, at: datetime) -> Demand:
        """What the house draws at this local time (a datetime as the house's clocks show it)."""
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        second = (at - midnight) / timedelta(seconds=1)
        today, yesterday = self._day(at.toordinal()), self._day(at.toordinal() - 1)
        watts, var = list(self._standby), list(self._filters)
        for load in today.loads:
            if load.is_on(second):
                for phase in load.phases:
                    watts[phase] += load.watts
                    var[phase] += load.watts * load.lag
        # Yesterday's evening may end after midnight, but only the car takes that long.
        for car, elapsed in ((today.car, second), (yesterday.car, second + _DAY)):
            if car is not None and car.is_on(elapsed):
                room = max(0.0, _CHARGING_LIMIT_WATTS - max(watts))
                for phase in car.phases:
                    watts[phase] += min(car.watts, room)
        return Demand((watts[0], watts[1], watts[2]), (var[0], var[1], var[2]))

    def _day(self, ordinal: int) -> _Day:
        day = self._days.get(ordinal)
        if day is None:
            day = _draw(random.Random(f"day {self._seed} {ordinal}"), self._has_car)
            # Two days in a row are in use at any time.
            self._days = {kept: self._days[kept] for kept in self._days if abs(kept - ordinal) < 2}
            self._days[ordinal] = day
        return day


def _draw(chance: random.Random, has_car: bool) -> _Day:
    def around(hour: float, spread: float = 0.5) -> float:
        return chance.uniform(hour - spread, hour + spread) * _HOUR

    def minutes(low: float, high: float) -> float:
        return chance.uniform(low, high) * 60

    washing_up = around(19.5)
    loads = [
        # Cold, all day: fridge and freezer.
        _Load((0,), 0, _DAY, 95, minutes(40, 55), 0.35, _COMPRESSOR_LAG),
        _Load((1,), 0, _DAY, 80, minutes(60, 75), 0.4, _COMPRESSOR_LAG),
        # Breakfast: light, kettle and hob.
        _Load((1,), around(6.7), minutes(60, 90), chance.uniform(90, 160)),
        _Load((1,), around(6.8), minutes(2, 4), 2_000),
        _Load((2,), around(7.0), minutes(6, 12), 1_400, 20, 0.6),
        # Dinner: hob and oven, then a dishwasher that heats first and washes on.
        _Load((2,), around(17.8), minutes(25, 50), 1_800, 30, 0.65),
        _Load((0,), around(17.7), minutes(30, 60), 2_300, 90, 0.5),
        _Load((2,), washing_up, minutes(14, 20), 1_900),
        _Load((2,), washing_up, minutes(70, 90), 110),
        # Light and screens until bedtime.
        _Load((1,), around(16.8), minutes(320, 380), chance.uniform(180, 320)),
    ]
    if chance.random() < 0.4:
        laundry = around(11, 2)
        loads.append(_Load((0,), laundry, minutes(15, 25), 2_000))
        loads.append(_Load((0,), laundry, minutes(80, 110), 150))
    if has_car:
        power = chance.choice((2_300, 3_600))
        car = _Load((0, 1, 2), around(19.5, 1), minutes(90, 240), power)
        return _Day(tuple(loads), car if chance.random() < 0.7 else None)
    watts, cycle = chance.uniform(450, 650), minutes(25, 35)
    for start, end, duty in _HEATING:
        seconds = (end - start) * _HOUR
        loads.append(_Load((0, 1, 2), start * _HOUR, seconds, watts, cycle, duty, _COMPRESSOR_LAG))
    return _Day(tuple(loads), None)
