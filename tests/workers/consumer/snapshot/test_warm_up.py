"""Old records for snapshots, read from a broker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined]

from energyws.process.board import Board
from energyws.settings import Kafka, Settings, Snapshot, Stream
from energyws.testing import FAST_FETCH, Broker, Records, eventually
from tests.workers.consumer.fake_consumer import FakeSchemas
from workers.consumer.events import OldRecord, TopicFound, WarmedUp
from workers.consumer.librdkafka import client_settings, open_admin
from workers.consumer.log_cache import LogCache
from workers.consumer.metadata import describe
from workers.consumer.schemas.store import Schemas
from workers.consumer.snapshot import warm_up as module
from workers.consumer.snapshot.warm_up import WarmUp

pytestmark = pytest.mark.e2e

# What a warm-up hands over: records, and at last its outcome.
Handed = SimpleQueue[list[OldRecord] | WarmedUp]
Start = Callable[..., tuple[WarmUp, Handed]]


@pytest.fixture
def start(broker: Broker, topic: str) -> Iterator[Start]:
    """`start(*begin)`: a warm-up of the topic up to where live records begin; settings follow."""
    started: list[WarmUp] = []

    def run(
        *begin: int, key: str = "record", schemas: FakeSchemas | None = None, **snapshot: Any
    ) -> tuple[WarmUp, Handed]:
        kafka = Kafka(brokers=broker.bootstrap, options=dict(FAST_FETCH))
        stream = Stream(topic=topic, key=key, snapshot=Snapshot(enabled=True, **snapshot))
        settings = Settings(kafka=kafka, streams={"energy": stream})
        epoch = describe(open_admin(kafka), topic).epoch
        handed: Handed = SimpleQueue()
        made = WarmUp(
            TopicFound("energy", epoch, begin, begin),
            settings,
            client_settings(kafka),
            schemas or Schemas(settings, Board.create().row(0)),  # type: ignore[arg-type]
            handed.put,
            handed.put,
        )
        started.append(made)
        made.start()
        return made, handed

    yield run
    for each in started:
        each.stop()
        each.join(10)


def all_of(warm_up: WarmUp, handed: Handed) -> tuple[list[OldRecord], WarmedUp]:
    """Everything that it hands over."""
    found: list[OldRecord] = []
    while True:
        got = handed.get(timeout=30)
        if isinstance(got, WarmedUp):
            return found, got
        found += got
        warm_up.taken()


def write(records: Records, count: int, partition: int = 0) -> list[OldRecord]:
    """Records with keys; what a warm-up makes of them, but for their times."""
    written = []
    for number in range(count):
        key, data = b"k%d" % (number % 7), None if number % 10 == 9 else b'{"n":%d}' % number
        records.raw(data, partition, key=key)
        written.append(OldRecord(key, 0, data, partition))
    records.flush()
    return written


def timeless(found: list[OldRecord]) -> list[OldRecord]:
    """In the order of each partition; the times of all are of now."""
    now_ms = time.time() * 1000
    assert all(now_ms - 600_000 < each.timestamp_ms <= now_ms for each in found)
    return sorted(
        (each._replace(timestamp_ms=0) for each in found), key=lambda each: each.partition
    )


@pytest.mark.parametrize("lookback_seconds", [None, 3600.0])
def test_all_records_before_the_live_ones_are_read(
    start: Start, records: Records, lookback_seconds: float | None
) -> None:
    written = [write(records, 1_200, 0), [], write(records, 50, 2)]
    warm_up, handed = start(1_100, 0, 50, lookback_seconds=lookback_seconds)
    found, outcome = all_of(warm_up, handed)
    assert timeless(found) == [*written[0][:1_100], *written[2]]
    # The lookback reaches beyond the log's beginning: nothing is missing.
    assert (outcome.since_ms, outcome.lacking, outcome.records) == (None, (), 1_150)


def test_bad_records_and_those_without_a_key_are_left_out(start: Start, records: Records) -> None:
    for value, key in ((b"{}", b"a"), (b"[]", b"b"), (b"{}", None), (None, b"c"), (None, None)):
        records.raw(value, key=key)
    records.flush()
    warm_up, handed = start(5, 0, 0)
    found, _ = all_of(warm_up, handed)
    assert [(each.key, each.data) for each in found] == [(b"a", b"{}"), (b"c", None)]


def test_records_from_before_the_lookback_are_not_read(start: Start, records: Records) -> None:
    write(records, 30)
    # Their times are those of the broker's clock, so this is in their future.
    time.sleep(0.02)
    warm_up, handed = start(30, 0, 0, lookback_seconds=0.01)
    found, outcome = all_of(warm_up, handed)
    assert found == []
    assert outcome.since_ms is not None


class _Answer:
    def __init__(self, policy: str) -> None:
        self.value = policy

    def result(self) -> dict[str, _Answer]:
        return {"cleanup.policy": self}


@pytest.mark.parametrize(
    ("policy", "count"), [("compact", 30), ("delete,compact", 30), ("delete", 0)]
)
def test_compacted_topic_is_read_from_its_beginning(
    start: Start,
    records: Records,
    policy: str,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Admin:
        def __init__(self, admin: Any) -> None:
            self._admin = admin

        def __getattr__(self, name: str) -> Any:
            return getattr(self._admin, name)

        def describe_configs(
            self, resources: list[ConfigResource], request_timeout: float
        ) -> dict[ConfigResource, _Answer]:
            return {each: _Answer(policy) for each in resources}

    real = LogCache.admin.fget
    assert real is not None
    monkeypatch.setattr(LogCache, "admin", property(lambda self: Admin(real(self))))
    write(records, 30)
    time.sleep(0.02)
    warm_up, handed = start(30, 0, 0, lookback_seconds=0.01)
    found, outcome = all_of(warm_up, handed)
    assert len(found) == count
    assert (outcome.since_ms is None) is (count == 30)


def test_it_waits_for_those_who_take_the_records(
    start: Start, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RECORDS_PER_BATCH", 10)
    write(records, 100)
    warm_up, handed = start(100, 0, 0)
    eventually(lambda: handed.qsize() >= module.BATCHES_AHEAD, "some batches were handed over")
    assert handed.qsize() <= module.BATCHES_AHEAD
    found, _ = all_of(warm_up, handed)
    assert len(found) == 100


def test_it_starts_over_where_it_failed_without_reading_twice(
    start: Start, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    taken: list[int] = []
    take = WarmUp._take

    def failing(self: WarmUp, message: Any, *others: Any) -> None:
        if len(taken) == 40:
            taken.append(-1)
            raise KafkaException(_SomeError())
        take(self, message, *others)
        taken.append(1)

    monkeypatch.setattr(WarmUp, "_take", failing)
    written = write(records, 100)
    warm_up, handed = start(100, 0, 0)
    found, outcome = all_of(warm_up, handed)
    assert timeless(found) == written
    assert outcome.lacking == ()


class _SomeError:
    def str(self) -> str:
        return "failed"


def test_silent_partition_is_given_up(
    start: Start, records: Records, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE_SECONDS", 0.5)
    write(records, 10)
    # Offsets that the log does not have yet: nothing comes from there.
    monkeypatch.setattr(WarmUp, "_take", lambda self, message, *others: None)
    warm_up, handed = start(10, 0, 0)
    found, outcome = all_of(warm_up, handed)
    assert (found, outcome.lacking) == ([], (0,))


def test_schemas_of_a_whole_batch_are_asked_for_at_once(start: Start, records: Records) -> None:
    records.send(9)
    schemas = FakeSchemas()
    schemas.awaited |= {(1, 1), (1, 2)}
    warm_up, handed = start(3, 3, 3, key="/n", schemas=schemas, lookback_seconds=None)
    eventually(lambda: schemas.refusals >= 3, "it asked for both")
    schemas.awaited.clear()
    assert len(all_of(warm_up, handed)[0]) == 9


def test_record_whose_schema_is_awaited_is_read_once_it_is_known(
    start: Start, records: Records
) -> None:
    records.send(9)
    schemas = FakeSchemas()
    schemas.awaited.add((1, 1))
    warm_up, handed = start(3, 3, 3, key="/n", schemas=schemas)
    eventually(lambda: schemas.refusals, "it came to that record")
    schemas.awaited.clear()
    found, outcome = all_of(warm_up, handed)
    assert sorted(int(each.key) for each in found) == list(range(9))
    assert outcome.lacking == ()
