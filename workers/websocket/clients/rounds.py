"""Rounds in which every connection has one turn, spread evenly over ticks. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Rounds(Generic[T]):
    """tick: seconds between two calls of `turns`."""

    __slots__ = ("_began", "_left", "_size", "_tick")

    def __init__(self, tick: float) -> None:
        self._tick = tick
        self._began = -math.inf
        self._left: list[T] = []
        self._size = 0

    def turns(self, everyone: Iterable[T], now: float, interval: float) -> list[T]:
        """Whose turn it is: each has one in about `interval` seconds, which may change.

        everyone: those that take part in the next round; some may have gone by their turn.
        """
        if not self._left:
            if now < self._began + interval:
                return []
            self._began = now
            self._left = list(everyone)
            self._size = len(self._left)
        count = math.ceil(self._size * self._tick / interval)
        due = self._left[-count:]
        del self._left[-count:]
        return due
