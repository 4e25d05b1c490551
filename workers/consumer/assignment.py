"""Which partitions the consumer reads, and from where.

Partitions are assigned, never balanced in a group: each replica must read everything. Each one is
in one of these states:

    reading        assigned: records, and the ends of its log, arrive
    failing        assigned: its fetches are answered with errors, and `probe` assigns it anew until
                   a record or an end arrives
    out of range   assigned: the log does not have the next offset, and discovery's next look at it
                   decides where to continue
    unassigned     its ends were not known: it is assigned once discovery knows them
    waiting        not assigned: the schema of its next record is yet to be fetched

Where a log turns out to be another one, or to have lost records that were read, the whole stream
starts over. `auto.offset.reset` is `error`, because its other values silently skip what retention
has removed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.settings import History, Kafka
from workers.consumer.events import (
    Event,
    FetchError,
    PartitionAdded,
    RecordsLost,
    SchemaAwaited,
    TopicFound,
)
from workers.consumer.metadata import ASK_SECONDS, Topic, stall_of
from workers.consumer.schemas.kept import Key as SchemaKey

# How long the request for the group's offsets may take; nothing is read meanwhile.
COMMITTED_SECONDS: Final = 2.0

_log = Log("kafka")

_Key = tuple[str, int]


class Assignment:
    """The state of each (stream, partition). For the thread that polls the consumer.

    emit receives TopicFound, PartitionAdded, RecordsLost, FetchError and SchemaAwaited.
    look_again(stream) asks discovery for a topic as it is now, look_soon() for news of all, both
    without waiting.
    """

    def __init__(
        self,
        consumer: Consumer,
        kafka: Kafka,
        history: History,
        topics: Mapping[str, str],
        emit: Callable[[Event], None],
        look_again: Callable[[str], None],
        look_soon: Callable[[], None],
    ) -> None:
        self._consumer = consumer
        self._kafka = kafka
        self._history = history
        self._topics = topics
        self._emit = emit
        self._look_again = look_again
        self._look_soon = look_soon
        # The schema for which each waits.
        self.waiting: dict[_Key, SchemaKey] = {}
        self._limited = RateLimitedLog(_log, 10.0)
        self._epochs: dict[str, str] = {}
        # How many partitions of each stream are known.
        self.partitions: dict[str, int] = {}
        # Where reading began, and where it continues.
        self._begun: dict[_Key, int] = {}
        self.next_offsets: dict[_Key, int] = {}
        # The offset in the error; None where the error says that the log lost its end.
        self._out_of_range: dict[_Key, int | None] = {}
        # Whether the next offset is known; else it is 0.
        self._unassigned: dict[_Key, bool] = {}
        # The code of the last error.
        self.failing: dict[_Key, int] = {}

    def update(self, stream: str, topic: Topic) -> None:
        """Follow what discovery has seen of a stream's topic."""
        known = self.partitions.get(stream, 0)
        if not known or topic.epoch != self._epochs[stream]:
            self._start(stream, topic, again=known > 0)
            return
        self._add_partitions(stream, topic, known)
        if not self._assign_returned(stream, topic):
            self._resolve_out_of_range(stream, topic)

    def fetch_failed(
        self, error: KafkaError, name: str, stream: str, partition: int, offset: int | None
    ) -> None:
        """A fetch was answered with an error; offset: None where a log lost its end (KIP-320)."""
        key = stream, partition
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            # The log no longer has the offset: retention has removed it, or this is another log.
            # In this state the consumer's own watermarks cannot be trusted; discovery's can.
            self._out_of_range[key] = offset
            self._look_again(stream)
            return
        if self.failing.get(key) != error.code():
            self.failing[key] = error.code()
            self._emit(FetchError(stream, partition, stall_of(error)))
            self._limited.warning(
                "reading a partition failed: trying again",
                topic=name,
                partition=partition,
                reason=error.str(),
            )
        self._look_soon()

    def heard(self, keys: Collection[_Key]) -> None:
        """Records or ends of these partitions have arrived: they fail no longer."""
        for stream, partition in self.failing.keys() & keys:
            del self.failing[stream, partition]
            offset = self.next_offsets[stream, partition]
            _log.info("partition can be read", stream=stream, partition=partition, offset=offset)

    def wait(self, stream: str, partition: int, offset: int, schema: SchemaKey) -> None:
        """Read nothing from `offset` on until `go_on`: what follows would overtake it."""
        key = stream, partition
        self.next_offsets[key] = offset
        self.waiting[key] = schema
        # It had failed before this record arrived.
        self.failing.pop(key, None)
        self._out_of_range.pop(key, None)
        self._consumer.incremental_unassign([TopicPartition(self._topics[stream], partition)])
        self._emit(SchemaAwaited(stream, partition))

    def go_on(self, stream: str, partition: int) -> None:
        """The schema is known: read on."""
        del self.waiting[stream, partition]
        self._assign(stream, partition, self.next_offsets[stream, partition])

    def probe(self) -> None:
        """Assign failing partitions anew.

        Their next record or end says that they can be read again; an end that librdkafka has
        reported before, it would not report again.
        """
        for stream, partition in self.failing.keys() - self._out_of_range.keys():
            self._reassign(stream, partition, self.next_offsets[stream, partition])

    def _start(self, stream: str, topic: Topic, *, again: bool) -> None:
        name = self._topics[stream]
        if again:
            _log.warning("topic is another one now: reading it", stream=stream, topic=name)
            self._unassign(stream)
        earliest = self._kafka.auto_offset_reset == "earliest" or again
        back = self._history.max_frames if earliest else self._history.warm
        # The group's offsets are of the log before, if there was one.
        next_offsets = (
            dict.fromkeys(topic.stalls, 0) if again else self._committed(name, topic.stalls)
        )
        begin, live = [], []
        for partition, ends in enumerate(topic.ends):
            if ends is None:
                # It continues at the group's offset, as soon as it can be read.
                self._unassigned[stream, partition] = partition in next_offsets
                begin.append(next_offsets.get(partition, 0))
                live.append(begin[-1])
                continue
            low, high = ends
            begin.append(max(low, high - back))
            # Every record of a log that replaced another is news, however old it is.
            live.append(begin[-1] if again else high)
        self._epochs[stream] = topic.epoch
        self.partitions[stream] = len(topic.ends)
        self._begun.update({(stream, p): offset for p, offset in enumerate(begin)})
        self.next_offsets.update({(stream, p): offset for p, offset in enumerate(begin)})
        self._emit(TopicFound(stream, topic.epoch, tuple(begin), tuple(live)))
        # A topic that is new to the consumer's handle would delay the assignment by 0.5 s; it costs
        # no more than that if this fails.
        with contextlib.suppress(KafkaException):
            self._consumer.list_topics(name, timeout=ASK_SECONDS)
        self._consumer.incremental_assign(
            [
                TopicPartition(name, partition, offset)
                for partition, offset in enumerate(begin)
                if (stream, partition) not in self._unassigned
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
        """The group's offsets in these partitions, as far as it has any and can be asked."""
        if not partitions:
            return {}
        wanted = [TopicPartition(name, partition) for partition in partitions]
        try:
            found = self._consumer.committed(wanted, timeout=COMMITTED_SECONDS)
        except KafkaException as failure:
            _log.debug(
                "the group's committed offsets are unavailable", reason=failure.args[0].str()
            )
            return {}
        return {each.partition: each.offset for each in found if each.offset >= 0}

    def _add_partitions(self, stream: str, topic: Topic, known: int) -> None:
        for partition in range(known, len(topic.ends)):
            ends = topic.ends[partition]
            low = ends[0] if ends is not None else 0
            self._begun[stream, partition] = self.next_offsets[stream, partition] = low
            self._emit(PartitionAdded(stream, partition, low))
            if ends is None:
                self._unassigned[stream, partition] = True
            else:
                self._assign(stream, partition, low)
            self.partitions[stream] = partition + 1
            _log.info("partition added", stream=stream, partition=partition, offset=low)

    def _assign_returned(self, stream: str, topic: Topic) -> bool:
        """Assign partitions whose ends are known by now; True: the stream starts over."""
        for partition, ends in enumerate(topic.ends):
            if ends is None or (stream, partition) not in self._unassigned:
                continue
            next_offset = self.next_offsets[stream, partition]
            low, high = ends
            if next_offset > high:
                self._start_over(stream, topic, partition, next_offset)
                return True
            known = self._unassigned.pop((stream, partition))
            # Records from the group's offset on are news; but no more of them than the ring holds.
            begin = max(low, next_offset, high - self._history.max_frames) if known else high
            if begin > next_offset:
                retention = known and begin == low
                self._emit(RecordsLost(stream, partition, next_offset, begin, retention))
            self._begun[stream, partition] = self.next_offsets[stream, partition] = begin
            self._assign(stream, partition, begin)
            _log.info("partition can be read", stream=stream, partition=partition, offset=begin)
        return False

    def _resolve_out_of_range(self, stream: str, topic: Topic) -> None:
        """Continue with partitions that were out of range, now that their ends are known."""
        for partition, ends in enumerate(topic.ends):
            if ends is None or (stream, partition) not in self._out_of_range:
                continue
            low, high = ends
            reported = self._out_of_range.pop((stream, partition))
            offset = self.next_offsets[stream, partition]
            # Either error may be a late one about the log before. In that case nothing of this log
            # has been read yet, or the reported offset is not the next one.
            truncated = reported is None and offset != self._begun[stream, partition]
            # The log now has an offset that it did not have: it lost its end and has grown since.
            # Below that offset there are new records that were never read.
            regrown = reported == offset >= low
            if offset > high or truncated or regrown:
                self._start_over(stream, topic, partition, offset)
                return
            if offset < low:
                self._emit(RecordsLost(stream, partition, offset, low))
            # seek() fails in this state; assigning anew does not.
            self._reassign(stream, partition, max(low, offset))

    def _start_over(self, stream: str, topic: Topic, partition: int, offset: int) -> None:
        """A log ends before the next offset: read the stream as if its topic were another one."""
        ends = topic.ends[partition]
        _log.error(
            "topic lost records that had already been read",
            stream=stream,
            partition=partition,
            offset=offset,
            high_watermark=ends[1] if ends is not None else None,
        )
        self._start(stream, topic, again=True)

    def _assign(self, stream: str, partition: int, offset: int) -> None:
        self._consumer.incremental_assign([TopicPartition(self._topics[stream], partition, offset)])

    def _reassign(self, stream: str, partition: int, offset: int) -> None:
        assigned = [TopicPartition(self._topics[stream], partition, offset)]
        self._consumer.incremental_unassign(assigned)
        self._consumer.incremental_assign(assigned)

    def _unassign(self, stream: str) -> None:
        name = self._topics[stream]
        assigned = [
            TopicPartition(name, partition)
            for partition in range(self.partitions.pop(stream))
            if (stream, partition) not in self._unassigned
            and (stream, partition) not in self.waiting
        ]
        self._consumer.incremental_unassign(assigned)
        for states in (self._out_of_range, self._unassigned, self.failing, self.waiting):
            for key in [key for key in states if key[0] == stream]:
                del states[key]
