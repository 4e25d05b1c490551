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
from collections.abc import Callable, Collection, Mapping
from queue import Empty, SimpleQueue
from typing import Final

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    KafkaError,
    KafkaException,
    TopicPartition,
)

from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.settings import History, Kafka
from workers.consumer.commits import Commits
from workers.consumer.discovery import Discovery
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
from workers.consumer.librdkafka import live_settings, open_admin, open_consumer
from workers.consumer.metadata import ASK_SECONDS, Topic, wait_of
from workers.consumer.reachability import Reachability
from workers.runtime import crash_on_error

RECORDS_PER_BATCH: Final = 500
# Also how long a shut-down or a new partition waits at most.
POLL_SECONDS: Final = 0.1
# How many batches may wait for the event loop.
BATCHES_AHEAD: Final = 4
ENDS_SECONDS: Final = 1.0

# Between two looks at the topics because partitions cannot be read.
HURRY_SECONDS: Final = 10.0
# Partitions whose fetches fail are begun anew at such intervals: their next record or end says
# that they can be read again, where the client library would stay silent at an end it has told.
PROBE_SECONDS: Final = 10.0
# How long the last commit may take; and the question where the group stands, while which nothing
# is read.
COMMIT_SECONDS: Final = 0.5
COMMITTED_SECONDS: Final = 2.0

_log = Log("kafka")


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
        self._seen_ends: dict[str, dict[int, int]] = {}
        self._found: SimpleQueue[tuple[str, Topic]] = SimpleQueue()
        self._epochs: dict[str, str] = {}
        self._assigned: dict[str, int] = {}
        # Per (stream, partition) where reading began, and the next offset; and of those that the
        # log does not have, the offset in the error, None where it says that the log lost its end.
        self._begun: dict[tuple[str, int], int] = {}
        self._next: dict[tuple[str, int], int] = {}
        self._stuck: dict[tuple[str, int], int | None] = {}
        # Those not assigned because nobody knew their ends, and whether it is known where reading
        # stood; those whose fetches fail, and with which error.
        self._absent: dict[tuple[str, int], bool] = {}
        self._troubled: dict[tuple[str, int], int] = {}
        self._room = threading.Semaphore(BATCHES_AHEAD)
        self._stopping = threading.Event()
        self._limited = RateLimitedLog(_log, 10.0)
        # Monotonic times at which each is due.
        self._next_hurry = self._next_probe = self._next_ends = time.monotonic()
        self._next_commit = self._next_ends + kafka.commit_interval_seconds
        self._reach = Reachability(kafka.brokers, lambda up: emit(BrokerState(up)))
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
            lambda stream, waits: emit(MetadataStalls(stream, waits)),
        )

    def done(self) -> None:
        """One Records has been dealt with (called from the event loop)."""
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
            if self._reach.up:
                self._commits.finish(self._consumer, dict(self._published), COMMIT_SECONDS)
        finally:
            self._discovery.stop()
        if not self._commits.under_way:
            self._consumer.close()

    def step(self) -> None:
        """One turn of the thread; takes POLL_SECONDS at most while nothing comes."""
        self._take_found()
        self._poll()
        self._reach.tell()
        now = time.monotonic()
        if now >= self._next_ends:
            self._tell_ends()
            self._next_ends = now + ENDS_SECONDS
        if now >= self._next_commit:
            if self._reach.up:
                self._commits.commit(self._consumer, dict(self._published))
            self._next_commit = now + self._kafka.commit_interval_seconds
        if self._troubled and now >= self._next_probe:
            self._probe()
            self._next_probe = now + PROBE_SECONDS

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
            error = message.error()
            if name is None or partition is None:
                # Of the client as a whole. error_cb has had it too, unless it is of the group,
                # whose coordinator the client looks for though it never joins.
                if error is not None and error.code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
                    self._commits.refused(error)
                continue
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
            self._reach.seen()
            if self._troubled:
                self._recover({(each.stream, each.partition) for each in records} | ends.keys())
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
                if not self._arrive(stream, topic):
                    self._unstick(stream, topic)

    def _begin(self, stream: str, topic: Topic, assigned: int) -> None:
        name = self._topics[stream]
        if assigned:
            _log.warning("topic is another one now: reading it", stream=stream, topic=name)
            self._unassign(stream)
        earliest = self._kafka.auto_offset_reset == "earliest" or assigned
        back = self._history.max_frames if earliest else self._history.warm
        # The group stood in the topic before, if there was one.
        stood = dict.fromkeys(topic.waits, 0) if assigned else self._committed(name, topic.waits)
        begin, live = [], []
        for partition, ends in enumerate(topic.ends):
            if ends is None:
                # It begins where the group stood, as soon as it can be read.
                self._absent[stream, partition] = partition in stood
                begin.append(stood.get(partition, 0))
                live.append(begin[-1])
                continue
            low, high = ends
            begin.append(max(low, high - back))
            # Of a topic that replaced another every record is news, however old.
            live.append(begin[-1] if assigned else high)
        self._epochs[stream] = topic.epoch
        self._assigned[stream] = len(topic.ends)
        self._begun.update({(stream, p): offset for p, offset in enumerate(begin)})
        self._next.update({(stream, p): offset for p, offset in enumerate(begin)})
        self._emit(Found(stream, topic.epoch, tuple(begin), tuple(live)))
        # A topic that the handle has not heard of yet would cost half a second; no more than that.
        with contextlib.suppress(KafkaException):
            self._consumer.list_topics(name, timeout=ASK_SECONDS)
        self._consumer.incremental_assign(
            [
                TopicPartition(name, partition, offset)
                for partition, offset in enumerate(begin)
                if (stream, partition) not in self._absent
            ]
        )
        _log.info(
            "reading topic",
            stream=stream,
            topic=name,
            partitions=len(begin),
            epoch=topic.epoch,
            records_read_back=sum(live) - sum(begin),
        )

    def _committed(self, name: str, partitions: Collection[int]) -> dict[int, int]:
        """Where the group stands in partitions that cannot be asked, as far as that is known."""
        if not partitions:
            return {}
        places = [TopicPartition(name, partition) for partition in partitions]
        try:
            found = self._consumer.committed(places, timeout=COMMITTED_SECONDS)
        except KafkaException as failure:
            _log.debug("the group's offsets cannot be had", reason=failure.args[0].str())
            return {}
        return {each.partition: each.offset for each in found if each.offset >= 0}

    def _grow(self, stream: str, topic: Topic, assigned: int) -> None:
        for partition in range(assigned, len(topic.ends)):
            ends = topic.ends[partition]
            low = ends[0] if ends is not None else 0
            self._begun[stream, partition] = self._next[stream, partition] = low
            self._emit(Grown(stream, partition, low))
            if ends is None:
                self._absent[stream, partition] = True
            else:
                self._assign(stream, partition, low)
            self._assigned[stream] = partition + 1
            _log.info("partition added", stream=stream, partition=partition, offset=low)

    def _arrive(self, stream: str, topic: Topic) -> bool:
        """Read partitions whose ends were not known before; True: the stream starts over."""
        for partition, ends in enumerate(topic.ends):
            if ends is None or (stream, partition) not in self._absent:
                continue
            stood = self._next[stream, partition]
            low, high = ends
            if stood > high:
                self._shorter(stream, topic, partition, stood)
                return True
            known = self._absent.pop((stream, partition))
            # What the group has not had is news; but no more of it than anybody remembers.
            begin = max(low, stood, high - self._history.max_frames) if known else high
            if begin > stood:
                self._emit(Lost(stream, partition, stood, begin, known and begin == low))
            self._begun[stream, partition] = self._next[stream, partition] = begin
            self._assign(stream, partition, begin)
            _log.info("partition can be read", stream=stream, partition=partition, offset=begin)
        return False

    def _assign(self, stream: str, partition: int, offset: int) -> None:
        self._consumer.incremental_assign([TopicPartition(self._topics[stream], partition, offset)])

    def _unassign(self, stream: str) -> None:
        name = self._topics[stream]
        places = [
            TopicPartition(name, partition)
            for partition in range(self._assigned.pop(stream))
            if (stream, partition) not in self._absent
        ]
        self._consumer.incremental_unassign(places)
        self._stuck = {key: told for key, told in self._stuck.items() if key[0] != stream}
        self._absent = {key: known for key, known in self._absent.items() if key[0] != stream}
        self._troubled = {key: code for key, code in self._troubled.items() if key[0] != stream}

    def _on_trouble(self, error: KafkaError, name: str, partition: int, offset: int | None) -> None:
        stream = self._streams[name]
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            # The log no longer has the offset: it was trimmed past us, or is another log. The
            # consumer's own watermarks cannot be trusted in this state; discovery's can.
            self._stuck[stream, partition] = offset
            self._discovery.look_again(stream)
            return
        if self._troubled.get((stream, partition)) != error.code():
            self._troubled[stream, partition] = error.code()
            self._emit(FetchError(stream, partition, wait_of(error)))
            self._limited.warning(
                "reading a partition failed: trying again",
                topic=name,
                partition=partition,
                reason=error.str(),
            )
        self._hurry()

    def _recover(self, heard: set[tuple[str, int]]) -> None:
        """These can be read again."""
        for stream, partition in heard & self._troubled.keys():
            del self._troubled[stream, partition]
            _log.info(
                "partition can be read",
                stream=stream,
                partition=partition,
                offset=self._next[stream, partition],
            )

    def _probe(self) -> None:
        for stream, partition in self._troubled.keys() - self._stuck.keys():
            place = TopicPartition(self._topics[stream], partition, self._next[stream, partition])
            self._consumer.incremental_unassign([place])
            self._consumer.incremental_assign([place])

    def _hurry(self) -> None:
        now = time.monotonic()
        if now >= self._next_hurry:
            self._next_hurry = now + HURRY_SECONDS
            self._discovery.hurry()

    def _unstick(self, stream: str, topic: Topic) -> None:
        """Go on with partitions that were out of range, now that their ends are known."""
        for partition, ends in enumerate(topic.ends):
            if ends is None or (stream, partition) not in self._stuck:
                continue
            low, high = ends
            told = self._stuck.pop((stream, partition))
            offset = self._next[stream, partition]
            # Either may be a late word about the log before: then nothing was read of this one, or
            # the offset is not the one in the error.
            cut = told is None and offset != self._begun[stream, partition]
            # The log has what it did not have: it lost its end and has grown since. Below that
            # offset there are records now that nobody has read.
            regrown = told == offset >= low
            if offset > high or cut or regrown:
                self._shorter(stream, topic, partition, offset)
                return
            if offset < low:
                self._emit(Lost(stream, partition, offset, low))
            # seek() refuses in this state; assigning anew does not.
            place = TopicPartition(self._topics[stream], partition, max(low, offset))
            self._consumer.incremental_unassign([place])
            self._consumer.incremental_assign([place])

    def _shorter(self, stream: str, topic: Topic, partition: int, offset: int) -> None:
        """A log ends before what was read of it: start over, as with another topic."""
        ends = topic.ends[partition]
        _log.error(
            "log has lost records that were read of it",
            stream=stream,
            partition=partition,
            offset=offset,
            high_watermark=ends[1] if ends is not None else None,
        )
        self._begin(stream, topic, len(topic.ends))

    def _on_ends(self, stream: str, topic: Topic) -> None:
        self._seen_ends[stream] = {
            partition: ends[1] for partition, ends in enumerate(topic.ends) if ends is not None
        }

    def _tell_ends(self) -> None:
        """As the newest fetch said, or discovery: where fetches fail there is an end, too."""
        ends = {}
        for stream, assigned in self._assigned.items():
            name, seen = self._topics[stream], self._seen_ends.get(stream, {})
            for partition in range(assigned):
                place = TopicPartition(name, partition)
                fetched = self._consumer.get_watermark_offsets(place, cached=True)
                high = max(fetched[1] if fetched else -1, seen.get(partition, -1))
                if high >= 0:
                    ends[stream, partition] = high
        if ends:
            self._emit(Ends(ends))

    def _on_broker(self, up: bool, reason: str) -> None:
        if up:
            self._reach.seen()
        else:
            self._reach.lost(reason)

    def _on_error(self, error: KafkaError) -> None:
        if self._reach.error(error):
            if self._reach.up:
                self._hurry()
            else:
                self._discovery.hurry()
