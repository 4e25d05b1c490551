"""A consumer and a discovery without a broker, and a source on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import TIMESTAMP_CREATE_TIME, KafkaError, KafkaException, TopicPartition

from energyws.process.stalls import Stall
from energyws.settings import History, Kafka
from energyws.stream.record_key import KeyRule
from workers.consumer.events import (
    Event,
    FetchError,
    PartitionAdded,
    Records,
    RecordsLost,
    SchemaAwaited,
    TopicFound,
)
from workers.consumer.metadata import Topic
from workers.consumer.schemas.store import Awaited
from workers.consumer.source import Source

TOPIC = "t"
EPOCH = "aaaa0000"
OUT_OF_RANGE = KafkaError(KafkaError._AUTO_OFFSET_RESET)


@dataclass
class Message:
    number: int
    at: int | None = None
    fault: KafkaError | None = None
    name: str | None = TOPIC
    raw_key: bytes | None = None

    def topic(self) -> str | None:
        return self.name

    def partition(self) -> int:
        return self.number

    def offset(self) -> int | None:
        return self.at

    def error(self) -> KafkaError | None:
        return self.fault

    def timestamp(self) -> tuple[int, int]:
        return TIMESTAMP_CREATE_TIME, 1_000

    def value(self) -> bytes:
        return b"{}"

    def key(self) -> bytes | None:
        return self.raw_key


@dataclass
class FakeConsumer:
    """Logs with every offset from low up to high, read after assign() as with librdkafka."""

    logs: list[tuple[int, int]]
    group: dict[int, int] | None = field(default_factory=dict)
    faults: dict[int, KafkaError] = field(default_factory=dict)
    queue: list[Message] = field(default_factory=list)
    at: dict[int, int] = field(default_factory=dict)
    # librdkafka reports each error, and each end, once per assignment.
    reported: dict[int, object] = field(default_factory=dict)
    assigns: list[tuple[int, int]] = field(default_factory=list)
    commits: list[dict[int, int]] = field(default_factory=list)
    closed: bool = False

    def poll(self, seconds: float) -> Message | None:
        if not self.queue:
            for partition in sorted(self.at):
                self._fetch(partition)
        return self.queue.pop(0) if self.queue else None

    def consume(self, most: int, seconds: float) -> list[Message]:
        taken, self.queue = self.queue[:most], self.queue[most:]
        return taken

    def _fetch(self, partition: int) -> None:
        low, high = self.logs[partition]
        at = self.at[partition]
        if (fault := self.faults.get(partition)) is not None:
            self._report(partition, fault.code(), Message(partition, at, fault))
        elif not low <= at <= high:
            self._report(partition, "range", Message(partition, at, OUT_OF_RANGE))
        elif self.reported.get(partition) != "range":
            self.queue += [Message(partition, offset) for offset in range(at, high)]
            self.at[partition] = high
            end = Message(partition, high, KafkaError(KafkaError._PARTITION_EOF))
            self._report(partition, ("end", high), end)

    def _report(self, partition: int, state: object, message: Message) -> None:
        if self.reported.get(partition) != state:
            self.reported[partition] = state
            self.queue.append(message)

    def incremental_assign(self, assigned: Sequence[TopicPartition]) -> None:
        for each in assigned:
            assert each.partition not in self.at, "assigned twice"
            self.at[each.partition] = each.offset
            self.reported.pop(each.partition, None)
            self.assigns.append((each.partition, each.offset))

    def incremental_unassign(self, assigned: Sequence[TopicPartition]) -> None:
        for each in assigned:
            # As in librdkafka, only an assigned partition can be unassigned.
            del self.at[each.partition]
            self.queue = [message for message in self.queue if message.number != each.partition]

    def committed(self, assigned: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        if self.group is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        found = {p: self.group.get(p, -1001) for p in (each.partition for each in assigned)}
        return [TopicPartition(TOPIC, partition, offset) for partition, offset in found.items()]

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        assert asynchronous
        self.commits.append({each.partition: each.offset for each in offsets})

    def list_topics(self, name: str, timeout: float) -> None:
        pass

    def get_watermark_offsets(self, partition: TopicPartition, cached: bool) -> tuple[int, int]:
        return self.logs[partition.partition]

    def close(self) -> None:
        self.closed = True


class FakeDiscovery:
    """Reports topics when the test calls its callbacks."""

    def __init__(self, admin: object, kafka: object, topics: object, *on: Any) -> None:
        self.on_topic, self.on_broker, self.on_ends, self.on_stalls = on
        self.looked_again: list[str] = []
        self.looked_now = 0
        self.running = False

    def start(self) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def look_again(self, stream: str) -> None:
        self.looked_again.append(stream)

    def look_now(self) -> None:
        self.looked_now += 1


class FakeSchemas:
    """Records that wait for a schema, by (partition, offset)."""

    def __init__(self) -> None:
        self.awaited: set[tuple[int, int | None]] = set()
        self.refusals = 0

    def reader(self, stream: str, message: Message, *, live: bool = False) -> None:
        key = message.partition(), message.offset()
        if key in self.awaited:
            self.refusals += 1
            raise Awaited(("avro", repr(key)))

    def ready(self, key: tuple[str, str]) -> bool:
        return key[1] not in map(repr, self.awaited)


class Stage:
    """A source on a fake consumer, its clock, and the events since the last look.

    key: where its keys are, outside the value.
    """

    def __init__(self, key: str | None = None, **kafka: Any) -> None:
        self.now = 100.0
        self.published: dict[tuple[str, int], int] = {}
        self.events: list[Event] = []
        self.records: list[tuple[int, int]] = []
        self.schemas = FakeSchemas()
        self.source = Source(
            Kafka(brokers="b", commit_interval_seconds=5.0, **kafka),
            History(warm=2, max_frames=5),
            {"s": TOPIC},
            {} if key is None else {"s": KeyRule(key)},
            self.published,
            self.events.append,
            self.schemas,  # type: ignore[arg-type]
            lambda: self.now,
        )
        self.consumer: FakeConsumer = self.source._consumer  # type: ignore[assignment]
        self.discovery: FakeDiscovery = self.source._discovery  # type: ignore[assignment]

    def found(self, *unavailable: int, epoch: str = EPOCH) -> list[Event]:
        """Discovery has looked, and could not see the ends of the `unavailable` partitions."""
        ends = tuple(
            None if p in unavailable else ends for p, ends in enumerate(self.consumer.logs)
        )
        stalls = dict.fromkeys(unavailable, Stall.NO_LEADER)
        self.discovery.on_topic("s", Topic(epoch, ends, stalls))
        return self.turn()

    def turn(self) -> list[Event]:
        """Run until nothing more happens; the events about the topic and its partitions."""
        before = -1
        while len(self.events) != before:
            before = len(self.events)
            for _ in range(3):
                self.source.step()
        found = [
            each
            for each in self.events
            if isinstance(
                each, TopicFound | PartitionAdded | RecordsLost | FetchError | SchemaAwaited
            )
        ]
        batches = [each for each in self.events if isinstance(each, Records)]
        self.records = [
            (each.partition, each.offset) for batch in batches for each in batch.records
        ]
        for _ in batches:
            self.source.done()
        self.events.clear()
        return found
