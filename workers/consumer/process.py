"""The consumer process: Kafka to frames, once for everybody; frames to ring and bus."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from functools import partial
from typing import Final

from energyws.errors import ExitCode
from energyws.logs.events import Log
from energyws.process.board import Field
from energyws.stream.ring import Ring
from workers.bus.publisher import Publisher
from workers.bus.rendezvous import BusDirectory
from workers.consumer.events import (
    BrokerState,
    Ends,
    Event,
    FetchError,
    Found,
    Grown,
    Lost,
    MetadataStalls,
    Record,
    Records,
)
from workers.consumer.history_server import HistoryServer
from workers.consumer.intake import Intake
from workers.consumer.librdkafka import client_settings, library_logger
from workers.consumer.log_cache import StreamHead
from workers.consumer.progress import Progress
from workers.consumer.source import Source
from workers.consumer.stall_tracker import StallTracker
from workers.gauges import record_ring_depth
from workers.runtime import Runtime, crash_on_error

TICK_SECONDS: Final = 1.0
SWITCH_SECONDS: Final = 0.0005
# How long the thread that reads may take to end; the process does not wait for it any longer.
END_SECONDS: Final = 1.0

_log = Log("consumer")


class ConsumerProcess:
    """Receives the source's events on the event loop."""

    def __init__(self, child: Runtime) -> None:
        settings = child.settings
        self._child = child
        self._loop = asyncio.get_running_loop()
        self._topics = {name: stream.topic for name, stream in settings.streams.items()}
        self._intakes: dict[str, Intake] = {}
        self._rings: dict[str, Ring] = {}
        self._published: dict[tuple[str, int], int] = {}
        self._progress = Progress(child.row, self._topics)
        self._waiting = StallTracker(self._progress)
        self._place = BusDirectory(child.bus_directory)
        self._publisher = Publisher(
            self._place.directory, settings.bus, sorted(settings.streams), self._rings
        )
        # What workers do not find before, and what they have lost after.
        self._serves = False
        self._gone = False
        self._history = HistoryServer(
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
        await asyncio.to_thread(self._source.join, END_SECONDS)

    def tick(self) -> None:
        """Once a second: let go of what is too old."""
        now = time.monotonic()
        for ring in self._rings.values():
            ring.trim(now)
        record_ring_depth(self._child.row, self._rings.values())
        for intake in self._intakes.values():
            for partition in intake.skip_stalled(now):
                _log.warning(
                    "a partition is not read back: going on without it",
                    stream=intake.stream,
                    partition=partition,
                )
            self._settle(intake)
        self._tell_waits()
        if not self._publisher.reachable() or (self._serves and not self._place.found()):
            _log.error("the bus's sockets were removed or replaced")
            self.failed.set()

    def _take_over(self) -> None:
        if not self._serves:
            self._serves = True
            self._place.take_over()

    def _view(self, stream: str) -> StreamHead | None:
        # Called from the history's thread.
        intake = self._intakes.get(stream)
        if intake is None or intake.ring is None:
            return None
        return StreamHead(intake.epoch, intake.topic_epoch, intake.ring.head)

    def _emit(self, event: Event) -> None:
        # Called from the source's threads, of which one may outlive the loop by a moment.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._on_event, event)

    @crash_on_error
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
                self._waiting.grown(event.stream)
            case Lost():
                self._on_lost(event)
            case BrokerState():
                self._child.row[Field.BROKER_UP] = int(event.up)
            case Ends():
                self._progress.ends(event.ends)
            case MetadataStalls():
                self._waiting.looked(event.stream, event.waits)
                self._tell_waits()
            case FetchError():
                self._waiting.trouble(event.stream, event.partition, event.wait)
                self._tell_waits()

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
        if self._waiting.silent and self._waiting.heard({*newest, *records.ends}):
            self._tell_waits()

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
        self._waiting.found(found.stream, len(found.begin))
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
        self._tell_waits()

    def _tell_waits(self) -> None:
        """Write what is waited for; be ready once everything is served that can be read."""
        self._waiting.tell()
        if self._rings.keys() == self._topics.keys() and all(
            map(self._waiting.serves, self._topics)
        ):
            self._take_over()
            self._child.ready()

    def _on_lost(self, lost: Lost) -> None:
        if not lost.retention:
            _log.warning(
                "records left out: the partition could not be read for too long",
                topic=self._topics[lost.stream],
                partition=lost.partition,
                first_offset=lost.begin,
                last_offset=lost.end - 1,
            )
            self._intakes[lost.stream].lost(lost)
            return
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


async def consume(child: Runtime) -> None:
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
