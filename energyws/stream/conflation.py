"""At most so often the newest record of each key: what waits for its turn, and whose turn it is.

Times are monotonic seconds.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Final, Generic, TypeVar

from energyws.protocol.frame import payload
from energyws.protocol.keys import EVERYBODY, key_of
from energyws.protocol.position import Position

# A client gets its frames early if so many bytes wait for it: they may be kept for it alone.
MOST_BYTES: Final = 64 * 1024
NO_INDEX: Final = -1

T = TypeVar("T")


class Pending:
    """What one subscription gets in its next turn; turns are at least `interval` seconds apart.

    frames: the newest one of each key, in the order in which they came. start: while there are any,
    where its client is: the index in the ring (NO_INDEX: in the log), and the position. conflated:
    how many frames newer ones have superseded since its client was told of them. due_at: when its
    next turn may be.
    """

    __slots__ = ("conflated", "due_at", "frames", "interval", "size", "start")

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.frames: dict[bytes | None, bytes] = {}
        self.size = 0
        self.start: tuple[int, Position] | None = None
        self.conflated = 0
        self.due_at = 0.0

    @property
    def is_full(self) -> bool:
        """Whether it does not wait until it is due."""
        return self.size >= MOST_BYTES

    def add(self, frames: Iterable[bytes]) -> None:
        """These have come, in this order."""
        for frame in frames:
            key = key_of(payload(frame))
            # No gap supersedes another.
            name = frame if key == EVERYBODY else key
            older = self.frames.pop(name, None)
            if older is not None:
                self.size -= len(older)
                self.conflated += 1
            self.frames[name] = frame
            self.size += len(frame)

    def add_of_log(
        self, frames: Sequence[bytes], superseded: int, start: Position, now: float
    ) -> Sequence[bytes]:
        """These come in the log after `start`, and have superseded so many; returns what is due.

        The first of them waits, too: what comes soon is newer.
        """
        if frames and self.start is None:
            self.start = NO_INDEX, start
            self.due_at = now + self.interval
        self.add(frames)
        self.conflated += superseded
        if self.start is None or (now < self.due_at and not self.is_full):
            return ()
        due, self.conflated = self.take(now)
        return due

    def take(self, now: float) -> tuple[list[bytes], int]:
        """The frames, and how many they have superseded: its client gets them now."""
        taken = list(self.frames.values()), self.conflated
        self.drop()
        self.due_at = now + self.interval
        return taken

    def drop(self) -> None:
        """Its client gets nothing of it: it begins again where it was."""
        self.frames = {}
        self.size = self.conflated = 0
        self.start = None


class Alarms(Generic[T]):
    """Things to look at, each at a time. Nothing is taken back: it may be in vain."""

    __slots__ = ("_heap", "_number")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []
        self._number = count()

    @property
    def next_at(self) -> float:
        """The time of the first; infinite where there is none."""
        return self._heap[0][0] if self._heap else float("inf")

    def add(self, at: float, thing: T) -> None:
        heapq.heappush(self._heap, (at, next(self._number), thing))

    def take(self, now: float, most: int) -> list[T]:
        """Those whose time has come, the earliest first."""
        taken: list[T] = []
        while len(taken) < most and self._heap and self._heap[0][0] <= now:
            taken.append(heapq.heappop(self._heap)[2])
        return taken
