"""The stats board: what every child tells of itself, readable by all without asking.

One anonymous shared file (memfd), inherited by descriptor; never multiprocessing.shared_memory,
whose tracker unlinks the block when one user leaves (CPython before 3.13). It is a table of
aligned 64-bit integers: one row per child process, one column per `Field`. A row has one writer,
the child it was given to (the supervisor clears it before and after), and an aligned 8-byte store
is not torn on the machines this runs on, so readers need no lock.
"""

from __future__ import annotations

import mmap
import os
from enum import IntEnum
from typing import Final


class State(IntEnum):
    """Where a child is in its life; a row that nobody writes says EMPTY."""

    EMPTY = 0
    STARTING = 1
    READY = 2
    DRAINING = 3


class Field(IntEnum):
    """The columns. Counters only grow during one child's life; the others are levels.

    BEAT counts the child's event-loop heartbeats: what matters is that it moves.
    """

    PID = 0
    STATE = 1
    BEAT = 2
    CONNECTIONS = 3
    HANDSHAKES = 4
    REFUSALS = 5
    FRAMES = 6
    DELIVERIES = 7
    BYTES = 8
    WRITES = 9
    LAGGING = 10
    SKIPPED = 11
    RESYNCS = 12
    BAD_RECORDS = 13
    LOST_RECORDS = 14
    BROKER_UP = 15
    LOOP_DELAY_US = 16
    READ_BACK = 17
    RELOADS = 18
    RELOADS_REFUSED = 19


ROWS: Final = 160
COLUMNS: Final = 32
_CELL: Final = 8


class Board:
    """The whole table, over a descriptor made by `create` or inherited."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._cells = memoryview(mmap.mmap(descriptor, ROWS * COLUMNS * _CELL)).cast("q")

    @classmethod
    def create(cls) -> Board:
        """A new, empty board; its descriptor is inheritable only through `pass_fds`."""
        descriptor = os.memfd_create("energyws-board", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, ROWS * COLUMNS * _CELL)
        return cls(descriptor)

    def row(self, index: int) -> Row:
        """The row at `index`, 0 <= index < ROWS."""
        return Row(self._cells[index * COLUMNS : (index + 1) * COLUMNS])

    def total(self, field: Field) -> int:
        """The sum of one column over all rows."""
        return sum(self._cells[field::COLUMNS])

    def close(self) -> None:
        """Close the descriptor; the memory stays mapped as long as a row of it is held."""
        self._cells.release()
        os.close(self.descriptor)


class Row:
    """One child's cells. `row[Field.X]` reads, `row[Field.X] = n` writes."""

    __slots__ = ("_cells",)

    def __init__(self, cells: memoryview[int]) -> None:
        self._cells = cells

    def __getitem__(self, field: Field) -> int:
        return self._cells[field]

    def __setitem__(self, field: Field, value: int) -> None:
        self._cells[field] = value

    def add(self, field: Field, amount: int = 1) -> None:
        """Add to a cell (its only writer may)."""
        self._cells[field] += amount

    def clear(self) -> None:
        """Set every cell to 0 (nobody else may be writing)."""
        for field in range(COLUMNS):
            self._cells[field] = 0

    def snapshot(self) -> dict[str, int]:
        """Every cell by its lower-case name."""
        return {field.name.lower(): self._cells[field] for field in Field}
