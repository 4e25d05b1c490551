"""Reads a topic's old records, for the table of last values, with a Kafka client of its own.

All records of a compacted topic; of another one those of `lookback_seconds`. Live records need not
wait for it: the loop takes a bounded number of old ones at a time.
"""

from __future__ import annotations

import threading
import time
from array import array
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined]

from energyws.errors import EnergywsError
from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.process.board import COLUMNS, Row
from energyws.protocol.position import Position, from_offsets
from energyws.settings import Settings
from energyws.stream.record import BadRecord, Decoder, timestamp
from workers.consumer.events import OldRecord, TopicFound, WarmedUp
from workers.consumer.librdkafka import assigned_settings
from workers.consumer.log_cache import LogCache, NotYet, StreamHead, StreamLog
from workers.consumer.log_reader import Unreadable
from workers.consumer.metadata import ASK_SECONDS, BrokersUnavailable, TopicUnavailable
from workers.consumer.schemas.store import Awaited, Schemas
from workers.runtime import crash_on_error

RECORDS_PER_BATCH: Final = 500
POLL_SECONDS: Final = 0.1
# How many batches may wait for the event loop.
BATCHES_AHEAD: Final = 4
RETRY_SECONDS: Final = 1.0
# How often it looks for a schema that is awaited.
SCHEMA_SECONDS: Final = 0.05
# A partition from which nothing has come for this long is left out.
SILENCE_SECONDS: Final = 60.0

# The board counts what is read for clients only.
_UNCOUNTED: Final = Row(0, *(memoryview(array("q", [0] * COLUMNS)) for _ in range(3)))

_log = Log("snapshot")


@dataclass(slots=True)
class _Plan:
    """since_ms: as in WarmedUp. left: of each partition that is not read yet, its next offset."""

    since_ms: int | None
    left: dict[int, int]
    lacking: list[int] = field(default_factory=list)


class _LogMoved(EnergywsError):
    """Retention has removed the next records of a partition."""


class WarmUp(threading.Thread):
    """Of one stream whose topic was found; ends by itself, or by `stop`.

    put(records) is called from this thread; for each call, its receiver calls `taken`. done is
    called at the end, unless this was stopped. client: settings of a Kafka client.
    """

    def __init__(
        self,
        found: TopicFound,
        settings: Settings,
        client: Mapping[str, Any],
        schemas: Schemas,
        put: Callable[[list[OldRecord]], None],
        done: Callable[[WarmedUp], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name=f"warm-up {found.stream}", daemon=True)
        self._found = found
        self._settings = settings
        self._client = client
        self._put = put
        self._done = done
        self._schemas = schemas
        self._clock = clock
        self._stream = settings.streams[found.stream]
        self._decoder = Decoder(self._stream, settings.kafka.max_record_bytes)
        self._room = threading.Semaphore(BATCHES_AHEAD)
        self._stopping = threading.Event()
        self._limited = RateLimitedLog(_log, 10.0)
        self._records = 0

    def taken(self) -> None:
        """The records of one `put` have been processed."""
        self._room.release()

    def stop(self) -> None:
        """End the thread soon, without waiting for it."""
        self._stopping.set()
        self._room.release()

    @crash_on_error
    def run(self) -> None:
        """The thread."""
        began = self._clock()
        cache = LogCache(self._settings, self._client, _UNCOUNTED, self._schemas)
        plan: _Plan | None = None
        while not self._stopping.is_set():
            try:
                plan = self._plan(cache) if plan is None else self._without_gone(plan, cache)
                self._read(plan)
            except _LogMoved:
                continue
            except Awaited as awaited:
                while not self._stopping.wait(SCHEMA_SECONDS):
                    if self._schemas.ready(awaited.key):
                        break
            except (
                KafkaException,
                NotYet,
                Unreadable,
                BrokersUnavailable,
                TopicUnavailable,
            ) as failure:
                reason = failure.args[0].str() if isinstance(failure, KafkaException) else failure
                self._limited.warning(
                    "old records for snapshots cannot be read: trying again",
                    stream=self._found.stream,
                    reason=reason,
                )
                cache.refresh(self._found.stream)
                self._stopping.wait(RETRY_SECONDS)
            else:
                break
        cache.close()
        if plan is not None and not self._stopping.is_set():
            seconds = self._clock() - began
            self._done(WarmedUp(plan.since_ms, tuple(plan.lacking), self._records, seconds))

    def _plan(self, cache: LogCache) -> _Plan:
        log, begin = self._log(cache)
        since_ms: int | None = None
        start = log.lows
        lookback = self._stream.snapshot.lookback_seconds
        if lookback is not None and not self._is_compacted(cache):
            since_ms = max(0, int((time.time() - lookback) * 1000))
            start = start.merge(log.since(since_ms))
            if not start.beyond(log.lows):
                since_ms = None
        left = {
            partition: offset
            for partition, offset in enumerate(start.offsets)
            if offset < begin.next_offset(partition) and partition not in log.unreadable
        }
        return _Plan(since_ms, left, sorted(log.unreadable))

    def _without_gone(self, plan: _Plan, cache: LogCache) -> _Plan:
        """The plan, without what retention has removed: nobody lacks that."""
        log, _ = self._log(cache)
        plan.left = {p: max(at, log.lows.next_offset(p)) for p, at in plan.left.items()}
        return plan

    def _log(self, cache: LogCache) -> tuple[StreamLog, Position]:
        """The log, up to where live records begin; and that place."""
        found = self._found
        begin = from_offsets(found.epoch, found.begin)
        return cache.stream_log(found.stream, StreamHead(found.epoch, found.epoch, begin)), begin

    def _is_compacted(self, cache: LogCache) -> bool:
        resource = ConfigResource(ConfigResource.Type.TOPIC, self._stream.topic)
        try:
            answer = cache.admin.describe_configs([resource], request_timeout=ASK_SECONDS)
            policy = answer[resource].result()["cleanup.policy"].value
        except KafkaException as failure:
            # The service may not ask, or the broker has no such request.
            _log.info(
                "not known whether the topic is compacted: reading lookback_seconds of it",
                stream=self._found.stream,
                reason=failure.args[0].str(),
            )
            return False
        return "compact" in str(policy).split(",")

    def _read(self, plan: _Plan) -> None:
        """Read all that is left; raises _LogMoved."""
        if not plan.left:
            return
        consumer = Consumer(
            {
                **self._client,
                **assigned_settings(self._settings.kafka),
                # The source's consumer reports the broker's errors.
                "error_cb": lambda error: None,
            }
        )
        try:
            topic = self._stream.topic
            consumer.list_topics(topic, timeout=ASK_SECONDS)
            consumer.assign([TopicPartition(topic, p, at) for p, at in plan.left.items()])
            heard_at = dict.fromkeys(plan.left, self._clock())
            while plan.left and not self._stopping.is_set():
                batch: list[OldRecord] = []
                messages = consumer.consume(RECORDS_PER_BATCH, POLL_SECONDS)
                try:
                    for message in messages:
                        self._take(message, plan, heard_at, batch)
                except Awaited:
                    self._ask_for_schemas(messages)
                    raise
                finally:
                    # Also before a failure: reading goes on after these.
                    self._hand_over(batch)
                self._give_up_silent(plan, heard_at)
                for partition in heard_at.keys() - plan.left.keys():
                    del heard_at[partition]
                    consumer.incremental_unassign([TopicPartition(topic, partition)])
        finally:
            consumer.close()

    def _ask_for_schemas(self, messages: Iterable[Message]) -> None:
        """Of all of these, so that a batch of garbage takes no longer than one record of it."""
        for message in messages:
            with suppress(Awaited):
                if message.error() is None:
                    self._schemas.reader(self._found.stream, message)

    def _take(
        self, message: Message, plan: _Plan, heard_at: dict[int, float], batch: list[OldRecord]
    ) -> None:
        partition, offset, error = message.partition(), message.offset(), message.error()
        if partition is None or partition not in plan.left:
            return
        if error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise _LogMoved
        if offset is None or (error is not None and error.code() != KafkaError._PARTITION_EOF):
            return
        heard_at[partition] = self._clock()
        end = self._found.begin[partition]
        if error is not None or offset >= end:
            del plan.left[partition]
            return
        # Before the record counts as read: it is read again if its schema is awaited.
        reader = self._schemas.reader(self._found.stream, message)
        plan.left[partition] = offset + 1
        if plan.left[partition] == end:
            del plan.left[partition]
        kind, written = message.timestamp()
        written_ms = None if kind == TIMESTAMP_NOT_AVAILABLE else written
        try:
            raw_key = self._decoder.raw_key(message)
            data, key = self._decoder.decode(message.value(), raw_key, reader)
        except BadRecord:
            return
        if key is not None:
            timestamp_ms = timestamp(written_ms, time.time_ns() // 1_000_000)
            batch.append(OldRecord(key, timestamp_ms, data, partition))

    def _hand_over(self, batch: list[OldRecord]) -> None:
        if batch:
            self._records += len(batch)
            self._room.acquire()
            self._put(batch)

    def _give_up_silent(self, plan: _Plan, heard_at: Mapping[int, float]) -> None:
        late = self._clock() - SILENCE_SECONDS
        for partition in [p for p in plan.left if heard_at[p] < late]:
            del plan.left[partition]
            plan.lacking.append(partition)
