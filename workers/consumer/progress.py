"""What the consumer tells on the board of each partition: how far it is, its end, its wait."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from energyws.process.board import MAX_PARTITIONS, Field, PartitionField, Row
from energyws.process.stalls import WHOLE, Stall


class Progress:
    """The list of partitions in a row; those beyond MAX_PARTITIONS are left out."""

    def __init__(self, row: Row, streams: Iterable[str]) -> None:
        self._row = row
        self._streams = {name: at for at, name in enumerate(sorted(streams))}
        self._entries: dict[tuple[str, int], int] = {}
        self._waiting: set[tuple[str, int]] = set()

    def handed_on(self, stream: str, partition: int, offset: int, timestamp_ms: int | None) -> None:
        """Everything below `offset` was; the last of it has that timestamp, if it has one."""
        entry = self._entry(stream, partition)
        if entry is not None:
            self._row.set_partition(entry, PartitionField.NEXT, offset)
            if timestamp_ms is not None:
                self._row.set_partition(entry, PartitionField.RECORD_MS, timestamp_ms)

    def ends(self, ends: Mapping[tuple[str, int], int]) -> None:
        """Where the logs end."""
        for (stream, partition), end in ends.items():
            entry = self._entry(stream, partition)
            if entry is not None:
                self._row.set_partition(entry, PartitionField.END, end)

    def waits(self, waits: Mapping[tuple[str, int], Stall]) -> None:
        """Everything that is waited for, by stream and partition (or WHOLE)."""
        for gone in self._waiting - waits.keys():
            self._set_wait(gone, Stall.NOTHING)
        for key, wait in waits.items():
            self._set_wait(key, wait)
        self._waiting = set(waits)
        self._row[Field.UNLISTED_WAITS] = len(self._waiting - self._entries.keys())

    def _set_wait(self, key: tuple[str, int], wait: Stall) -> None:
        entry = self._entry(*key)
        if entry is not None:
            self._row.set_partition(entry, PartitionField.STALL, wait)

    def _entry(self, stream: str, partition: int) -> int | None:
        entry = self._entries.get((stream, partition))
        # There is always a place for what a stream as a whole waits for.
        most = MAX_PARTITIONS if partition == WHOLE else MAX_PARTITIONS - len(self._streams)
        if entry is None and len(self._entries) < most:
            entry = self._entries[stream, partition] = len(self._entries)
            self._row.set_partition(entry, PartitionField.STREAM, self._streams[stream])
            self._row.set_partition(entry, PartitionField.PARTITION, partition)
            # The entry counts once it says whose it is.
            self._row[Field.PARTITIONS] = len(self._entries)
        return entry

    def bad(self, stream: str, partition: int) -> None:
        """A record was skipped."""
        self._count(stream, partition, PartitionField.BAD, 1)

    def lost(self, stream: str, partition: int, count: int) -> None:
        """Retention took so many before they were read."""
        self._count(stream, partition, PartitionField.LOST, count)

    def _count(self, stream: str, partition: int, what: PartitionField, count: int) -> None:
        entry = self._entry(stream, partition)
        if entry is None:
            # What has no place of its own still counts for its stream.
            entry = self._entry(stream, WHOLE)
            assert entry is not None
        self._row.set_partition(entry, what, self._row.partition(entry, what) + count)
