"""One stream of the consumer: records in, frames out; first those read back, then live ones."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.process.board import Field, Row
from energyws.process.counters import SKIPPED
from energyws.protocol.frame import DataFrames
from energyws.protocol.messages import Unrecovered
from energyws.protocol.position import as_text, from_offsets
from energyws.settings import Settings
from energyws.stream.last_values import LastValues
from energyws.stream.record import BadRecord, Decoded, Decoder, timestamp
from energyws.stream.ring import Entry, Ring, gap_entries
from workers.bus.publisher import Publisher
from workers.consumer.events import OldRecord, Record, RecordsLost, TopicFound, WarmedUp

# How long a partition may stall while it is read back and another has reached its end.
STALLED_SECONDS: Final = 5.0

_log = Log("consumer")


class _ReadBack:
    """The newest records of one partition that a ring of max_bytes can hold."""

    def __init__(self, max_bytes: int) -> None:
        self.records: deque[tuple[Record, Decoded]] = deque()
        self._max_bytes = max_bytes
        self._bytes = 0

    def append(self, record: Record, decoded: Decoded) -> list[tuple[Record, Decoded]]:
        """Add a record; returns those that are dropped for it."""
        self.records.append((record, decoded))
        self._bytes += len(decoded[0] or b"")
        dropped = []
        while self._bytes > self._max_bytes and len(self.records) > 1:
            dropped.append(self.records.popleft())
            self._bytes -= len(dropped[-1][1][0] or b"")
        return dropped

    def clear(self) -> None:
        self.records.clear()
        self._bytes = 0


class Intake:
    """Reads the stream back into a ring, then publishes what is live.

    ring: None until everything has been read back. values: the table for snapshots, which has every
    record before the ring's head once it is warm; None: the stream has no snapshots. on_bad is
    called with the partition of each record that is skipped, on_unkeyed with that of each that
    should have a key and has none.
    """

    def __init__(
        self,
        stream: str,
        found: TopicFound,
        epoch: str,
        settings: Settings,
        row: Row,
        publisher: Publisher,
    ) -> None:
        self.stream = stream
        self.epoch = epoch
        self.topic_epoch = found.epoch
        self.ring: Ring | None = None
        snapshot = settings.streams[stream].snapshot
        self.values = (
            LastValues(snapshot.max_keys, snapshot.max_bytes) if snapshot.enabled else None
        )
        self._history = settings.history
        self._topic = settings.streams[stream].topic
        self._key_from = settings.streams[stream].key
        self._frames = DataFrames(stream)
        self._decoder = Decoder(settings.streams[stream], settings.kafka.max_record_bytes)
        self._row = row
        self._publisher = publisher
        self.on_bad: Callable[[int], None] = lambda partition: None
        self.on_unkeyed: Callable[[int], None] = lambda partition: None
        self._begin = list(found.begin)
        self._next = list(found.begin)
        self._live = list(found.live)
        # Per partition, until all of them have reached their end.
        self._read_back = [_ReadBack(settings.history.max_bytes) for _ in found.begin]
        # Until then: each partition's next offset when `skip_stalled` last saw it move, and when.
        self._moved: dict[int, tuple[int, float]] = {}
        # Where that came before the ring was complete.
        self._warmed_up: WarmedUp | None = None
        self._limited = RateLimitedLog(_log, 1.0)

    def take(self, record: Record) -> None:
        """The next record of a partition."""
        partition, offset = record.partition, record.offset
        if offset < self._next[partition]:
            return
        self._next[partition] = offset + 1
        try:
            decoded = self._decoder.decode(record.value, record.key, record.reader)
        except BadRecord as bad:
            self._skip(record, bad)
            return
        if self._decoder.keyed and decoded[1] is None and not self._published_unkeyed(record):
            return
        if self.ring is None:
            for old, of_old in self._read_back[partition].append(record, decoded):
                self._begin[partition] = old.offset + 1
                self._put_read_back(old, of_old)
        else:
            entry = self._entry(record, decoded)
            if self.values is not None and decoded[1] is not None:
                self.values.put(decoded[1], entry.timestamp_ms, decoded[0])
            self._send(self.ring, entry)

    def take_old(self, records: Iterable[OldRecord]) -> None:
        """Records from before those that are read back, for the table of last values."""
        assert self.values is not None
        for key, timestamp_ms, data, partition in records:
            self.values.put_old(key, timestamp_ms, data, partition, read_back=False)

    def warmed_up(self, outcome: WarmedUp) -> None:
        """The last of those has been taken; those that are read back may still come."""
        assert self.values is not None
        if self.ring is None:
            self._warmed_up = outcome
            return
        self.values.warmed(outcome.since_ms)
        if outcome.lacking:
            self.values.lacks()
        _log.info(
            "snapshots are ready",
            stream=self.stream,
            keys=len(self.values),
            complete=self.values.complete,
            records=outcome.records,
            seconds=round(outcome.seconds, 3),
            partitions_lacking=outcome.lacking,
        )

    def reached(self, partition: int, end: int) -> None:
        """The log ends at `end`: offsets below it that never arrived hold no record."""
        self._next[partition] = max(self._next[partition], end)

    def lost(self, lost: RecordsLost) -> None:
        """These records will not arrive: report a gap, unless the ring can begin after it."""
        self._next[lost.partition] = lost.end
        if self.values is not None and not lost.retention:
            self.values.lacks()
        if self.ring is None:
            self._begin[lost.partition] = lost.end
            self._read_back[lost.partition].clear()
            return
        target = from_offsets(self.epoch, self._next)
        reason = Unrecovered.RETENTION if lost.retention else Unrecovered.HISTORY_EXCEEDED
        for entry in gap_entries(self.stream, self.ring.head, target, reason.value):
            self._send(self.ring, entry)

    def add_partition(self, partition: int, begin: int) -> None:
        """Add the next partition, which is read from `begin`."""
        assert partition == len(self._next)
        self._begin.append(begin)
        self._next.append(begin)
        self._live.append(begin)
        self._read_back.append(_ReadBack(self._history.max_bytes))

    def skip_stalled(self, now: float) -> list[int]:
        """Stop reading back partitions that stall while others have reached their end.

        Returns those partitions. Their records up to there are not published either: clients can
        still get them from the log.
        """
        if self.ring is not None:
            return []
        behind = [p for p, at in enumerate(self._next) if at < self._live[p]]
        stalled = []
        for partition in behind:
            at = self._next[partition]
            before, since = self._moved.get(partition, (None, now))
            if before != at:
                self._moved[partition] = at, now
            elif now - since >= STALLED_SECONDS:
                stalled.append(partition)
        if len(behind) == len(self._next):
            return []
        for partition in stalled:
            if self.values is not None:
                self.values.lacks()
            self._begin[partition] = self._next[partition] = self._live[partition]
            self._read_back[partition].clear()
        return stalled

    def settle(self) -> bool:
        """Call this after each batch; True when it was the one that completed the ring."""
        if self.ring is not None:
            if self.ring.advance(from_offsets(self.epoch, self._next)):
                self._publisher.head_moved()
            return False
        if any(at < live for at, live in zip(self._next, self._live, strict=True)):
            return False
        self.ring = self._build_ring()
        if self._warmed_up is not None:
            self.warmed_up(self._warmed_up)
        return True

    def _build_ring(self) -> Ring:
        reached, self._next = self._next, self._begin
        ring = Ring(self._history, from_offsets(self.epoch, self._begin))
        # Partitions were read one after another; clients want their records in order of time.
        records = [each.records for each in self._read_back]
        merged = heapq.merge(*records, key=lambda item: item[0].timestamp_ms or 0)
        for record, decoded in merged:
            self._next[record.partition] = record.offset + 1
            self._append(ring, self._entry(record, decoded))
            self._put_read_back(record, decoded)
        self._read_back.clear()
        self._next = reached
        ring.advance(from_offsets(self.epoch, reached))
        return ring

    def _skip(self, record: Record, bad: BadRecord) -> None:
        self._row.add(Field.BAD_RECORDS)
        SKIPPED.count(self._row, bad.reason)
        self.on_bad(record.partition)
        self._limited.warning(
            "record skipped",
            kind=bad.reason,
            topic=self._topic,
            partition=record.partition,
            offset=record.offset,
            reason=bad.reason,
            detail=bad,
        )

    def _put_read_back(self, record: Record, decoded: Decoded) -> None:
        data, key = decoded
        if self.values is not None and key is not None:
            timestamp_ms = timestamp(record.timestamp_ms, time.time_ns() // 1_000_000)
            self.values.put_old(key, timestamp_ms, data, record.partition, read_back=True)

    def _published_unkeyed(self, record: Record) -> bool:
        """Count a record without a key; whether it is published all the same."""
        self.on_unkeyed(record.partition)
        if not self._decoder.withholds:
            return True
        self._limited.warning(
            "record without a key is not published",
            kind="unkeyed",
            topic=self._topic,
            partition=record.partition,
            offset=record.offset,
            key_from=self._key_from,
        )
        return False

    def _entry(self, record: Record, decoded: Decoded) -> Entry:
        timestamp_ms = timestamp(record.timestamp_ms, time.time_ns() // 1_000_000)
        data, key = decoded
        frame = self._frames.build(timestamp_ms, data, as_text(self.epoch, self._next), key)
        return Entry(record.partition, record.offset, timestamp_ms, frame)

    def _send(self, ring: Ring, entry: Entry) -> None:
        self._append(ring, entry)
        self._publisher.publish(self.stream, entry)

    def _append(self, ring: Ring, entry: Entry) -> None:
        ring.append(entry, time.monotonic())
        self._row.add(Field.FRAMES)
