"""Who takes how much, counted over all workers without a lock.

Each worker has arrays of cells for each `Kind`, of which it is the one writer; a reader adds up the
cells of all workers. A client's cells follow from its mark, a keyed hash of its name: an address, a
subject or a token. The supervisor makes the key, so nobody outside can aim at another one's cells.

A level has two arrays, and a cell in each; the lower one counts (a count-min sketch: Cormode,
Muthukrishnan, 2005). So an honest client is refused for others only if both of its cells are full
of them: for `limit` of one client, of at most `all` connections, with a probability of at most
`(all / limit / CELLS) ** 2`. docs/security.md says what that amounts to. An amount has one cell: it
is gone within a second.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import IntEnum
from typing import Final


class Kind(IntEnum):
    """What is counted. The first four are levels, the others amounts within a second.

    The first three are those of `pack`, in its order.
    """

    ADDRESS = 0
    SUBJECT = 1
    TOKEN = 2
    PENDING = 3
    ARRIVALS = 4
    MESSAGES = 5
    REPLAYED = 6


CELL_BITS: Final = 14
CELLS: Final = 1 << CELL_BITS
MARK_BITS: Final = 2 * CELL_BITS
# What a worker has, in 64 bits: for each kind one array of amounts, or two of levels, which have 32
# bits each.
ROW_CELLS: Final = len(Kind) * CELLS
# A second's cell: its number in the upper bits, the amount in the lower ones.
_AMOUNT_BITS: Final = 32
_MOST: Final = (1 << _AMOUNT_BITS) - 1
_SECONDS: Final = (1 << 31) - 1
_CELL: Final = CELLS - 1

# In place of a mark: it is not counted.
NO_MARK: Final = -1
# What `pack` makes of three of them.
NOT_COUNTED: Final = 0
# A mark and 1 more, so that NO_MARK is 0.
_PACKED_BITS: Final = MARK_BITS + 1
_PACKED: Final = (1 << _PACKED_BITS) - 1


def pack(address: int, subject: int, token: int) -> int:
    """The marks of a connection in one number, which is all that it keeps of them.

    0 if none is counted.
    """
    return (token + 1 << _PACKED_BITS | subject + 1) << _PACKED_BITS | address + 1


def subject_of(packed: int) -> int:
    """The mark of a connection's subject, or NO_MARK."""
    return (packed >> _PACKED_BITS & _PACKED) - 1


def token_of(packed: int) -> int:
    """The mark of a connection's token, or NO_MARK."""
    return (packed >> 2 * _PACKED_BITS) - 1


class Usage:
    """The cells of all workers, and of one of them to write.

    cells: ROW_CELLS of 64 bits for each row. row: that of the writer. rows: how many rows may have
    been written.
    """

    __slots__ = ("_base", "_cells", "_key", "_levels", "_levels_base", "_rows")

    def __init__(
        self, cells: memoryview[int], row: int, key: bytes, rows: Callable[[], int]
    ) -> None:
        self._cells = cells
        self._levels = cells.cast("B").cast("i")
        self._base = row * ROW_CELLS
        self._levels_base = 2 * self._base
        self._key = key
        self._rows = rows

    def mark(self, name: str) -> int:
        """What stands for a name, the same in all workers: 0 <= mark < 1 << MARK_BITS."""
        data = name.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(data, digest_size=4, key=self._key).digest()
        return int.from_bytes(digest) >> (32 - MARK_BITS)

    def add(self, kind: int, mark: int, amount: int) -> None:
        """Change a level."""
        levels, first = self._levels, self._levels_base + 2 * CELLS * kind
        levels[first + (mark & _CELL)] += amount
        levels[first + CELLS + (mark >> CELL_BITS)] += amount

    def add_connection(self, packed: int, amount: int) -> None:
        """Change the levels of a connection that are counted. packed: as `pack` has made it."""
        kind = Kind.ADDRESS.value
        while packed:
            if mark := packed & _PACKED:
                self.add(kind, mark - 1, amount)
            packed >>= _PACKED_BITS
            kind += 1

    def level(self, kind: Kind, mark: int) -> int:
        """A level, over all workers; at least as much as this mark has alone."""
        first, end = 2 * CELLS * kind, 2 * ROW_CELLS * self._rows()
        one, other = first + (mark & _CELL), first + CELLS + (mark >> CELL_BITS)
        levels, step = self._levels, 2 * ROW_CELLS
        return min(sum(levels[one:end:step]), sum(levels[other:end:step]))

    def spend(self, kind: Kind, mark: int, amount: int, now: float) -> None:
        """Add to an amount of this second. now: monotonic seconds."""
        second = int(now) & _SECONDS
        place = self._base + kind * CELLS + (mark & _CELL)
        before = self._cells[place]
        spent = before & _MOST if before >> _AMOUNT_BITS == second else 0
        self._cells[place] = second << _AMOUNT_BITS | min(spent + amount, _MOST)

    def spent(self, kind: Kind, mark: int, now: float) -> int:
        """An amount of this second, over all workers."""
        second = int(now) & _SECONDS
        first = kind * CELLS + (mark & _CELL)
        found = self._cells[first : self._rows() * ROW_CELLS : ROW_CELLS]
        return sum(each & _MOST for each in found if each >> _AMOUNT_BITS == second)
