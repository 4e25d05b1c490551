"""The stats board: what every child tells of itself, readable by all without asking.

One anonymous shared file (memfd), inherited by descriptor; never multiprocessing.shared_memory,
whose tracker unlinks the block when one user leaves (CPython before 3.13). It is a table of
aligned 64-bit integers: one row per child process, one column per `Field`. A row has one writer,
the child it was given to (the supervisor clears it before and after), and an aligned 8-byte store
is not torn on the machines this runs on, so readers need no lock.

Behind the columns of `Field` come those that energyws.process.counters names; behind all rows, a
second table has for each row a list of partitions, and a third one a list of issuers, which are
memory only where somebody writes them.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterable
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

    BEAT counts the child's event-loop heartbeats: what matters is that it moves. KEYLESS is 1 while
    tokens are checked with issuers' keys, and none of them has been fetched yet. FULL_SINCE_MS is
    when a worker stopped accepting because its descriptors ran out, in Unix milliseconds; 0 while
    it accepts. CERTIFICATE_EXPIRES is when what a worker shows its clients expires, in Unix
    seconds; 0 without a certificate.
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
    PARTITIONS = 20
    RING_FRAMES = 21
    RING_BYTES = 22
    RING_OLDEST_MS = 23
    FULL_SINCE_MS = 24
    UNLISTED_WAITS = 26
    KEYLESS = 30
    CERTIFICATE_EXPIRES = 36
    HISTORY_QUESTIONS = 41


class PartitionField(IntEnum):
    """What a row has of each partition that it lists; as many as its PARTITIONS says.

    STREAM is an index into the sorted names of the streams. NEXT and END are offsets: the next one
    to be handed on, and the log's end. RECORD_MS is the timestamp of the newest record handed on,
    in Unix milliseconds; 0 before there is one. STALL is a Stall of energyws.process.stalls; where
    PARTITION is its WHOLE, the entry is about the stream, and has no offsets. BAD and LOST are
    counters: of records that were skipped, and of those that retention took; of partitions that are
    not listed in the entry of their stream.
    """

    STREAM = 0
    PARTITION = 1
    NEXT = 2
    END = 3
    RECORD_MS = 4
    STALL = 5
    BAD = 6
    LOST = 7


ROWS: Final = 160
COLUMNS: Final = 192
# What a row lists at most; of a topic with more partitions the rest has no lag to be seen.
MAX_PARTITIONS: Final = 512
# How many issuers a row lists at most; of the rest the age of the keys cannot be seen.
MAX_ISSUERS: Final = 32
_CELL: Final = 8
_PLACES: Final = MAX_PARTITIONS * len(PartitionField)
# For each issuer: which one, and when its keys were fetched.
_ISSUERS: Final = MAX_ISSUERS * 2
_CELLS: Final = ROWS * (COLUMNS + _PLACES + _ISSUERS)


class Board:
    """The whole table, over a descriptor made by `create` or inherited."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._cells = memoryview(mmap.mmap(descriptor, _CELLS * _CELL)).cast("q")

    @classmethod
    def create(cls) -> Board:
        """A new, empty board; its descriptor is inheritable only through `pass_fds`."""
        descriptor = os.memfd_create("energyws-board", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _CELLS * _CELL)
        return cls(descriptor)

    def row(self, index: int) -> Row:
        """The row at `index`, 0 <= index < ROWS."""
        places = ROWS * COLUMNS + index * _PLACES
        issuers = ROWS * (COLUMNS + _PLACES) + index * _ISSUERS
        return Row(
            self._cells[index * COLUMNS : (index + 1) * COLUMNS],
            self._cells[places : places + _PLACES],
            self._cells[issuers : issuers + _ISSUERS],
        )

    def total(self, field: Field) -> int:
        """The sum of one column over all rows."""
        return sum(self._cells[field : ROWS * COLUMNS : COLUMNS])

    def close(self) -> None:
        """Close the descriptor; the memory stays mapped as long as a row of it is held."""
        self._cells.release()
        os.close(self.descriptor)


class Row:
    """One child's cells. `row[Field.X]` reads, `row[Field.X] = n` writes.

    A column is a Field, or one of those that energyws.process.counters names.
    """

    __slots__ = ("_cells", "_issuers", "_places")

    def __init__(
        self, cells: memoryview[int], places: memoryview[int], issuers: memoryview[int]
    ) -> None:
        self._cells = cells
        self._places = places
        self._issuers = issuers

    def __getitem__(self, column: int) -> int:
        return self._cells[column]

    def __setitem__(self, column: int, value: int) -> None:
        self._cells[column] = value

    def add(self, column: int, amount: int = 1) -> None:
        """Add to a cell (its only writer may)."""
        self._cells[column] += amount

    def clear(self) -> None:
        """Set every cell to 0 (nobody else may be writing)."""
        for cell in range(min(self[Field.PARTITIONS], MAX_PARTITIONS) * len(PartitionField)):
            self._places[cell] = 0
        for column in range(COLUMNS):
            self._cells[column] = 0
        self.set_issuers(())

    def snapshot(self) -> dict[str, int]:
        """Every cell of a Field by its lower-case name."""
        return {field.name.lower(): self._cells[field] for field in Field}

    def columns(self) -> list[int]:
        """A copy of all columns."""
        return self._cells.tolist()

    def place(self, entry: int, what: PartitionField) -> int:
        """A cell of the list of partitions, 0 <= entry < MAX_PARTITIONS."""
        return self._places[entry * len(PartitionField) + what]

    def set_place(self, entry: int, what: PartitionField, value: int) -> None:
        """Write a cell of the list of partitions."""
        self._places[entry * len(PartitionField) + what] = value

    def set_issuers(self, fetched: Iterable[tuple[int, int]]) -> None:
        """Write, for each issuer by its `issuer_id`, when its keys were last fetched.

        In Unix milliseconds; 0: never.
        """
        cells = [cell for entry in fetched for cell in entry][:_ISSUERS]
        for cell, value in enumerate(cells + [0] * (_ISSUERS - len(cells))):
            self._issuers[cell] = value

    def issuers(self) -> dict[int, int]:
        """What `set_issuers` has written."""
        cells = self._issuers.tolist()
        return {each: at for each, at in zip(cells[::2], cells[1::2], strict=True) if each}


def issuer_id(issuer: str) -> int:
    """A number for an issuer, never 0: processes may know different lists of them for a moment."""
    return int.from_bytes(hashlib.sha256(issuer.encode()).digest()[:7]) + 1
