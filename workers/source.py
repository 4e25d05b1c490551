"""The Kafka side of the consumer process: a thread that reads every partition of every topic.

By assign(), never in a balanced group: each replica must see everything. Offsets are committed
only so that lag shows. `auto.offset.reset` is `error`, because the other settings skip what
retention took without a word. What happens is handed to the event loop as values; a semaphore
keeps this thread from running ahead of it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Final, NamedTuple

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from energyws.flood import Limited
from energyws.log import Log
from energyws.settings import History, Kafka
from workers.discovery import ASK_SECONDS, Discovery, Topic
from workers.librdkafka import client_settings, library_logger, live_settings, open_consumer

RECORDS_PER_BATCH: Final = 500
# Also how long a shut-down or a new partition waits at most.
POLL_SECONDS: Final = 0.1
# How many batches may wait for the event loop.
BATCHES_AHEAD: Final = 4
ENDS_SECONDS: Final = 1.0

# Between two looks at the topics because partitions cannot be read.
HURRY_SECONDS: Final = 10.0

_log = Log("kafka")


@dataclass(frozen=True, slots=True)
class Found:
    """A stream's topic is there, or is another one now: read from `begin`, live from `live`.

    Both are offsets of partition 0, 1, …; a stream that was found before starts over.
    """

    stream: str
    epoch: str
    begin: tuple[int, ...]
    live: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Grown:
    """A partition was added; it is read from `begin`."""

    stream: str
    partition: int
    begin: int


class Record(NamedTuple):
    """What is kept of a message; timestamp_ms is None where the broker has none."""

    stream: str
    partition: int
    offset: int
    timestamp_ms: int | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Records:
    """Records in the order of each partition, and ends of partitions that were reached.

    ends: (stream, partition) to the offset after its last record.
    """

    records: list[Record]
    ends: dict[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class Lost:
    """Retention took records before they were read: offsets `begin` up to, not with, `end`."""

    stream: str
    partition: int
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class BrokerState:
    """The broker went away, or came back."""

    up: bool


@dataclass(frozen=True, slots=True)
class Ends:
    """Where the logs end, by (stream, partition): the high watermarks, as far as they are known."""

    ends: dict[tuple[str, int], int]


Event = Found | Grown | Records | Lost | BrokerState | Ends


class Source(threading.Thread):
    """Calls `emit(event)` from its thread; whoever has dealt with a Records calls `done()`.

    published: the next offset of each (stream, partition) that may be committed, kept by the
    event loop.
    """

    def __init__(
        self,
        kafka: Kafka,
        history: History,
        topics: Mapping[str, str],
        published: Mapping[tuple[str, int], int],
        emit: Callable[[Event], None],
    ) -> None:
        super().__init__(name="kafka", daemon=True)
        self._kafka = kafka
        self._history = history
        self._topics = topics
        self._streams = {topic: stream for stream, topic in topics.items()}
        self._published = published
        self._emit = emit
        # Where discovery last saw the logs end.
        self._seen_ends: dict[str, tuple[int, ...]] = {}
        self._found: SimpleQueue[tuple[str, Topic]] = SimpleQueue()
        self._epochs: dict[str, str] = {}
        self._assigned: dict[str, int] = {}
        # Per (stream, partition) where reading began, and the next offset; and of those that the
        # log does not have, the offset in the error, None where it says that the log lost its end.
        self._begun: dict[tuple[str, int], int] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._stuck: dict[tuple[str, int], int | None] = {}
        self._room = threading.Semaphore(BATCHES_AHEAD)
        self._stopping = threading.Event()
        self._broker_up: bool | None = None
        self._limited = Limited(_log, 10.0)
        self._hurry_at = time.monotonic()
        self._commit_refused = False
        self._committed: dict[tuple[str, int], int] = {}
        self._consumer = open_consumer(
            {
                **live_settings(kafka),
                "error_cb": self._on_error,
                "on_commit": self._on_commit,
            }
        )
        self._discovery = Discovery(
            {**client_settings(kafka), "logger": library_logger()},
            topics,
            kafka.metadata_refresh_seconds,
            lambda stream, topic: self._found.put((stream, topic)),
            self._set_broker,
            self._on_ends,
        )

    def done(self) -> None:
        """One Records has been dealt with (called from the event loop)."""
        self._room.release()

    def stop(self) -> None:
        """Commit and end; `join` waits for it."""
        self._stopping.set()
        self._room.release()

    def run(self) -> None:
        """The thread."""
        self._discovery.start()
        next_commit = time.monotonic() + self._kafka.commit_interval_seconds
        next_ends = 0.0
        try:
            while not self._stopping.is_set():
                self._take_found()
                self._poll()
                now = time.monotonic()
                if now >= next_ends:
                    self._tell_ends()
                    next_ends = now + ENDS_SECONDS
                if now >= next_commit:
                    self._commit()
                    next_commit = now + self._kafka.commit_interval_seconds
            self._commit()
            self._consumer.poll(0)
        except Exception:
            # Not a bad record and not a lost broker: without this thread nothing flows.
            _log.exception("reading from Kafka failed")
            self._emit(BrokerState(False))
            raise
        finally:
            self._discovery.stop()
            self._consumer.close()

    def _poll(self) -> None:
        first = self._consumer.poll(POLL_SECONDS)
        if first is None:
            return
        # consume() with a timeout waits for a full batch; without one it takes what is there.
        messages = [first, *self._consumer.consume(RECORDS_PER_BATCH, 0)]
        records: list[Record] = []
        ends: dict[tuple[str, int], int] = {}
        troubled: list[tuple[KafkaError, str, int, int | None]] = []
        for message in messages:
            name, partition, offset = message.topic(), message.partition(), message.offset()
            if name is None or partition is None:
                # An error of the client as a whole; error_cb has had it too.
                continue
            error = message.error()
            if offset is None:
                # A log that lost its end is reported without one (KIP-320).
                if error is not None:
                    troubled.append((error, name, partition, None))
            elif error is None:
                kind, timestamp = message.timestamp()
                timestamp_ms = None if kind == TIMESTAMP_NOT_AVAILABLE else timestamp
                stream = self._streams[name]
                records.append(Record(stream, partition, offset, timestamp_ms, message.value()))
                self._next[stream, partition] = offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[self._streams[name], partition] = offset
                self._next[self._streams[name], partition] = offset
            else:
                troubled.append((error, name, partition, offset))
        if records or ends:
            self._set_broker(True)
            self._room.acquire()
            self._emit(Records(records, ends))
        for trouble in troubled:
            self._on_trouble(*trouble)

    def _take_found(self) -> None:
        while True:
            try:
                stream, topic = self._found.get_nowait()
            except Empty:
                return
            assigned = self._assigned.get(stream, 0)
            if not assigned or topic.epoch != self._epochs[stream]:
                self._begin(stream, topic, assigned)
            else:
                self._grow(stream, topic, assigned)
                self._unstick(stream, topic)

    def _begin(self, stream: str, topic: Topic, assigned: int) -> None:
        name = self._topics[stream]
        if assigned:
            _log.warning("topic is another one now: reading it", stream=stream, topic=name)
            self._unassign(stream)
            self._stuck = {key: told for key, told in self._stuck.items() if key[0] != stream}
        earliest = self._kafka.auto_offset_reset == "earliest" or assigned
        back = self._history.max_frames if earliest else self._history.warm
        begin = tuple(max(low, high - back) for low, high in topic.ends)
        # Of a topic that replaced another every record is news, however old.
        live = begin if assigned else tuple(high for _, high in topic.ends)
        self._epochs[stream] = topic.epoch
        self._assigned[stream] = len(topic.ends)
        self._begun.update({(stream, p): offset for p, offset in enumerate(begin)})
        self._next.update({(stream, p): offset for p, offset in enumerate(begin)})
        self._emit(Found(stream, topic.epoch, begin, live))
        # A topic that the handle has not heard of yet would cost half a second; no more than that.
        with contextlib.suppress(KafkaException):
            self._consumer.list_topics(name, timeout=ASK_SECONDS)
        self._consumer.incremental_assign(
            [TopicPartition(name, partition, offset) for partition, offset in enumerate(begin)]
        )
        _log.info(
            "reading topic",
            stream=stream,
            topic=name,
            partitions=len(begin),
            epoch=topic.epoch,
            records_read_back=sum(live) - sum(begin),
        )

    def _grow(self, stream: str, topic: Topic, assigned: int) -> None:
        for partition in range(assigned, len(topic.ends)):
            low, _ = topic.ends[partition]
            self._begun[stream, partition] = self._next[stream, partition] = low
            self._emit(Grown(stream, partition, low))
            self._consumer.incremental_assign(
                [TopicPartition(self._topics[stream], partition, low)]
            )
            self._assigned[stream] = partition + 1
            _log.info("partition added", stream=stream, partition=partition, offset=low)

    def _unassign(self, stream: str) -> None:
        name = self._topics[stream]
        partitions = range(self._assigned.pop(stream))
        self._consumer.incremental_unassign([TopicPartition(name, p) for p in partitions])

    def _on_trouble(self, error: KafkaError, name: str, partition: int, offset: int | None) -> None:
        stream = self._streams[name]
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            # The log no longer has the offset: it was trimmed past us, or is another log. The
            # consumer's own watermarks cannot be trusted in this state; discovery's can.
            self._stuck[stream, partition] = offset
            self._discovery.look_again(stream)
        else:
            self._limited.warning(
                "reading a partition failed: trying again",
                topic=name,
                partition=partition,
                reason=error.str(),
            )
            now = time.monotonic()
            if now >= self._hurry_at:
                self._hurry_at = now + HURRY_SECONDS
                self._discovery.hurry()

    def _unstick(self, stream: str, topic: Topic) -> None:
        """Go on with partitions that were out of range, now that their ends are known."""
        for partition, (low, high) in enumerate(topic.ends):
            if (stream, partition) not in self._stuck:
                continue
            told = self._stuck.pop((stream, partition))
            offset = self._next[stream, partition]
            # Either may be a late word about the log before: then nothing was read of this one, or
            # the offset is not the one in the error.
            cut = told is None and offset != self._begun[stream, partition]
            # The log has what it did not have: it lost its end and has grown since. Below that
            # offset there are records now that nobody has read.
            regrown = told == offset >= low
            if offset > high or cut or regrown:
                _log.error(
                    "log has lost records that were read of it",
                    stream=stream,
                    partition=partition,
                    offset=offset,
                    high_watermark=high,
                )
                self._begin(stream, topic, len(topic.ends))
                return
            if offset < low:
                self._emit(Lost(stream, partition, offset, low))
            # seek() refuses in this state; assigning anew does not.
            place = TopicPartition(self._topics[stream], partition, max(low, offset))
            self._consumer.incremental_unassign([place])
            self._consumer.incremental_assign([place])

    def _on_ends(self, stream: str, topic: Topic) -> None:
        self._seen_ends[stream] = tuple(high for _, high in topic.ends)

    def _tell_ends(self) -> None:
        """As the newest fetch said, or discovery: where fetches fail there is an end, too."""
        ends = {}
        for stream, assigned in self._assigned.items():
            name, seen = self._topics[stream], self._seen_ends.get(stream, ())
            for partition in range(assigned):
                place = TopicPartition(name, partition)
                fetched = self._consumer.get_watermark_offsets(place, cached=True)
                high = max(fetched[1] if fetched else -1, *seen[partition : partition + 1], -1)
                if high >= 0:
                    ends[stream, partition] = high
        if ends:
            self._emit(Ends(ends))

    def _set_broker(self, up: bool) -> None:
        if up is not self._broker_up:
            self._broker_up = up
            if up:
                _log.info("broker is reachable", brokers=self._kafka.brokers)
            else:
                _log.warning("broker is not reachable: trying again", brokers=self._kafka.brokers)
            self._emit(BrokerState(up))

    def _on_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._set_broker(False)
            self._discovery.hurry()
        else:
            self._limited.warning("Kafka client reports", reason=error.str())

    def _commit(self) -> None:
        published = dict(self._published)
        if not self._broker_up or published == self._committed:
            return
        self._committed = published
        offsets = [
            TopicPartition(self._topics[stream], partition, offset)
            for (stream, partition), offset in published.items()
        ]
        try:
            # Never synchronously: with the broker away that blocks for as long as it likes.
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as refused:
            self._on_commit(refused.args[0], [])

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        refused = error or next((p.error for p in partitions if p.error is not None), None)
        if refused is None:
            self._commit_refused = False
        elif not self._commit_refused:
            self._commit_refused = True
            _log.warning(
                "offsets cannot be committed: streaming goes on, consumer lag will not show",
                group=self._kafka.group_id,
                reason=refused.str(),
                hint="another consumer may have joined this group; give each service its own",
            )
