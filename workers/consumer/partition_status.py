"""What the board says of each partition: how far it was read, and why it stalls if it does."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from energyws.logs.events import Log
from energyws.process.board import MAX_PARTITIONS, Field, PartitionField, Row
from energyws.process.stalls import WHOLE, Stall

# A partition from which neither a record nor its end has come for this long counts as stalled.
SILENCE_SECONDS: Final = 5.0

_log = Log("consumer")

_Key = tuple[str, int]


class Progress:
    """Writes the list of partitions in the consumer's row; it has room for MAX_PARTITIONS."""

    def __init__(self, row: Row, streams: Iterable[str]) -> None:
        self._row = row
        self._streams = {name: at for at, name in enumerate(sorted(streams))}
        self._entries: dict[_Key, int] = {}
        self._stalled: set[_Key] = set()

    def published(self, stream: str, partition: int, offset: int, timestamp_ms: int | None) -> None:
        """Everything below `offset` was; timestamp_ms is that of the last record, if it has one."""
        entry = self._entry(stream, partition)
        if entry is not None:
            self._row.set_partition(entry, PartitionField.NEXT, offset)
            if timestamp_ms is not None:
                self._row.set_partition(entry, PartitionField.RECORD_MS, timestamp_ms)

    def ends(self, ends: Mapping[_Key, int]) -> None:
        for (stream, partition), end in ends.items():
            entry = self._entry(stream, partition)
            if entry is not None:
                self._row.set_partition(entry, PartitionField.END, end)

    def stalls(self, stalls: Mapping[_Key, Stall]) -> None:
        """All stalls that there are now, by stream and partition (or WHOLE)."""
        for ended in self._stalled - stalls.keys():
            self._set_stall(ended, Stall.NONE)
        for key, stall in stalls.items():
            self._set_stall(key, stall)
        self._stalled = set(stalls)
        self._row[Field.UNLISTED_WAITS] = len(self._stalled - self._entries.keys())

    def schema_waits(self, count: int) -> None:
        """How many partitions wait for a schema."""
        self._row[Field.SCHEMA_WAITS] = count

    def _set_stall(self, key: _Key, stall: Stall) -> None:
        entry = self._entry(*key)
        if entry is not None:
            self._row.set_partition(entry, PartitionField.STALL, stall)

    def _entry(self, stream: str, partition: int) -> int | None:
        entry = self._entries.get((stream, partition))
        # Room is kept for one entry of each stream as a whole.
        most = MAX_PARTITIONS if partition == WHOLE else MAX_PARTITIONS - len(self._streams)
        if entry is None and len(self._entries) < most:
            entry = self._entries[stream, partition] = len(self._entries)
            self._row.set_partition(entry, PartitionField.STREAM, self._streams[stream])
            self._row.set_partition(entry, PartitionField.PARTITION, partition)
            # Readers of the row see the entry only once it names its partition.
            self._row[Field.PARTITIONS] = len(self._entries)
        return entry

    def skipped(self, stream: str, partition: int) -> None:
        self._count(stream, partition, PartitionField.BAD, 1)

    def unkeyed(self, stream: str, partition: int) -> None:
        self._count(stream, partition, PartitionField.UNKEYED, 1)

    def lost(self, stream: str, partition: int, count: int) -> None:
        """Retention took `count` records before they were read."""
        self._count(stream, partition, PartitionField.LOST, count)

    def _count(self, stream: str, partition: int, what: PartitionField, count: int) -> None:
        entry = self._entry(stream, partition)
        if entry is None:
            # A partition that is not listed counts for its stream.
            entry = self._entry(stream, WHOLE)
            assert entry is not None
        self._row.set_partition(entry, what, self._row.partition(entry, what) + count)


class StallTracker:
    """Collects stalls from metadata, from failed fetches and from silence.

    `update_board` writes them where they have changed.
    """

    def __init__(
        self,
        progress: Progress,
        schema_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress = progress
        self._schema_seconds = schema_seconds
        self._clock = clock
        self._partitions: dict[str, int] = {}
        # Partitions from which nothing has come since they were assigned, or since a fetch failed.
        # NONE: nothing is known to be wrong yet.
        self.silent: dict[_Key, Stall] = {}
        self._since: dict[_Key, float] = {}
        self._from_metadata: dict[_Key, Stall] = {}
        self._written: dict[_Key, Stall] = {}
        # Since when each waits for a schema.
        self._schema_since: dict[_Key, float] = {}

    def restart(self, stream: str, partitions: int) -> None:
        """The stream starts over with this many partitions; nothing has come from them."""
        self._partitions[stream] = 0
        for keys in (self.silent, self._schema_since):
            for key in [key for key in keys if key[0] == stream]:
                del keys[key]
        for _ in range(partitions):
            self.add_partition(stream)

    def add_partition(self, stream: str) -> None:
        """The stream has one more partition; nothing has come from it."""
        key = stream, self._partitions[stream]
        self._partitions[stream] += 1
        self.silent[key] = Stall.NONE
        self._since[key] = self._clock()

    def replace_metadata(self, stream: str, stalls: Mapping[int, Stall]) -> None:
        """Take these for everything that metadata say of the stream, by partition or WHOLE."""
        self._from_metadata = {
            key: stall for key, stall in self._from_metadata.items() if key[0] != stream
        }
        self._from_metadata.update({(stream, partition): s for partition, s in stalls.items()})

    def fetch_failed(self, stream: str, partition: int, stall: Stall) -> None:
        """A fetch was answered with an error."""
        self._schema_since.pop((stream, partition), None)
        self.silent[stream, partition] = stall

    def schema_awaited(self, stream: str, partition: int) -> None:
        """The partition waits for the schema of its next record."""
        key = stream, partition
        self.silent[key] = Stall.NONE
        self._schema_since.setdefault(key, self._clock())

    def heard(self, keys: Collection[_Key]) -> bool:
        """Records, or their end, came from these partitions; True if any of them was silent."""
        for key in self._schema_since.keys() & keys:
            del self._schema_since[key]
        news = self.silent.keys() & keys
        for key in news:
            del self.silent[key]
        return bool(news)

    def serves(self, stream: str) -> bool:
        """Whether some of the stream is read, and the reason is known why the rest is not."""
        keys = [(stream, partition) for partition in range(self._partitions.get(stream, 0))]
        return any(key not in self.silent for key in keys) and all(
            self.silent[key] or key in self._from_metadata for key in keys if key in self.silent
        )

    def update_board(self) -> None:
        """Count partitions that are silent for too long as stalled; write what has changed."""
        now = self._clock()
        for key, stall in self.silent.items():
            if stall is not Stall.NONE:
                continue
            if (since := self._schema_since.get(key)) is not None:
                if since <= now - self._schema_seconds:
                    self.silent[key] = Stall.NO_SCHEMA
                    _log.warning(
                        "partition waits for the schema of its next record",
                        stream=key[0],
                        partition=key[1],
                    )
            elif self._since[key] < now - SILENCE_SECONDS:
                self.silent[key] = Stall.NO_ANSWER
        stalls = {key: stall for key, stall in self.silent.items() if stall}
        # "No leader" is a better reason than silence.
        stalls.update(self._from_metadata)
        if stalls != self._written:
            self._written = stalls
            self._progress.stalls(stalls)
        self._progress.schema_waits(len(self._schema_since))
