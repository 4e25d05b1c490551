"""What one client has received: holes, duplicates, and the Gaps that were reported to it.

Numbers are dense per partition and never restart, even when the topic is recreated. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class ReportedGap:
    """A Gap that the client received.

    offsets: those of its end position; None if that cannot be parsed. pending: the partitions in
    which no record has arrived since. known: it was in an earlier report.
    """

    reason: str
    missed: int | None
    offsets: tuple[int, ...] | None
    pending: set[int]
    known: bool = False


@dataclass(slots=True)
class Hole:
    """Skipped numbers, `first` to `past` - 1. reported: the Gaps received just before them."""

    partition: int
    first: int
    past: int
    reported: list[ReportedGap]


@dataclass(slots=True)
class Ledger:
    """One client's record. `next`: the number due in each partition."""

    next: list[int]
    frames: int = 0
    holes: list[Hole] = field(default_factory=list)
    reported: list[ReportedGap] = field(default_factory=list)
    # Partition and number of each.
    duplicates: list[tuple[int, int]] = field(default_factory=list)
    reorderings: list[tuple[int, int]] = field(default_factory=list)
    # Other problems, in words.
    corrupt: list[str] = field(default_factory=list)
    refused: str | None = None

    def take(self, partition: int, number: int) -> None:
        self.frames += 1
        due = self.next[partition]
        if number < due:
            self._late(partition, number)
            return
        reported = [gap for gap in self.reported if partition in gap.pending]
        for gap in reported:
            gap.pending.discard(partition)
        if number > due:
            self.holes.append(Hole(partition, due, number, reported))
        self.next[partition] = number + 1

    def add_gap(self, reason: str, missed: int | None, offsets: Sequence[int] | None) -> None:
        pending = set(range(len(self.next)))
        self.reported.append(
            ReportedGap(reason, missed, None if offsets is None else tuple(offsets), pending)
        )

    def forget(self) -> None:
        """Drop everything except for Gaps whose holes may still appear, and their known holes."""
        self.reported = [gap for gap in self.reported if gap.pending]
        for gap in self.reported:
            gap.known = True
        self.holes = [hole for hole in self.holes if any(gap.pending for gap in hole.reported)]
        self.duplicates.clear()
        self.reorderings.clear()
        self.corrupt.clear()

    def report(self) -> dict[str, Any] | None:
        """All problems, as JSON values; None if there are none."""
        wrong = (self.holes, self.reported, self.duplicates, self.reorderings, self.corrupt)
        if not any(wrong) and not self.refused:
            return None
        index = {id(gap): place for place, gap in enumerate(self.reported)}
        return {
            "holes": [
                {
                    "partition": hole.partition,
                    "first": hole.first,
                    "past": hole.past,
                    # A Gap from an earlier report does not explain a second hole.
                    "reported": [index[id(gap)] for gap in hole.reported if id(gap) in index],
                }
                for hole in self.holes
            ],
            "reported": [{**asdict(gap), "pending": sorted(gap.pending)} for gap in self.reported],
            "duplicates": self.duplicates,
            "reorderings": self.reorderings,
            "corrupt": self.corrupt,
            "refused": self.refused,
        }

    def _late(self, partition: int, number: int) -> None:
        for hole in self.holes:
            if hole.partition == partition and hole.first <= number < hole.past:
                self.reorderings.append((partition, number))
                self.holes.remove(hole)
                for first, past in ((hole.first, number), (number + 1, hole.past)):
                    if first < past:
                        self.holes.append(Hole(partition, first, past, hole.reported))
                return
        self.duplicates.append((partition, number))
