"""What a ring has of one partition: where its records are among the entries."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final

# The room of entries that have left is given back when it is this many, and half of all.
SPARE: Final = 1_024


class RingPartition:
    """For each entry three numbers: its record's offset, its index, and the head before it came.

    All three rise, so they are found by bisection. In a deque that would take longer the larger it
    is, since it goes to the middle in steps of 64; in a list, dropping the first takes longer. So
    entries that have left stay in front of `begin`, until they are many.

    floor: the earliest offset that can be resumed from completely. head: the one after the newest.
    """

    __slots__ = ("_begin", "_heads", "_indexes", "_offsets", "floor", "head")

    def __init__(self, floor: int) -> None:
        self.floor = self.head = floor
        self._begin = 0
        self._offsets, self._indexes, self._heads = array("q"), array("q"), array("q")

    def append(self, offset: int, index: int) -> None:
        """The record at `offset`, at or above the head, is the entry at `index`."""
        self._offsets.append(offset)
        self._indexes.append(index)
        self._heads.append(self.head)
        self.head = offset + 1

    def drop(self) -> None:
        """The oldest entry has left the ring."""
        begin = self._begin
        self.floor = self._offsets[begin] + 1
        self._begin = begin = begin + 1
        if begin >= SPARE and 2 * begin >= len(self._offsets):
            del self._offsets[:begin], self._indexes[:begin], self._heads[:begin]
            self._begin = 0

    def after(self, offset: int) -> tuple[int | None, int]:
        """The index of the first entry at `offset` or above, None without one; and how many."""
        at = bisect_left(self._offsets, offset, self._begin)
        count = len(self._offsets) - at
        return (self._indexes[at] if count else None), count

    def head_at(self, index: int) -> int:
        """The head before the ring had an entry at `index`."""
        at = bisect_left(self._indexes, index, self._begin)
        # Without a further entry, the partition is read up to its head.
        return self._heads[at] if at < len(self._heads) else self.head
