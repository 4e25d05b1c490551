"""The stats board: the state and counters of every process, in memory that all of them share.

One anonymous shared file (memfd), inherited by descriptor; not multiprocessing.shared_memory, whose
tracker unlinks the block when one user leaves (CPython before 3.13). It is a table of aligned
64-bit integers: one row per process, one column per `Field`. A row has one writer, its child (the
supervisor clears it before and after), and an aligned 8-byte store is not torn on the machines this
runs on, so readers need no lock.

After the columns of `Field` come those of energyws.process.counters. After all rows, a second table
has a list of partitions for each row, a third one a list of issuers, and a last one the cells of
energyws.process.usage; they take memory only where a process writes them.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import weakref
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

from energyws.process.usage import ROW_CELLS, Usage


class State(IntEnum):
    """Where a child is in its life; EMPTY: the row has no child."""

    EMPTY = 0
    STARTING = 1
    READY = 2
    DRAINING = 3


class Keyless(IntEnum):
    """Whether a worker lacks the issuers' keys that it needs to check any token.

    NEVER: it has not fetched any yet. OLD: those that it had could not be refreshed for too long.
    """

    NO = 0
    NEVER = 1
    OLD = 2


class Field(IntEnum):
    """The columns. Counters only grow during one child's life; the others are levels.

    BEAT counts the heartbeats of the child's event loop: it only has to move. KEYLESS is one of
    Keyless. FULL_SINCE_MS is when a worker stopped accepting because its file descriptors ran out,
    in Unix milliseconds; 0 while it accepts. CERTIFICATE_EXPIRES is when the certificate that a
    worker serves expires, in Unix seconds; 0 without a certificate. IO_URING is one of
    energyws.process.io_uring. PENDING counts the accepted connections that are no clients yet, or
    never will be. MEMORY_PRESSURE is a Level of energyws.process.memory_pressure; MEMORY_FREEING is
    what clients hold that were closed for it, in bytes. SNAPSHOT_KEYS and SNAPSHOT_BYTES are what
    the consumer's tables of last values hold; SNAPSHOT_STATE is 0 where it has none, 2 where all of
    them are complete, else 1; SNAPSHOT_WARM_MS is how long it took to read old records for them.
    SCHEMA_WAITS is how many partitions wait for a schema. DISPUTED is how many streams stand still
    in a worker, because the consumer takes their keys from elsewhere.
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
    PENDING = 25
    UNLISTED_WAITS = 26
    MEMORY_PRESSURE = 27
    MEMORY_FREEING = 28
    CONFLATED = 29
    KEYLESS = 30
    KEYED_SUBSCRIPTIONS = 31
    INDEX_KEYS = 32
    POSITIONS_SENT = 33
    SCAN_RECORDS = 34
    FORBIDDEN_KEYS = 35
    CERTIFICATE_EXPIRES = 36
    SNAPSHOT_KEYS = 37
    SNAPSHOT_BYTES = 38
    SNAPSHOT_STATE = 39
    SNAPSHOT_WARM_MS = 40
    HISTORY_QUESTIONS = 41
    EVENT_STREAMS = 42
    IO_URING = 43
    DISPUTED = 44
    SCHEMA_WAITS = 47


class PartitionField(IntEnum):
    """The cells of one partition in a row's list, which has PARTITIONS entries.

    STREAM is an index into the sorted names of the streams. NEXT and END are offsets: of the next
    record to be published, and of the log's end. RECORD_MS is the timestamp of the newest record
    published, in Unix milliseconds; 0 before there is one. STALL is one of energyws.process.stalls;
    where PARTITION is its WHOLE, the entry is about the stream and has no offsets. BAD, LOST and
    UNKEYED count records that were skipped, that retention deleted before they were read, and that
    have no key though their stream has keys; those of partitions without an entry are counted in
    the entry of their stream.
    """

    STREAM = 0
    PARTITION = 1
    NEXT = 2
    END = 3
    RECORD_MS = 4
    STALL = 5
    BAD = 6
    LOST = 7
    UNKEYED = 8


ROWS: Final = 160
COLUMNS: Final = 208
# The most that a row lists; the lag of further partitions is not visible.
MAX_PARTITIONS: Final = 512
# The most that a row lists; the age of further issuers' keys is not visible.
MAX_ISSUERS: Final = 32
_CELL: Final = 8
_PARTITIONS: Final = MAX_PARTITIONS * len(PartitionField)
# Two cells for each issuer: its `issuer_id`, and when its keys were fetched.
_ISSUERS: Final = MAX_ISSUERS * 2
# The number of rows that have been used, and the key of the cells' hash.
_HEAD: Final = ROWS * (COLUMNS + _PARTITIONS + _ISSUERS)
_KEY: Final = _HEAD + 1
_KEY_CELLS: Final = 2
# On a page of its own, so that its pages can be given back.
_USAGE: Final = -(-(_KEY + _KEY_CELLS) * _CELL // mmap.PAGESIZE) * mmap.PAGESIZE // _CELL
_CELLS: Final = _USAGE + ROWS * ROW_CELLS


class Board:
    """The whole table, over a descriptor made by `create` or inherited, which it owns."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)
        self._memory = mmap.mmap(descriptor, _CELLS * _CELL)
        self._cells = memoryview(self._memory).cast("q")

    @classmethod
    def create(cls) -> Board:
        """A new, empty board. A child inherits its descriptor only through `pass_fds`."""
        descriptor = os.memfd_create("energyws-board", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _CELLS * _CELL)
        os.pwrite(descriptor, os.urandom(_KEY_CELLS * _CELL), _KEY * _CELL)
        return cls(descriptor)

    def row(self, index: int) -> Row:
        """The row at `index`, 0 <= index < ROWS."""
        partitions = ROWS * COLUMNS + index * _PARTITIONS
        issuers = ROWS * (COLUMNS + _PARTITIONS) + index * _ISSUERS
        return Row(
            index,
            self._cells[index * COLUMNS : (index + 1) * COLUMNS],
            self._cells[partitions : partitions + _PARTITIONS],
            self._cells[issuers : issuers + _ISSUERS],
        )

    def usage(self, index: int) -> Usage:
        """What clients take, in all rows; to be written by the process of row `index`."""
        key = self._cells[_KEY : _KEY + _KEY_CELLS].tobytes()
        return Usage(self._cells[_USAGE:_CELLS], index, key, self._rows)

    def open_row(self, index: int) -> Row:
        """Have a process write an empty row; only for the supervisor."""
        self.clear(index)
        self._cells[_HEAD] = max(self._cells[_HEAD], index + 1)
        return self.row(index)

    def clear(self, index: int) -> None:
        """Empty a row, its cells of usage included; no process may be writing it."""
        self.row(index).clear()
        begin, size = (_USAGE + index * ROW_CELLS) * _CELL, ROW_CELLS * _CELL
        try:
            self._memory.madvise(mmap.MADV_REMOVE, begin, size)
        except OSError:
            # A kernel that cannot give the pages back.
            self._memory[begin : begin + size] = bytes(size)

    def total(self, field: Field) -> int:
        """The sum of one column over all rows."""
        return sum(self._cells[field : self._rows() * COLUMNS : COLUMNS])

    def _rows(self) -> int:
        """The rows that a child may have written; all of them where nobody has opened one."""
        return self._cells[_HEAD] or ROWS

    def close(self) -> None:
        """Close the descriptor; the memory stays mapped as long as a row of it is held."""
        self._cells.release()
        self._close()


class Row:
    """The cells of one process. A column is a Field, or one of energyws.process.counters."""

    __slots__ = ("_cells", "_issuers", "_partitions", "index")

    def __init__(
        self,
        index: int,
        cells: memoryview[int],
        partitions: memoryview[int],
        issuers: memoryview[int],
    ) -> None:
        self.index = index
        self._cells = cells
        self._partitions = partitions
        self._issuers = issuers

    def __getitem__(self, column: int) -> int:
        return self._cells[column]

    def __setitem__(self, column: int, value: int) -> None:
        self._cells[column] = value

    def add(self, column: int, amount: int = 1) -> None:
        """Add to a cell; only for the row's one writer."""
        self._cells[column] += amount

    def clear(self) -> None:
        """Set every cell to 0; no process may be writing the row."""
        for cell in range(min(self[Field.PARTITIONS], MAX_PARTITIONS) * len(PartitionField)):
            self._partitions[cell] = 0
        for column in range(COLUMNS):
            self._cells[column] = 0
        self.set_issuers(())

    def snapshot(self) -> dict[str, int]:
        """The columns of Field by their lower-case names."""
        return {field.name.lower(): self._cells[field] for field in Field}

    def columns(self) -> list[int]:
        """A copy of all columns, also those of energyws.process.counters."""
        return self._cells.tolist()

    def partition(self, entry: int, field: PartitionField) -> int:
        """A cell of the list of partitions, 0 <= entry < MAX_PARTITIONS."""
        return self._partitions[entry * len(PartitionField) + field]

    def set_partition(self, entry: int, field: PartitionField, value: int) -> None:
        """Write a cell of the list of partitions."""
        self._partitions[entry * len(PartitionField) + field] = value

    def set_issuers(self, fetched: Iterable[tuple[int, int]]) -> None:
        """Write (`issuer_id`, when its keys were last fetched), in Unix milliseconds; 0: never."""
        cells = [cell for entry in fetched for cell in entry][:_ISSUERS]
        for cell, value in enumerate(cells + [0] * (_ISSUERS - len(cells))):
            self._issuers[cell] = value

    def issuers(self) -> dict[int, int]:
        """By `issuer_id`, when its keys were last fetched, as `set_issuers` has written it."""
        cells = self._issuers.tolist()
        return {each: at for each, at in zip(cells[::2], cells[1::2], strict=True) if each}


def issuer_id(issuer: str) -> int:
    """A number for an issuer, never 0; not an index, since during a reload lists may differ."""
    return int.from_bytes(hashlib.sha256(issuer.encode()).digest()[:7]) + 1
