"""Who takes how much, counted over all workers without a lock.

Each worker has an array of cells for each `Kind`, of which it is the one writer; a reader adds up
the cells of all workers. A client's cell follows from a keyed hash of its name: an address, a
subject or a token. The supervisor makes the key, so nobody outside can aim at another one's cell.

Clients that share a cell share its limit: for `limit` of one client, of at most `all` connections,
at most `all / limit` cells are full, so an honest client meets one of them with a probability of
at most `all / limit / CELLS`. docs/security.md says what that amounts to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from enum import IntEnum
from typing import Final


class Kind(IntEnum):
    """What is counted. The first four are levels, the others amounts within a second."""

    ADDRESS = 0
    SUBJECT = 1
    TOKEN = 2
    PENDING = 3
    ARRIVALS = 4
    MESSAGES = 5
    REPLAYED = 6


CELL_BITS: Final = 14
CELLS: Final = 1 << CELL_BITS
# The cells of one worker.
ROW_CELLS: Final = len(Kind) * CELLS
# A second's cell: its number in the upper bits, the amount in the lower ones.
_AMOUNT_BITS: Final = 32
_MOST: Final = (1 << _AMOUNT_BITS) - 1
_SECONDS: Final = (1 << 31) - 1
_MASK: Final = CELLS - 1
# As plain numbers, which are faster than members of Kind.
_SUBJECTS: Final = Kind.SUBJECT.value * CELLS
_TOKENS: Final = Kind.TOKEN.value * CELLS


# In place of a token's cell: it is not counted.
NO_TOKEN: Final = CELLS


def pack(address: int, subject: int, token: int) -> int:
    """The cells of a connection in one number, which is all that it keeps of them."""
    return token << 2 * CELL_BITS | subject << CELL_BITS | address


def subject_of(packed: int) -> int:
    """The cell of a connection's subject."""
    return packed >> CELL_BITS & _MASK


def token_of(packed: int) -> int:
    """The cell of a connection's token."""
    return packed >> 2 * CELL_BITS


class Usage:
    """The cells of all workers, and of one of them to write.

    cells: ROW_CELLS of 64 bits for each row. row: that of the writer. rows: how many rows may have
    been written.
    """

    __slots__ = ("_base", "_cells", "_key", "_rows")

    def __init__(
        self, cells: memoryview[int], row: int, key: bytes, rows: Callable[[], int]
    ) -> None:
        self._cells = cells
        self._base = row * ROW_CELLS
        self._key = key
        self._rows = rows

    def cell(self, name: str) -> int:
        """The number of a client's cell, the same in all workers: 0 <= cell < CELLS."""
        data = name.encode("utf-8", "surrogatepass")
        digest = hashlib.blake2b(data, digest_size=2, key=self._key).digest()
        return int.from_bytes(digest) >> (16 - CELL_BITS)

    def add(self, kind: int, cell: int, amount: int) -> None:
        """Change a level."""
        self._cells[self._base + kind * CELLS + cell] += amount

    def add_connection(self, packed: int, amount: int) -> None:
        """Change the three levels of a connection. packed: as `pack` has made it."""
        cells, base = self._cells, self._base
        cells[base + (packed & _MASK)] += amount
        cells[base + _SUBJECTS + (packed >> CELL_BITS & _MASK)] += amount
        token = packed >> 2 * CELL_BITS
        if token != NO_TOKEN:
            cells[base + _TOKENS + token] += amount

    def level(self, kind: Kind, cell: int) -> int:
        """A level, over all workers."""
        return sum(self._of_all(kind, cell))

    def spend(self, kind: Kind, cell: int, amount: int, now: float) -> None:
        """Add to an amount of this second. now: monotonic seconds."""
        second = int(now) & _SECONDS
        place = self._base + kind * CELLS + cell
        before = self._cells[place]
        spent = before & _MOST if before >> _AMOUNT_BITS == second else 0
        self._cells[place] = second << _AMOUNT_BITS | min(spent + amount, _MOST)

    def spent(self, kind: Kind, cell: int, now: float) -> int:
        """An amount of this second, over all workers."""
        second = int(now) & _SECONDS
        found = self._of_all(kind, cell)
        return sum(each & _MOST for each in found if each >> _AMOUNT_BITS == second)

    def _of_all(self, kind: Kind, cell: int) -> memoryview[int]:
        return self._cells[kind * CELLS + cell : self._rows() * ROW_CELLS : ROW_CELLS]
