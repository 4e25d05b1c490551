"""The Kafka side of the consumer process: a thread that reads every partition of every topic.

What happens is handed to the event loop as values; a semaphore keeps this thread from running ahead
of the loop. Offsets are committed only so that lag shows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import Final

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaError, Message, TopicPartition

from energyws.settings import History, Kafka
from energyws.stream.record import Reader
from energyws.stream.record_key import KeyRule
from workers.consumer.assignment import Assignment
from workers.consumer.commits import Commits
from workers.consumer.discovery import Discovery
from workers.consumer.events import BrokerState, Event, LogEnds, MetadataStalls, Record, Records
from workers.consumer.librdkafka import live_settings, open_admin, open_consumer
from workers.consumer.metadata import Topic
from workers.consumer.reachability import Reachability
from workers.consumer.schemas.kept import Key as SchemaKey
from workers.consumer.schemas.store import Awaited, Schemas
from workers.runtime import crash_on_error

RECORDS_PER_BATCH: Final = 500
# Also the longest delay of a shutdown or of a new partition.
POLL_SECONDS: Final = 0.1
# The same while a partition waits for its schema, which mostly takes milliseconds.
WAITING_POLL_SECONDS: Final = 0.01
# How many batches may wait for the event loop.
BATCHES_AHEAD: Final = 4
ENDS_SECONDS: Final = 1.0
# The least time between two looks at the topics because partitions cannot be read.
LOOK_SECONDS: Final = 10.0
# How often partitions whose fetches fail are assigned anew.
PROBE_SECONDS: Final = 10.0
# How long the last commit may take.
COMMIT_SECONDS: Final = 0.5


class Source(threading.Thread):
    """Calls `emit(event)` from its threads; for each Records, the receiver calls `done()`.

    key_rules: of the streams whose keys stand outside the value, by name.
    published: the next offset of each (stream, partition) that may be committed, kept by the
    event loop. A record whose schema is not known yet stays in the log, with those after it.
    """

    def __init__(
        self,
        kafka: Kafka,
        history: History,
        topics: Mapping[str, str],
        key_rules: Mapping[str, KeyRule],
        published: Mapping[tuple[str, int], int],
        emit: Callable[[Event], None],
        schemas: Schemas,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(name="kafka", daemon=True)
        self._kafka = kafka
        self._schemas = schemas
        self._topics = topics
        self._streams = {topic: stream for stream, topic in topics.items()}
        self._key_rules = key_rules
        self._published = published
        self._emit = emit
        self._clock = clock
        # Where discovery last saw the logs end.
        self._seen_ends: dict[str, dict[int, int]] = {}
        self._found: SimpleQueue[tuple[str, Topic]] = SimpleQueue()
        self._room = threading.Semaphore(BATCHES_AHEAD)
        self._stopping = threading.Event()
        # Monotonic times at which each is due.
        self._next_look = self._next_probe = self._next_ends = clock()
        self._next_commit = self._next_ends + kafka.commit_interval_seconds
        self._reachability = Reachability(kafka.brokers, lambda up: emit(BrokerState(up)))
        self._commits = Commits(kafka.group_id, topics)
        self._consumer = open_consumer(
            {
                **live_settings(kafka),
                "error_cb": self._on_error,
                "on_commit": self._commits.on_commit,
            }
        )
        self._discovery = Discovery(
            open_admin(kafka),
            kafka,
            topics,
            lambda stream, topic: self._found.put((stream, topic)),
            self._on_broker,
            self._on_ends,
            lambda stream, stalls: emit(MetadataStalls(stream, stalls)),
        )
        self._assignment = Assignment(
            self._consumer,
            kafka,
            history,
            topics,
            emit,
            self._discovery.look_again,
            self._look_soon,
        )

    def done(self) -> None:
        """The event loop has processed one Records."""
        self._room.release()

    def stop(self) -> None:
        """Commit and end; `join` waits for it."""
        self._stopping.set()
        self._room.release()

    @crash_on_error
    def run(self) -> None:
        """The thread."""
        self._discovery.start()
        try:
            while not self._stopping.is_set():
                self.step()
            if self._reachability.up:
                self._commits.finish(self._consumer, dict(self._published), COMMIT_SECONDS)
        finally:
            self._discovery.stop()
        if not self._commits.under_way:
            self._consumer.close()

    def step(self) -> None:
        """One turn of the thread; it takes POLL_SECONDS at most while no message arrives."""
        self._take_found()
        self._go_on()
        self._poll()
        self._reachability.log_due()
        now = self._clock()
        if now >= self._next_ends:
            self._emit_ends()
            self._next_ends = now + ENDS_SECONDS
        if now >= self._next_commit:
            if self._reachability.up:
                self._commits.commit(self._consumer, dict(self._published))
            self._next_commit = now + self._kafka.commit_interval_seconds
        if self._assignment.failing and now >= self._next_probe:
            self._assignment.probe()
            self._next_probe = now + PROBE_SECONDS

    def _take_found(self) -> None:
        while True:
            try:
                stream, topic = self._found.get_nowait()
            except Empty:
                return
            self._assignment.update(stream, topic)

    def _go_on(self) -> None:
        """Read on where the schema is known by now."""
        for (stream, partition), schema in list(self._assignment.waiting.items()):
            if self._schemas.ready(schema):
                self._assignment.go_on(stream, partition)

    def _poll(self) -> None:
        waiting = self._assignment.waiting
        first = self._consumer.poll(WAITING_POLL_SECONDS if waiting else POLL_SECONDS)
        if first is None:
            return
        # consume() with a timeout waits for a full batch; without one it takes what is there.
        messages = [first, *self._consumer.consume(RECORDS_PER_BATCH, 0)]
        records: list[Record] = []
        ends: dict[tuple[str, int], int] = {}
        failures: list[tuple[KafkaError, str, int, int | None]] = []
        # Where the records before go on to the event loop first.
        awaited: dict[tuple[str, int], tuple[int, SchemaKey]] = {}
        next_offsets = self._assignment.next_offsets
        for message in messages:
            name, partition, offset = message.topic(), message.partition(), message.offset()
            error = message.error()
            if name is None or partition is None:
                # An error of the client as a whole. error_cb reports it too, unless it is of the
                # group: librdkafka looks for its coordinator though the client never joins.
                if error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                    self._commits.failed(error)
                continue
            place = self._streams[name], partition
            if place in awaited:
                # It will be read again; but its schema may be fetched meanwhile.
                if error is None:
                    self._reader(place[0], message)
                continue
            if offset is None:
                # A log that lost its end is reported without an offset (KIP-320).
                if error is not None:
                    failures.append((error, name, partition, None))
            elif error is None:
                kind, timestamp = message.timestamp()
                timestamp_ms = None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp
                reader = self._reader(place[0], message)
                if isinstance(reader, Awaited):
                    awaited[place] = offset, reader.key
                    continue
                rule = self._key_rules.get(place[0])
                key = None if rule is None else rule.raw(message)
                value = message.value()
                records.append(Record(*place, offset, timestamp_ms, value, key, reader))
                next_offsets[place] = offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[place] = offset
                next_offsets[place] = offset
            else:
                failures.append((error, name, partition, offset))
        if records or ends or awaited:
            self._reachability.answered()
            if self._assignment.failing:
                heard = {(each.stream, each.partition) for each in records}
                self._assignment.heard(heard | ends.keys() | awaited.keys())
        if records or ends:
            self._room.acquire()
            self._emit(Records(records, ends))
        for error, name, partition, failed in failures:
            self._assignment.fetch_failed(error, name, self._streams[name], partition, failed)
        for place, (awaited_at, schema) in awaited.items():
            self._assignment.wait(*place, awaited_at, schema)

    def _reader(self, stream: str, message: Message) -> Reader | Awaited | None:
        try:
            return self._schemas.reader(stream, message, live=True)
        except Awaited as awaited:
            return awaited

    def _look_soon(self) -> None:
        now = self._clock()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._discovery.look_now()

    def _on_ends(self, stream: str, topic: Topic) -> None:
        self._seen_ends[stream] = {
            partition: ends[1] for partition, ends in enumerate(topic.ends) if ends is not None
        }

    def _emit_ends(self) -> None:
        """As the newest fetch reported, or discovery: where fetches fail, a log has an end too."""
        ends = {}
        for stream, partitions in self._assignment.partitions.items():
            name, seen = self._topics[stream], self._seen_ends.get(stream, {})
            for partition in range(partitions):
                fetched = self._consumer.get_watermark_offsets(
                    TopicPartition(name, partition), cached=True
                )
                high = max(fetched[1] if fetched else -1, seen.get(partition, -1))
                if high >= 0:
                    ends[stream, partition] = high
        if ends:
            self._emit(LogEnds(ends))

    def _on_broker(self, up: bool, reason: str) -> None:
        if up:
            self._reachability.answered()
        else:
            self._reachability.lost(reason)

    def _on_error(self, error: KafkaError) -> None:
        if self._reachability.error(error):
            if self._reachability.up:
                self._look_soon()
            else:
                self._discovery.look_now()
