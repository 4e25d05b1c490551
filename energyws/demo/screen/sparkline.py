"""A meter's last readings as one line of characters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_BARS: Final = "▁▂▃▄▅▆▇█"
# What a client has not received is visible, and unlike the lowest bar.
_HOLE: Final = " "


class Trace:
    """The readings of the last `seconds` seconds, one value for each; in the order of any arrival.

    A reading belongs to the second of its timestamp, so the readings that a client receives late
    fill the hole that its pause has left.
    """

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._values: dict[int, float] = {}

    def add(self, timestamp: float, value: float) -> None:
        """Take a reading with a timestamp in Unix seconds."""
        self._values[int(timestamp)] = value
        if len(self._values) > 2 * self._seconds:
            newest = max(self._values)
            self._values = {
                second: value
                for second, value in self._values.items()
                if second > newest - self._seconds
            }

    def until(self, now: float) -> list[float | None]:
        """The values of `seconds` seconds, the newest last; None: none received.

        now: Unix seconds. The second that has just begun is left out: its reading is yet to come.
        A meter that reads once a second may miss one by milliseconds; its neighbour stands for it.
        """
        end = int(now)
        values = self._values
        return [
            values.get(second, values.get(second - 1) if second + 1 in values else None)
            for second in range(end - self._seconds, end)
        ]


def sparkline(values: Sequence[float | None], width: int) -> str:
    """The newest `width` values, one character each; from the lowest to the highest of them."""
    shown = [*[None] * max(0, width - len(values)), *values[max(0, len(values) - width) :]]
    known = [value for value in shown if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    # One step for equal values, which are no reason for a bar of full height.
    step = (high - low) / (len(_BARS) - 1) or 1.0
    return "".join(_HOLE if v is None else _BARS[round((v - low) / step)] for v in shown)
