"""The thread that reads, turn by turn, on a consumer that the test is the broker of."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, KafkaError, KafkaException, TopicPartition

from energyws.process.stalls import Stall
from energyws.settings import History, Kafka
from workers.consumer import source as module
from workers.consumer.commits import Commits
from workers.consumer.events import (
    Event,
    FetchError,
    PartitionAdded,
    Records,
    RecordsLost,
    TopicFound,
)
from workers.consumer.metadata import Topic
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


@dataclass
class FakeConsumer:
    """Logs that hold every offset from low up to high, read by assign() as librdkafka does."""

    logs: list[tuple[int, int]]
    group: dict[int, int] | None = field(default_factory=dict)
    faults: dict[int, KafkaError] = field(default_factory=dict)
    queue: list[Message] = field(default_factory=list)
    at: dict[int, int] = field(default_factory=dict)
    # A partition says each error, and each end, once.
    said: dict[int, object] = field(default_factory=dict)
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
            self._say(partition, fault.code(), Message(partition, at, fault))
        elif not low <= at <= high:
            self._say(partition, "range", Message(partition, at, OUT_OF_RANGE))
        elif self.said.get(partition) != "range":
            self.queue += [Message(partition, offset) for offset in range(at, high)]
            self.at[partition] = high
            end = Message(partition, high, KafkaError(KafkaError._PARTITION_EOF))
            self._say(partition, ("end", high), end)

    def _say(self, partition: int, what: object, message: Message) -> None:
        if self.said.get(partition) != what:
            self.said[partition] = what
            self.queue.append(message)

    def incremental_assign(self, places: Sequence[TopicPartition]) -> None:
        for place in places:
            assert place.partition not in self.at, "assigned twice"
            self.at[place.partition] = place.offset
            self.said.pop(place.partition, None)
            self.assigns.append((place.partition, place.offset))

    def incremental_unassign(self, places: Sequence[TopicPartition]) -> None:
        for place in places:
            # As librdkafka: what is not assigned cannot be taken away.
            del self.at[place.partition]
            self.queue = [each for each in self.queue if each.number != place.partition]

    def committed(self, places: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        if self.group is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        found = {p: self.group.get(p, -1001) for p in (place.partition for place in places)}
        return [TopicPartition(TOPIC, partition, offset) for partition, offset in found.items()]

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        assert asynchronous
        self.commits.append({each.partition: each.offset for each in offsets})

    def list_topics(self, name: str, timeout: float) -> None:
        pass

    def get_watermark_offsets(self, place: TopicPartition, cached: bool) -> tuple[int, int]:
        return self.logs[place.partition]

    def close(self) -> None:
        self.closed = True


class FakeDiscovery:
    """Tells what the test says."""

    def __init__(self, admin: object, kafka: object, topics: object, *on: Any) -> None:
        self.on_topic, self.on_broker, self.on_ends, self.on_stalls = on
        self.looks: list[str] = []

    def look_again(self, stream: str) -> None:
        self.looks.append(stream)

    def look_now(self) -> None:
        pass


class Stage:
    """A source on a fake consumer, and what it has told since the last look."""

    def __init__(self, logs: list[tuple[int, int]], **kafka: Any) -> None:
        self.consumer = FakeConsumer(logs)
        self.published: dict[tuple[str, int], int] = {}
        self.events: list[Event] = []
        settings = Kafka(brokers="b", commit_interval_seconds=0.1, **kafka)
        history = History(warm=2, max_frames=5)
        self.source = Source(settings, history, {"s": TOPIC}, self.published, self.events.append)
        self.discovery: FakeDiscovery = self.source._discovery  # type: ignore[assignment]

    def found(self, *away: int, epoch: str = EPOCH) -> list[Event]:
        """Discovery has looked; it cannot see the ends of these partitions."""
        ends = tuple(None if p in away else ends for p, ends in enumerate(self.consumer.logs))
        stalls = dict.fromkeys(away, Stall.NO_LEADER)
        self.discovery.on_topic("s", Topic(epoch, ends, stalls))
        return self.turn()

    def turn(self) -> list[Event]:
        """Let it work until nothing comes; what it told, but for where logs end."""
        before = -1
        while len(self.events) != before:
            before = len(self.events)
            for _ in range(3):
                self.source.step()
        told = [
            each
            for each in self.events
            if isinstance(each, TopicFound | PartitionAdded | RecordsLost | FetchError)
        ]
        self.records = [
            (record.partition, record.offset)
            for each in self.events
            if isinstance(each, Records)
            for record in each.records
        ]
        for each in self.events:
            if isinstance(each, Records):
                self.source.done()
        self.events.clear()
        return told


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(logs: list[tuple[int, int]], **kafka: Any) -> Stage:
        def open_consumer(settings: dict[str, Any]) -> FakeConsumer:
            made.append(FakeConsumer(logs))
            return made[-1]

        made: list[FakeConsumer] = []
        monkeypatch.setattr(module, "open_consumer", open_consumer)
        monkeypatch.setattr(module, "open_admin", lambda kafka: None)
        monkeypatch.setattr(module, "Discovery", FakeDiscovery)
        stage = Stage(logs, **kafka)
        stage.consumer = made[0]
        return stage

    return make


@pytest.fixture
def lines() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    found: list[tuple[str, dict[str, Any]]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            fields = record.energyws_fields  # type: ignore[attr-defined]
            found.append((record.getMessage(), fields))

    handler, logger = Kept(), logging.getLogger("energyws.kafka")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def test_the_newest_are_read_back_and_the_rest_is_live(stage: Any) -> None:
    at = stage([(0, 10), (4, 5), (3, 3)])
    assert at.found() == [TopicFound("s", EPOCH, (8, 4, 3), (10, 5, 3))]
    assert at.records == [(0, 8), (0, 9), (1, 4)]
    at.consumer.logs[2] = 3, 4
    assert at.turn() == []
    assert at.records == [(2, 3)]


def test_what_retention_took_is_lost_and_reading_goes_on_behind_it(stage: Any) -> None:
    at = stage([(0, 3)])
    at.found()
    at.consumer.logs[0] = 7, 9
    assert at.turn() == []
    assert at.discovery.looks == ["s"]
    assert at.found() == [RecordsLost("s", 0, 3, 7)]
    assert at.records == [(0, 7), (0, 8)]


def test_a_log_that_is_shorter_is_read_anew(stage: Any, lines: Any) -> None:
    at = stage([(0, 10)])
    at.found()
    at.consumer.logs[0] = 0, 4
    at.turn()
    # All of it, as far as it is remembered, is news.
    assert at.found() == [TopicFound("s", EPOCH, (0,), (0,))]
    assert at.records == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert [fields for event, fields in lines if event.startswith("log has lost")] == [
        {"stream": "s", "partition": 0, "offset": 10, "high_watermark": 4}
    ]


def test_a_log_that_was_cut_and_has_grown_again_is_read_anew(stage: Any) -> None:
    at = stage([(0, 10)])
    at.found()
    at.consumer.logs[0] = 0, 4
    at.turn()
    # Between the error and the look other records have got the offsets that were read.
    at.consumer.logs[0] = 0, 12
    assert at.found() == [TopicFound("s", EPOCH, (7,), (7,))]


def test_a_log_that_reports_its_cut_without_an_offset_is_read_anew(stage: Any) -> None:
    at = stage([(0, 4)])
    at.found()
    at.consumer.logs[0] = 0, 6
    at.turn()
    at.consumer.queue.append(Message(0, None, OUT_OF_RANGE))
    at.turn()
    assert at.found() == [TopicFound("s", EPOCH, (1,), (1,))]


def test_a_late_word_about_the_log_before_loses_nothing(stage: Any) -> None:
    at = stage([(0, 4)])
    at.found()
    at.consumer.queue.append(Message(0, 99, OUT_OF_RANGE))
    at.turn()
    assert at.found() == []
    at.consumer.logs[0] = 0, 5
    assert at.turn() == []
    assert at.records == [(0, 4)]


def test_another_topic_of_the_same_name_is_read_from_its_start(stage: Any) -> None:
    at = stage([(0, 10), (0, 0)])
    at.found()
    at.consumer.logs[:] = [(0, 2), (0, 1), (0, 1)]
    assert at.found(epoch="bbbb0000") == [TopicFound("s", "bbbb0000", (0, 0, 0), (0, 0, 0))]
    assert at.records == [(0, 0), (0, 1), (1, 0), (2, 0)]


def test_a_partition_that_is_added_is_read_from_its_start(stage: Any) -> None:
    at = stage([(0, 1)])
    at.found()
    at.consumer.logs += [(0, 2), (0, 0)]
    # Of the last one nobody knows anything yet.
    assert at.found(2) == [PartitionAdded("s", 1, 0), PartitionAdded("s", 2, 0)]
    assert at.records == [(1, 0), (1, 1)]
    at.consumer.logs[2] = 0, 1
    assert at.found() == []
    assert at.records == [(2, 0)]


@pytest.mark.parametrize(
    ("stood", "log", "told", "records"),
    [
        pytest.param(3, (0, 5), [], [3, 4], id="goes on where the group stood"),
        pytest.param(5, (0, 5), [], [], id="nothing was missed"),
        pytest.param(3, (4, 6), [RecordsLost("s", 0, 3, 4)], [4, 5], id="retention was faster"),
        pytest.param(
            3, (0, 20), [RecordsLost("s", 0, 3, 15, False)], [15, 16, 17, 18, 19], id="too far back"
        ),
        pytest.param(None, (2, 20), [RecordsLost("s", 0, 0, 20, False)], [], id="nobody knows"),
        pytest.param(None, (0, 0), [], [], id="nobody knows, and it is empty"),
    ],
)
def test_a_partition_that_was_away_at_the_start_is_read_once_it_is_there(
    stage: Any,
    stood: int | None,
    log: tuple[int, int],
    told: list[Event],
    records: list[int],
) -> None:
    at = stage([log, (0, 1)])
    at.consumer.group = {} if stood is None else {0: stood}
    assert at.found(0) == [TopicFound("s", EPOCH, (stood or 0, 0), (stood or 0, 1))]
    assert at.records == [(1, 0)]
    # Also where the news comes twice.
    assert at.found(0) == []
    assert at.found() == told
    assert at.records == [(0, offset) for offset in records]
    assert at.found() == []
    at.consumer.logs[0] = log[0], log[1] + 1
    at.turn()
    assert at.records == [(0, log[1])]


def test_a_partition_that_comes_back_shorter_starts_the_stream_over(stage: Any) -> None:
    at = stage([(0, 5), (0, 1)])
    at.consumer.group = {0: 9}
    assert at.found(0) == [TopicFound("s", EPOCH, (9, 0), (9, 1))]
    assert at.found() == [TopicFound("s", EPOCH, (0, 0), (0, 0))]


def test_group_that_cannot_be_asked_is_as_one_that_knows_nothing(stage: Any) -> None:
    at = stage([(0, 5), (0, 1)])
    at.consumer.group = None
    assert at.found(0) == [TopicFound("s", EPOCH, (0, 0), (0, 1))]
    assert at.found() == [RecordsLost("s", 0, 0, 5, False)]


def test_topic_that_is_made_again_while_a_partition_is_away(stage: Any) -> None:
    at = stage([(0, 5), (0, 1)])
    at.consumer.group = {0: 3}
    at.found(0)
    at.consumer.logs[:] = [(0, 1), (0, 1)]
    assert at.found(epoch="bbbb0000") == [TopicFound("s", "bbbb0000", (0, 0), (0, 0))]
    assert at.records == [(0, 0), (1, 0)]


def test_topic_that_is_made_again_without_a_partition_owes_nothing_to_the_one_before(
    stage: Any,
) -> None:
    at = stage([(0, 5), (0, 1)])
    at.consumer.group = {0: 5}
    at.found()
    at.consumer.logs[:] = [(0, 2), (0, 1)]
    assert at.found(0, epoch="bbbb0000") == [TopicFound("s", "bbbb0000", (0, 0), (0, 0))]
    assert at.found(epoch="bbbb0000") == []
    assert at.records == [(0, 0), (0, 1)]


def test_a_fetch_that_fails_is_told_once_and_tried_until_it_works(
    stage: Any, lines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.0)
    at = stage([(0, 4), (0, 4)])
    at.found()
    at.consumer.faults[1] = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    assert at.turn() == [FetchError("s", 1, Stall.NOT_ALLOWED)]
    assert at.turn() == []
    at.consumer.faults.clear()
    # Its end, which has not changed, is told again.
    at.turn()
    said = [event for event, _ in lines]
    assert said.count("reading a partition failed: trying again") == 1
    assert said.count("partition can be read") == 1
    at.consumer.logs[1] = 0, 5
    at.turn()
    assert at.records == [(1, 4)]


def test_only_one_commit_is_under_way_and_the_end_does_not_wait_for_it(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = stage([(0, 4)])
    at.found()
    commits = Commits("g", {"s": TOPIC})
    for offset in (1, 2, 3):
        commits.commit(at.consumer, {("s", 0): offset})
    assert at.consumer.commits == [{0: 1}]
    commits.finish(at.consumer, {("s", 0): 4}, 0.01)
    assert commits.under_way
    commits.on_commit(None, [])
    commits.finish(at.consumer, {("s", 0): 4}, 0.01)
    assert at.consumer.commits == [{0: 1}, {0: 4}]


@pytest.mark.parametrize(
    ("errors", "hint"),
    [
        ([KafkaError.GROUP_AUTHORIZATION_FAILED], "allow the service READ on this group"),
        ([KafkaError.UNKNOWN_MEMBER_ID], "another consumer may have joined this group"),
        ([KafkaError._WAIT_COORD], None),
        ([KafkaError._WAIT_COORD, KafkaError._WAIT_COORD], "see the broker's log"),
        ([KafkaError._WAIT_COORD, 0, KafkaError._WAIT_COORD], None),
    ],
)
def test_commits_that_fail_are_told_once_with_the_right_hint(
    lines: Any, errors: list[int], hint: str | None
) -> None:
    commits = Commits("g", {"s": TOPIC})
    for code in (*errors, *errors[-1:] * (hint is not None)):
        commits.on_commit(KafkaError(code) if code else None, [])
    hints = [fields["hint"] for _, fields in lines]
    assert len(hints) == (hint is not None)
    assert hint is None or hints[0].startswith(hint)


def test_group_that_may_not_be_used_is_told_before_any_commit(stage: Any, lines: Any) -> None:
    at = stage([(0, 4)])
    refused = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED, "FindCoordinator said no")
    at.consumer.queue.append(Message(-1, None, refused, name=None))
    at.turn()
    (fields,) = [fields for event, fields in lines if event.startswith("offsets cannot be")]
    assert fields["reason"] == "Broker: Group authorization failed"
