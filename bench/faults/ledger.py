"""The account of what one client has received: holes, repetitions, and the Gaps it was told.

Numbers are dense per partition and never restart, also when the topic is created again. No I/O.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(slots=True)
class Told:
    """A Gap that the client was told of.

    offsets: of its end position, None where that cannot be parsed. pending: the partitions in which
    no record has arrived since. known: an earlier report had it already.
    """

    reason: str
    missed: int | None
    offsets: tuple[int, ...] | None
    pending: set[int]
    known: bool = False


@dataclass(slots=True)
class Hole:
    """Skipped numbers, from `first` up to but excluding `past`. told: the Gaps just before them."""

    partition: int
    first: int
    past: int
    told: list[Told]


@dataclass(slots=True)
class Ledger:
    """One client's account. `next` is the number due in each partition."""

    next: list[int]
    frames: int = 0
    holes: list[Hole] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    # Partition and number of each.
    duplicates: list[tuple[int, int]] = field(default_factory=list)
    reorderings: list[tuple[int, int]] = field(default_factory=list)
    # What else went wrong, in words.
    corrupt: list[str] = field(default_factory=list)
    refused: str | None = None

    def take(self, partition: int, number: int) -> None:
        self.frames += 1
        due = self.next[partition]
        if number < due:
            self._late(partition, number)
            return
        told = [gap for gap in self.told if partition in gap.pending]
        for gap in told:
            gap.pending.discard(partition)
        if number > due:
            self.holes.append(Hole(partition, due, number, told))
        self.next[partition] = number + 1

    def tell(self, reason: str, missed: int | None, offsets: Sequence[int] | None) -> None:
        pending = set(range(len(self.next)))
        self.told.append(Told(reason, missed, None if offsets is None else tuple(offsets), pending))

    def forget(self) -> None:
        """Drop what was reported, except for Gaps whose holes may still show, and those holes."""
        self.told = [gap for gap in self.told if gap.pending]
        for gap in self.told:
            gap.known = True
        self.holes = [hole for hole in self.holes if any(gap.pending for gap in hole.told)]
        self.duplicates.clear()
        self.reorderings.clear()
        self.corrupt.clear()

    def report(self) -> dict[str, Any] | None:
        """Everything that is wrong, as JSON values; None when nothing is."""
        wrong = (self.holes, self.told, self.duplicates, self.reorderings, self.corrupt)
        if not any(wrong) and not self.refused:
            return None
        index = {id(gap): place for place, gap in enumerate(self.told)}
        return {
            "holes": [
                {
                    "partition": hole.partition,
                    "first": hole.first,
                    "past": hole.past,
                    # A Gap that was reported before explains nothing twice.
                    "told": [index[id(gap)] for gap in hole.told if id(gap) in index],
                }
                for hole in self.holes
            ],
            "told": [{**asdict(gap), "pending": sorted(gap.pending)} for gap in self.told],
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
                        self.holes.append(Hole(partition, first, past, hole.told))
                return
        self.duplicates.append((partition, number))
