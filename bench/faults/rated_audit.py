"""Checks a client that takes the newest record of each key at most so often. No I/O.

A position says less here: what is before it has come, or a later record supersedes it, which has
come or comes later. `conflated` counts the latter: at each `position`, all of them since the last.
"""

from __future__ import annotations

import sys

from bench.faults.audit import Audit
from energyws.protocol.position import Position, parse

# Partition and number of a record.
Place = tuple[int, int]


class RatedAudit(Audit):
    """As Audit. What is wrong with a count shows at the next `position` only."""

    def settled(self) -> None:
        if self._told is not None and self._due is not None:
            for key, places in self._missing(self._case.log.past(self._told)).items():
                self._gaps("the end", self._not_superseded(key, places))

    def _anew(self) -> None:
        super()._anew()
        self._begin()

    def _begin(self) -> None:
        """Begin to count at the position that it was told."""
        self._came: set[Place] = set()
        # Of these, the last number of a key in a partition.
        self._last: dict[tuple[str, int], int] = {}
        self._conflated = 0
        # Whether the count is known: not after a loss.
        self._counts = True

    def _connect(self, keys: list[str], resume: str | None, rated: bool = False) -> None:
        if self._due is not None and resume is not None:
            # The connection may have ended before the rest of a write.
            self._gaps("its resume", self._left_out(parse(resume)))
        super()._connect(keys, resume, rated)
        if self._told is not None:
            self._due = self._case.log.past(self._told)
        self._begin()

    def _position(self, text: str, conflated: int = 0) -> None:
        position = parse(text)
        if self._snapshots is not None:
            self._end_snapshot(position)
        elif self._due is None:
            self._problem("`position` before that of the snapshot")
        else:
            self._conflated += conflated
            count = sum(map(len, self._missing(self._case.log.past(position)).values()))
            if self._counts and count != self._conflated:
                self._problem(f"{self._conflated} records superseded until {text}, not {count}")
            self._advance("`position`", position)
        self._begin()

    def _record(self, what: str, place: Place, key: str, position: Position) -> None:
        partition, number = place
        if place in self._came:
            self._again(what)
        elif number < self._last.get((key, partition), -1):
            self._case.verdict.reorderings += 1
            self._problem(f"{what}: it came after a newer record of its key")
        self._came.add(place)
        self._last[key, partition] = number
        self._tell(position)
        self._expect_covered(what, place, position)

    def _lagged(self, reason: str, missed: int | None, text: str) -> None:
        super()._lagged(reason, missed, text)
        self._begin()
        self._counts = False

    def _left_out(self, position: Position) -> list[Place]:
        past = self._case.log.past(position)
        end = [sys.maxsize] * len(past)
        return [
            place
            for key, places in self._missing(past).items()
            # What comes later may supersede them.
            if not any(number >= past[p] for p, number in self._case.log.newest(key, end))
            for place in self._not_superseded(key, places)
        ]

    def _missing(self, past: list[int]) -> dict[str, list[Place]]:
        """By key: what it wants and did not get, from where it was told that it is."""
        assert self._due is not None
        return {
            key: [
                (partition, number)
                for partition, due in enumerate(self._due)
                for number in self._case.log.wanted([key], partition, due, past[partition])
                if (partition, number) not in self._came
            ]
            for key in self._keys
        }

    def _not_superseded(self, key: str, places: list[Place]) -> list[Place]:
        """Those without a newer record that came; of two partitions, either may have it."""
        elsewhere = {partition for one, partition in self._last if one == key}
        return [
            (partition, number)
            for partition, number in places
            if number > self._last.get((key, partition), -1) and not elsewhere - {partition}
        ]
