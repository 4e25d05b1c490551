"""Each partition's progress on the board: the next offset, the end of its log, its stall."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from energyws.process.board import MAX_PARTITIONS, Field, PartitionField, Row
from energyws.process.stalls import WHOLE, Stall


class Progress:
    """Writes the list of partitions in the consumer's row; it has room for MAX_PARTITIONS."""

    def __init__(self, row: Row, streams: Iterable[str]) -> None:
        self._row = row
        self._streams = {name: at for at, name in enumerate(sorted(streams))}
        self._entries: dict[tuple[str, int], int] = {}
        self._stalled: set[tuple[str, int]] = set()

    def published(self, stream: str, partition: int, offset: int, timestamp_ms: int | None) -> None:
        """Everything below `offset` was; timestamp_ms is that of the last record, if it has one."""
        entry = self._entry(stream, partition)
        if entry is not None:
            self._row.set_place(entry, PartitionField.NEXT, offset)
            if timestamp_ms is not None:
                self._row.set_place(entry, PartitionField.RECORD_MS, timestamp_ms)

    def ends(self, ends: Mapping[tuple[str, int], int]) -> None:
        for (stream, partition), end in ends.items():
            entry = self._entry(stream, partition)
            if entry is not None:
                self._row.set_place(entry, PartitionField.END, end)

    def stalls(self, stalls: Mapping[tuple[str, int], Stall]) -> None:
        """All stalls that there are now, by stream and partition (or WHOLE)."""
        for ended in self._stalled - stalls.keys():
            self._set_stall(ended, Stall.NONE)
        for key, stall in stalls.items():
            self._set_stall(key, stall)
        self._stalled = set(stalls)
        self._row[Field.UNLISTED_WAITS] = len(self._stalled - self._entries.keys())

    def _set_stall(self, key: tuple[str, int], stall: Stall) -> None:
        entry = self._entry(*key)
        if entry is not None:
            self._row.set_place(entry, PartitionField.STALL, stall)

    def _entry(self, stream: str, partition: int) -> int | None:
        entry = self._entries.get((stream, partition))
        # Room is kept for one entry of each stream as a whole.
        most = MAX_PARTITIONS if partition == WHOLE else MAX_PARTITIONS - len(self._streams)
        if entry is None and len(self._entries) < most:
            entry = self._entries[stream, partition] = len(self._entries)
            self._row.set_place(entry, PartitionField.STREAM, self._streams[stream])
            self._row.set_place(entry, PartitionField.PARTITION, partition)
            # Readers of the row see the entry only once it names its partition.
            self._row[Field.PARTITIONS] = len(self._entries)
        return entry

    def skipped(self, stream: str, partition: int) -> None:
        self._count(stream, partition, PartitionField.BAD, 1)

    def lost(self, stream: str, partition: int, count: int) -> None:
        """Retention took `count` records before they were read."""
        self._count(stream, partition, PartitionField.LOST, count)

    def _count(self, stream: str, partition: int, what: PartitionField, count: int) -> None:
        entry = self._entry(stream, partition)
        if entry is None:
            # A partition that is not listed counts for its stream.
            entry = self._entry(stream, WHOLE)
            assert entry is not None
        self._row.set_place(entry, what, self._row.place(entry, what) + count)
