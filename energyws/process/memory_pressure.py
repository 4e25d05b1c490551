"""What a worker does while the memory of its group runs out: pure.

At the first threshold it refuses new clients. Halfway from there to the limit it also closes the
clients that hold most, which are those that do not read. Each worker frees half of what is too much
after what the others are freeing: together never more than that, and not all from one worker.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple, TypeVar

from energyws.process.cgroup import MemoryUse

# Percent of the limit that must have become free before new clients come again.
HYSTERESIS_PERCENT: Final = 2.0
# An honest client has this much under way now and then.
LEAST_HELD_BYTES: Final = 16 * 1024
# Clients that are closed at once.
MOST_AT_ONCE: Final = 64


class Level(IntEnum):
    """CLOSING: it refuses new clients, too."""

    NONE = 0
    REFUSING = 1
    CLOSING = 2


class Step(NamedTuple):
    """bytes: how many to free."""

    level: Level
    bytes: int


class MemoryPressure:
    """Keeps the level between two looks."""

    def __init__(self) -> None:
        self.level = Level.NONE

    def look(self, use: MemoryUse | None, percent: float | None, freeing: int) -> Step:
        """What to do now.

        use: None where nothing limits the memory. percent: of the limit, where new clients are
        refused; None: never. freeing: the bytes that clients hold that have been closed but not
        ended, of all workers.
        """
        if use is None or percent is None:
            self.level = Level.NONE
            return Step(self.level, 0)
        used = 100 * use.used / use.limit
        if used >= (percent + 100) / 2:
            self.level = Level.CLOSING
        elif used >= percent:
            self.level = Level.REFUSING
        elif used < percent - HYSTERESIS_PERCENT:
            self.level = Level.NONE
        else:
            # Not close any more, and not free enough.
            self.level = min(self.level, Level.REFUSING)
        if self.level is not Level.CLOSING:
            return Step(self.level, 0)
        excess = use.used - freeing - use.limit * percent / 100
        return Step(self.level, max(0, int(excess / 2)))


C = TypeVar("C")


def to_close(held: Iterable[tuple[int, C]], wanted: int) -> list[tuple[int, C]]:
    """Those to close so that `wanted` bytes become free: who holds most comes first.

    held: bytes, and the client that holds them.
    """
    slow = [each for each in held if each[0] >= LEAST_HELD_BYTES]
    slow.sort(key=lambda each: -each[0])
    chosen = []
    for each in slow[:MOST_AT_ONCE]:
        if wanted <= 0:
            break
        chosen.append(each)
        wanted -= each[0]
    return chosen
