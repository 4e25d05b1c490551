"""The consumer process: Kafka to frames, once for everybody; frames to ring and bus."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import secrets
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from energyws.board import Field, Row
from energyws.errors import ExitCode
from energyws.flood import Limited
from energyws.frame import DataFrames
from energyws.log import Log
from energyws.position import as_text, start
from energyws.reading import BadRecord, decode, timestamp
from energyws.replay import Entry, Ring, gap_entries
from energyws.settings import Settings
from workers.archive import View
from workers.bus import Publisher
from workers.depth import tell_depth
from workers.history import History
from workers.lag import Progress
from workers.librdkafka import client_settings, library_logger
from workers.meeting import Place
from workers.runtime import Child, run, vital
from workers.source import (
    BrokerState,
    Ends,
    Event,
    Found,
    Grown,
    Lost,
    Record,
    Records,
    Source,
)

TICK_SECONDS: Final = 1.0
SWITCH_SECONDS: Final = 0.0005
RETENTION: Final = "RETENTION"

_log = Log("consumer")


class Sender(Protocol):
    """What an intake needs of the Publisher."""

    def publish(self, stream: str, entry: Entry) -> None:
        """Send one frame to every worker."""


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
        self._warm: list[list[tuple[Record, bytes]]] = [[] for _ in found.begin]
        self._limited = Limited(_log, 1.0)

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
            self._warm[partition].append((record, data))
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
        target = start(self.epoch, self._next)
        for entry in gap_entries(self.stream, self.ring.head, target, RETENTION):
            self._send(self.ring, entry)

    def grown(self, partition: int, begin: int) -> None:
        """A partition was added; the next one, in order."""
        assert partition == len(self._next)
        self._begin.append(begin)
        self._next.append(begin)
        self._live.append(begin)
        self._warm.append([])

    def settle(self) -> bool:
        """After a batch: note how far it came; True when everything has been read back by now."""
        if self.ring is not None:
            self.ring.advance(start(self.epoch, self._next))
            return False
        if any(at < live for at, live in zip(self._next, self._live, strict=True)):
            return False
        self.ring = self._ring_of_warm()
        return True

    def _ring_of_warm(self) -> Ring:
        reached, self._next = self._next, self._begin
        ring = Ring(self._history, start(self.epoch, self._begin))
        # Partitions were read one after another; clients want them as they were written.
        merged = heapq.merge(*self._warm, key=lambda item: item[0].timestamp_ms or 0)
        for record, data in merged:
            self._next[record.partition] = record.offset + 1
            self._remember(ring, self._entry(record, data))
        self._warm.clear()
        self._next = reached
        ring.advance(start(self.epoch, reached))
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


class ConsumerProcess:
    """Receives the source's events on the event loop."""

    def __init__(self, child: Child) -> None:
        settings = child.settings
        self._child = child
        self._loop = asyncio.get_running_loop()
        self._topics = {name: stream.topic for name, stream in settings.streams.items()}
        self._intakes: dict[str, Intake] = {}
        self._rings: dict[str, Ring] = {}
        self._published: dict[tuple[str, int], int] = {}
        self._progress = Progress(child.row, self._topics)
        self._place = Place(child.bus_directory)
        self._publisher = Publisher(
            self._place.directory, settings.bus, sorted(settings.streams), self._rings
        )
        # What workers do not find before, and what they have lost after.
        self._serves = False
        self._gone = False
        self._history = History(
            self._place.directory,
            settings,
            {**client_settings(settings.kafka), "logger": library_logger()},
            self._view,
            child.row,
        )
        self.failed = asyncio.Event()
        self._source = Source(
            settings.kafka, settings.history, self._topics, self._published, self._emit
        )

    def start(self) -> None:
        """Begin to read."""
        self._source.start()
        self._history.start()
        if not self._child.successor:
            self._take_over()

    async def stop(self) -> None:
        """Commit, and end the thread."""
        self._source.stop()
        self._history.stop()
        # At once: where there is a successor, workers connect to it as soon as they lose us.
        self._gone = True
        self._publisher.close()
        await asyncio.to_thread(self._source.join)

    def tick(self) -> None:
        """Once a second: let go of what is too old."""
        now = time.monotonic()
        for ring in self._rings.values():
            ring.trim(now)
        tell_depth(self._child.row, self._rings.values())
        if not self._source.is_alive() or not self._history.is_alive():
            _log.error("a thread that reads from Kafka has ended")
            self.failed.set()
        if not self._publisher.reachable() or (self._serves and not self._place.found()):
            _log.error("the bus's sockets were removed or replaced")
            self.failed.set()

    def _take_over(self) -> None:
        if not self._serves:
            self._serves = True
            self._place.take_over()

    def _view(self, stream: str) -> View | None:
        # Called from the history's thread.
        intake = self._intakes.get(stream)
        if intake is None or intake.ring is None:
            return None
        return View(intake.epoch, intake.topic_epoch, intake.ring.head)

    def _emit(self, event: Event) -> None:
        # Called from the source's threads, of which one may outlive the loop by a moment.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._on_event, event)

    @vital
    def _on_event(self, event: Event) -> None:
        if self._gone:
            if isinstance(event, Records):
                self._source.done()
            return
        match event:
            case Records():
                try:
                    self._on_records(event)
                finally:
                    self._source.done()
            case Found():
                self._on_found(event)
            case Grown():
                self._intakes[event.stream].grown(event.partition, event.begin)
            case Lost():
                self._on_lost(event)
            case BrokerState():
                self._child.row[Field.BROKER_UP] = int(event.up)
            case Ends():
                self._progress.ends(event.ends)

    def _on_records(self, records: Records) -> None:
        newest: dict[tuple[str, int], Record] = {}
        for record in records.records:
            self._intakes[record.stream].take(record)
            newest[record.stream, record.partition] = record
        for (stream, partition), record in newest.items():
            self._published[stream, partition] = record.offset + 1
            self._progress.handed_on(stream, partition, record.offset + 1, record.timestamp_ms)
        for (stream, partition), end in records.ends.items():
            self._intakes[stream].reached(partition, end)
            self._progress.handed_on(stream, partition, end, None)
        for intake in self._intakes.values():
            self._settle(intake)

    def _on_found(self, found: Found) -> None:
        epoch = found.epoch
        known = self._intakes.get(found.stream)
        if known is not None and known.topic_epoch == epoch:
            # The same topic with a shorter log, or one without an id that was recreated: what
            # clients hold must not be read against it.
            epoch = secrets.token_hex(4)
        child = self._child
        intake = Intake(found.stream, found, epoch, child.settings, child.row, self._publisher)
        intake.on_bad = partial(self._progress.bad, found.stream)
        self._intakes[found.stream] = intake
        for partition, offset in enumerate(found.begin):
            self._progress.handed_on(found.stream, partition, offset, None)
        self._settle(intake)

    def _settle(self, intake: Intake) -> None:
        if not intake.settle():
            return
        assert intake.ring is not None
        self._rings[intake.stream] = intake.ring
        # Every worker compares, and finds the ring.
        self._publisher.break_run()
        if self._rings.keys() == self._topics.keys():
            self._take_over()
            self._child.ready()

    def _on_lost(self, lost: Lost) -> None:
        _log.error(
            "records lost: retention took them before they were read",
            topic=self._topics[lost.stream],
            partition=lost.partition,
            first_offset=lost.begin,
            last_offset=lost.end - 1,
        )
        self._child.row.add(Field.LOST_RECORDS, lost.end - lost.begin)
        self._progress.lost(lost.stream, lost.partition, lost.end - lost.begin)
        self._intakes[lost.stream].lost(lost)


async def consume(child: Child) -> None:
    """Consume until told to drain."""
    # Reading back must not keep live records waiting for the usual 5 ms at each turn.
    sys.setswitchinterval(SWITCH_SECONDS)
    process = ConsumerProcess(child)
    process.start()
    drained = asyncio.create_task(child.drain.wait())
    try:
        while not drained.done() and not process.failed.is_set():
            await asyncio.wait({drained}, timeout=TICK_SECONDS)
            process.tick()
    finally:
        drained.cancel()
        await process.stop()
    if process.failed.is_set():
        sys.exit(ExitCode.FAILURE)


if __name__ == "__main__":
    run(consume)
