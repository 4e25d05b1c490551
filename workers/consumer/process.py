"""The consumer process: turns records into frames, once for all clients, for rings and bus."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from energyws.logs.events import Log
from energyws.process.board import Field
from energyws.stream.record_key import KeyRule, key_rules
from energyws.stream.ring import Ring
from workers.bus.publisher import Publisher
from workers.bus.rendezvous import BusDirectory
from workers.consumer.events import (
    BrokerState,
    Event,
    FetchError,
    LogEnds,
    MetadataStalls,
    OldRecord,
    PartitionAdded,
    Record,
    Records,
    RecordsLost,
    SchemaAwaited,
    TopicFound,
    WarmedUp,
)
from workers.consumer.history_server import HistoryServer
from workers.consumer.intake import Intake
from workers.consumer.librdkafka import client_settings, library_logger
from workers.consumer.log_cache import StreamHead
from workers.consumer.partition_status import Progress, StallTracker
from workers.consumer.schemas.store import Schemas
from workers.consumer.snapshot.server import SnapshotServer
from workers.consumer.snapshot.warm_up import WarmUp
from workers.consumer.source import Source
from workers.gauges import record_ring_depth, record_snapshots
from workers.runtime import ChildFailed, Runtime, crash_on_error

TICK_SECONDS: Final = 1.0
SWITCH_SECONDS: Final = 0.0005
# How long the process waits for the reading thread to end.
END_SECONDS: Final = 1.0
# How long a successor waits until its tables of last values are warm. The supervisor gives it 60
# seconds in all.
WARM_SECONDS: Final = 40.0

_log = Log("consumer")


class ConsumerProcess:
    """Receives the source's events on the event loop."""

    def __init__(self, runtime: Runtime) -> None:
        settings = runtime.settings
        self._runtime = runtime
        self._loop = asyncio.get_running_loop()
        self._topics = {name: stream.topic for name, stream in settings.streams.items()}
        self._intakes: dict[str, Intake] = {}
        self._rings: dict[str, Ring] = {}
        self._published: dict[tuple[str, int], int] = {}
        self._progress = Progress(runtime.row, self._topics)
        wait_seconds = settings.schema_registry.wait_seconds
        self._stalls = StallTracker(self._progress, wait_seconds)
        self._schemas = Schemas(settings, runtime.row)
        self._directory = BusDirectory(runtime.bus_directory)
        self._publisher = Publisher(
            self._directory.path, settings.bus, key_rules(settings.streams), self._rings
        )
        # Workers find this consumer's sockets only once it serves.
        self._serving = False
        self._closed = False
        self._history = HistoryServer(
            self._directory.path,
            settings,
            {**client_settings(settings.kafka), "logger": library_logger()},
            self._stream_head,
            runtime.row,
            self._schemas,
        )
        self._snapshots = SnapshotServer(
            self._directory.path,
            self._intakes,
            settings.history.bytes_per_second,
            key_rules(settings.streams),
        )
        self._warm_ups: dict[str, WarmUp] = {}
        # Until then a successor leaves the stage to the consumer before it, if its tables are not
        # warm.
        self._warm_until = self._loop.time() + WARM_SECONDS
        self.failed = asyncio.Event()
        rules = {name: KeyRule(s.key) for name, s in settings.streams.items() if s.key is not None}
        self._source = Source(
            settings.kafka,
            settings.history,
            self._topics,
            {name: rule for name, rule in rules.items() if rule.outside},
            self._published,
            self._emit,
            self._schemas,
        )

    def start(self) -> None:
        """Start to read, and take over at once unless another consumer still serves."""
        self._schemas.start()
        self._source.start()
        self._history.start()
        if not self._runtime.successor:
            self._take_over()

    async def stop(self) -> None:
        """Commit, and end the threads."""
        self._source.stop()
        self._history.stop()
        self._schemas.stop()
        for each in self._warm_ups.values():
            each.stop()
        # At once: workers connect to a successor as soon as they lose this consumer.
        self._closed = True
        self._publisher.close()
        self._snapshots.close()
        await asyncio.to_thread(self._source.join, END_SECONDS)

    def tick(self) -> None:
        """Once a second: trim rings, write gauges, stop waiting for partitions that stall."""
        now = time.monotonic()
        for ring in self._rings.values():
            ring.trim(now)
        record_ring_depth(self._runtime.row, self._rings.values())
        tables = [each.values for each in self._intakes.values() if each.values is not None]
        record_snapshots(self._runtime.row, tables)
        for intake in self._intakes.values():
            for partition in intake.skip_stalled(now):
                _log.warning(
                    "a partition is not read back: going on without it",
                    stream=intake.stream,
                    partition=partition,
                )
            self._settle(intake)
        self._update_readiness()
        if not self._publisher.reachable() or (self._serving and not self._directory.found()):
            _log.error("the bus's sockets were removed or replaced")
            self.failed.set()

    def _take_over(self) -> None:
        if not self._serving:
            self._serving = True
            self._directory.take_over()

    def _stream_head(self, stream: str) -> StreamHead | None:
        # Called from the history thread.
        intake = self._intakes.get(stream)
        if intake is None or intake.ring is None:
            return None
        return StreamHead(intake.epoch, intake.topic_epoch, intake.ring.head)

    def _warm_up(self, intake: Intake, found: TopicFound) -> None:
        """Read the records from before those of the ring, for its table of last values."""
        if (before := self._warm_ups.pop(found.stream, None)) is not None:
            before.stop()
        if intake.values is None:
            return
        runtime = self._runtime

        def put(records: list[OldRecord]) -> None:
            self._call(self._on_old_records, warm_up, intake, records)

        def done(outcome: WarmedUp) -> None:
            self._call(self._on_warm, intake, outcome)

        client = {**client_settings(runtime.settings.kafka), "logger": library_logger()}
        warm_up = WarmUp(found, runtime.settings, client, self._schemas, put, done)
        self._warm_ups[found.stream] = warm_up
        warm_up.start()

    @crash_on_error
    def _on_old_records(self, warm_up: WarmUp, intake: Intake, records: list[OldRecord]) -> None:
        intake.take_old(records)
        warm_up.taken()

    @crash_on_error
    def _on_warm(self, intake: Intake, outcome: WarmedUp) -> None:
        if self._intakes.get(intake.stream) is intake and not self._closed:
            intake.warmed_up(outcome)
            took_ms = int(outcome.seconds * 1000)
            row = self._runtime.row
            row[Field.SNAPSHOT_WARM_MS] = max(row[Field.SNAPSHOT_WARM_MS], took_ms)
            self._update_readiness()

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        # From other threads, which may outlive the loop by a moment.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _emit(self, event: Event) -> None:
        self._call(self._on_event, event)

    @crash_on_error
    def _on_event(self, event: Event) -> None:
        if self._closed:
            if isinstance(event, Records):
                self._source.done()
            return
        match event:
            case Records():
                try:
                    self._on_records(event)
                finally:
                    self._source.done()
            case TopicFound():
                self._on_topic_found(event)
            case PartitionAdded():
                self._intakes[event.stream].add_partition(event.partition, event.begin)
                self._stalls.add_partition(event.stream)
            case RecordsLost():
                self._on_lost(event)
            case BrokerState():
                self._runtime.row[Field.BROKER_UP] = int(event.up)
            case LogEnds():
                self._progress.ends(event.ends)
            case MetadataStalls():
                self._stalls.replace_metadata(event.stream, event.stalls)
                self._update_readiness()
            case FetchError():
                self._stalls.fetch_failed(event.stream, event.partition, event.stall)
                self._update_readiness()
            case SchemaAwaited():
                self._stalls.schema_awaited(event.stream, event.partition)

    def _on_records(self, records: Records) -> None:
        newest: dict[tuple[str, int], Record] = {}
        for record in records.records:
            self._intakes[record.stream].take(record)
            newest[record.stream, record.partition] = record
        for (stream, partition), record in newest.items():
            self._published[stream, partition] = record.offset + 1
            self._progress.published(stream, partition, record.offset + 1, record.timestamp_ms)
        for (stream, partition), end in records.ends.items():
            self._intakes[stream].reached(partition, end)
            self._progress.published(stream, partition, end, None)
        for intake in self._intakes.values():
            self._settle(intake)
        if self._stalls.silent and self._stalls.heard({*newest, *records.ends}):
            self._update_readiness()

    def _on_topic_found(self, found: TopicFound) -> None:
        epoch = found.epoch
        known = self._intakes.get(found.stream)
        if known is not None and known.topic_epoch == epoch:
            # The same topic with a shorter log, or one without an id that was created anew: the
            # clients' positions must not be applied to it.
            epoch = secrets.token_hex(4)
        runtime = self._runtime
        intake = Intake(found.stream, found, epoch, runtime.settings, runtime.row, self._publisher)
        intake.on_bad = partial(self._progress.skipped, found.stream)
        intake.on_unkeyed = partial(self._progress.unkeyed, found.stream)
        self._intakes[found.stream] = intake
        self._stalls.restart(found.stream, len(found.begin))
        for partition, offset in enumerate(found.begin):
            self._progress.published(found.stream, partition, offset, None)
        self._warm_up(intake, found)
        self._settle(intake)

    def _settle(self, intake: Intake) -> None:
        if not intake.settle():
            return
        assert intake.ring is not None
        self._rings[intake.stream] = intake.ring
        # Every worker synchronises, and so gets the new ring.
        self._publisher.break_run()
        self._update_readiness()

    def _update_readiness(self) -> None:
        """Write the stalls; become ready once every stream serves all that can be read of it."""
        self._stalls.update_board()
        if (
            self._rings.keys() == self._topics.keys()
            and all(map(self._stalls.serves, self._topics))
            and (self._serving or self._is_warm())
        ):
            self._take_over()
            self._runtime.ready()

    def _is_warm(self) -> bool:
        """Whether nothing is gained by waiting for the tables of last values any longer."""
        return self._loop.time() >= self._warm_until or all(
            intake.values is None or intake.values.warm for intake in self._intakes.values()
        )

    def _on_lost(self, lost: RecordsLost) -> None:
        topic = self._topics[lost.stream]
        if lost.retention:
            _log.error(
                "records lost: retention took them before they were read",
                topic=topic,
                partition=lost.partition,
                first_offset=lost.begin,
                last_offset=lost.end - 1,
            )
            self._runtime.row.add(Field.LOST_RECORDS, lost.end - lost.begin)
            self._progress.lost(lost.stream, lost.partition, lost.end - lost.begin)
        else:
            _log.warning(
                "records left out: the partition could not be read for too long",
                topic=topic,
                partition=lost.partition,
                first_offset=lost.begin,
                last_offset=lost.end - 1,
            )
        self._intakes[lost.stream].lost(lost)


async def consume(runtime: Runtime) -> None:
    """Consume until the supervisor asks for a drain; ChildFailed: the bus's sockets have gone."""
    # While records are read back, threads would delay live ones by the usual 5 ms at each switch.
    sys.setswitchinterval(SWITCH_SECONDS)
    process = ConsumerProcess(runtime)
    process.start()
    drained = asyncio.create_task(runtime.drain.wait())
    try:
        while not drained.done() and not process.failed.is_set():
            await asyncio.wait({drained}, timeout=TICK_SECONDS)
            process.tick()
    finally:
        drained.cancel()
        await process.stop()
    if process.failed.is_set():
        raise ChildFailed
