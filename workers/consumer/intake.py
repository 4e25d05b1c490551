"""One stream of the consumer: records in, frames out; first those read back, then live ones."""

from __future__ import annotations

import heapq
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.process.board import Field, Row
from energyws.protocol.frame import DataFrames
from energyws.protocol.messages import Unrecovered
from energyws.protocol.position import as_text, from_offsets
from energyws.settings import Settings
from energyws.stream.record import BadRecord, decode, timestamp
from energyws.stream.ring import Entry, Ring, gap_entries
from workers.consumer.events import Found, Lost, Record

# How long reading back may stand still in one partition while another is at its end.
STALLED_SECONDS: Final = 5.0

_log = Log("consumer")


class Sender(Protocol):
    """What an intake needs of the Publisher."""

    def publish(self, stream: str, entry: Entry) -> None:
        """Send one frame to every worker."""


class _Warm:
    """What is read back of one partition: the newest records that a ring of max_bytes can hold."""

    def __init__(self, max_bytes: int) -> None:
        self.records: deque[tuple[Record, bytes]] = deque()
        self._max_bytes = max_bytes
        self._bytes = 0

    def append(self, record: Record, data: bytes) -> int | None:
        """Add the next one; the offset of the newest that was let go of for it, if any was."""
        self.records.append((record, data))
        self._bytes += len(data)
        dropped = None
        while self._bytes > self._max_bytes and len(self.records) > 1:
            gone, old = self.records.popleft()
            self._bytes -= len(old)
            dropped = gone.offset
        return dropped

    def clear(self) -> None:
        """Let go of all."""
        self.records.clear()
        self._bytes = 0


class Intake:
    """One stream: records in, frames out; first what is read back, then what is live.

    on_bad is called with the partition of each record that is skipped.
    """

    def __init__(
        self,
        stream: str,
        found: Found,
        epoch: str,
        settings: Settings,
        row: Row,
        publisher: Sender,
    ) -> None:
        self.stream = stream
        self.epoch = epoch
        self.topic_epoch = found.epoch
        self.ring: Ring | None = None
        self._history = settings.history
        self._topic = settings.streams[stream].topic
        self._frames = DataFrames(stream)
        self._max_bytes = settings.kafka.max_record_bytes
        self._row = row
        self._publisher = publisher
        self.on_bad: Callable[[int], None] = lambda partition: None
        self._begin = list(found.begin)
        self._next = list(found.begin)
        self._live = list(found.live)
        # What is read back, per partition, until all of them have reached their end.
        self._warm = [_Warm(settings.history.max_bytes) for _ in found.begin]
        # Until then: how far each partition was when it was last seen to move, and when.
        self._moved: dict[int, tuple[int, float]] = {}
        self._limited = RateLimitedLog(_log, 1.0)

    def take(self, record: Record) -> None:
        """The next record of a partition."""
        partition, offset = record.partition, record.offset
        if offset < self._next[partition]:
            return
        self._next[partition] = offset + 1
        try:
            data = decode(record.value, max_bytes=self._max_bytes)
        except BadRecord as bad:
            self._skip(record, bad)
            return
        if self.ring is None:
            dropped = self._warm[partition].append(record, data)
            if dropped is not None:
                self._begin[partition] = dropped + 1
        else:
            self._send(self.ring, self._entry(record, data))

    def reached(self, partition: int, end: int) -> None:
        """The log ends at `end`: what lies before it and was not seen holds no record."""
        self._next[partition] = max(self._next[partition], end)

    def lost(self, lost: Lost) -> None:
        """Retention was faster."""
        self._next[lost.partition] = lost.end
        if self.ring is None:
            # Nobody was told of these; the ring simply begins later.
            self._begin[lost.partition] = lost.end
            self._warm[lost.partition].clear()
            return
        target = from_offsets(self.epoch, self._next)
        reason = Unrecovered.RETENTION if lost.retention else Unrecovered.HISTORY_EXCEEDED
        for entry in gap_entries(self.stream, self.ring.head, target, reason.value):
            self._send(self.ring, entry)

    def grown(self, partition: int, begin: int) -> None:
        """A partition was added; the next one, in order."""
        assert partition == len(self._next)
        self._begin.append(begin)
        self._next.append(begin)
        self._live.append(begin)
        self._warm.append(_Warm(self._history.max_bytes))

    def skip_stalled(self, now: float) -> list[int]:
        """Stop waiting for partitions whose reading back stands still while others are done.

        What is not read back of them is not live either: it can be had from the log.
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
            self._begin[partition] = self._next[partition] = self._live[partition]
            self._warm[partition].clear()
        return stalled

    def settle(self) -> bool:
        """After a batch: note how far it came; True when everything has been read back by now."""
        if self.ring is not None:
            self.ring.advance(from_offsets(self.epoch, self._next))
            return False
        if any(at < live for at, live in zip(self._next, self._live, strict=True)):
            return False
        self.ring = self._ring_of_warm()
        return True

    def _ring_of_warm(self) -> Ring:
        reached, self._next = self._next, self._begin
        ring = Ring(self._history, from_offsets(self.epoch, self._begin))
        # Partitions were read one after another; clients want them as they were written.
        records = [warm.records for warm in self._warm]
        merged = heapq.merge(*records, key=lambda item: item[0].timestamp_ms or 0)
        for record, data in merged:
            self._next[record.partition] = record.offset + 1
            self._remember(ring, self._entry(record, data))
        self._warm.clear()
        self._next = reached
        ring.advance(from_offsets(self.epoch, reached))
        return ring

    def _skip(self, record: Record, bad: BadRecord) -> None:
        self._row.add(Field.BAD_RECORDS)
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

    def _entry(self, record: Record, data: bytes) -> Entry:
        timestamp_ms = timestamp(record.timestamp_ms, time.time_ns() // 1_000_000)
        frame = self._frames.build(timestamp_ms, data, as_text(self.epoch, self._next))
        return Entry(record.partition, record.offset, timestamp_ms, frame)

    def _send(self, ring: Ring, entry: Entry) -> None:
        self._remember(ring, entry)
        self._publisher.publish(self.stream, entry)

    def _remember(self, ring: Ring, entry: Entry) -> None:
        ring.append(entry, time.monotonic())
        self._row.add(Field.FRAMES)
