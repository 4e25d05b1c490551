"""The state of each partition, driven by a source on a fake consumer."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError

from energyws.process.stalls import Stall
from tests.workers.consumer.fake_consumer import EPOCH, OUT_OF_RANGE, Message
from workers.consumer.events import Event, FetchError, PartitionAdded, RecordsLost, TopicFound
from workers.consumer.source import PROBE_SECONDS


def test_newest_records_are_read_back_and_later_ones_are_live(stage: Any) -> None:
    at = stage([(0, 10), (4, 5), (3, 3)])
    assert at.found() == [TopicFound("s", EPOCH, (8, 4, 3), (10, 5, 3))]
    assert at.records == [(0, 8), (0, 9), (1, 4)]
    at.consumer.logs[2] = 3, 4
    assert at.turn() == []
    assert at.records == [(2, 3)]


def test_records_removed_by_retention_are_lost_and_reading_continues(
    stage: Any,
) -> None:
    at = stage([(0, 3)])
    at.found()
    at.consumer.logs[0] = 7, 9
    assert at.turn() == []
    assert at.discovery.looked_again == ["s"]
    assert at.found() == [RecordsLost("s", 0, 3, 7)]
    assert at.records == [(0, 7), (0, 8)]


def test_truncated_log_is_read_from_its_start(stage: Any, lines: Any) -> None:
    at = stage([(0, 10)])
    at.found()
    at.consumer.logs[0] = 0, 4
    at.turn()
    # Every record that fits into the ring is live.
    assert at.found() == [TopicFound("s", EPOCH, (0,), (0,))]
    assert at.records == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert [fields for event, fields in lines if event.startswith("topic lost records")] == [
        {"stream": "s", "partition": 0, "offset": 10, "high_watermark": 4}
    ]


def test_truncated_log_that_has_grown_past_the_offset_is_read_again(stage: Any) -> None:
    at = stage([(0, 10)])
    at.found()
    at.consumer.logs[0] = 0, 4
    at.turn()
    # Before discovery looks, new records have reused the offsets that were read.
    at.consumer.logs[0] = 0, 12
    assert at.found() == [TopicFound("s", EPOCH, (7,), (7,))]


def test_truncation_reported_without_an_offset_restarts_the_stream(stage: Any) -> None:
    at = stage([(0, 4)])
    at.found()
    at.consumer.logs[0] = 0, 6
    at.turn()
    at.consumer.queue.append(Message(0, None, OUT_OF_RANGE))
    at.turn()
    assert at.found() == [TopicFound("s", EPOCH, (1,), (1,))]


def test_late_error_about_another_offset_loses_nothing(stage: Any) -> None:
    at = stage([(0, 4)])
    at.found()
    at.consumer.queue.append(Message(0, 99, OUT_OF_RANGE))
    at.turn()
    assert at.found() == []
    at.consumer.logs[0] = 0, 5
    assert at.turn() == []
    assert at.records == [(0, 4)]


def test_recreated_topic_is_read_from_its_start(stage: Any) -> None:
    at = stage([(0, 10), (0, 0)])
    at.found()
    at.consumer.logs[:] = [(0, 2), (0, 1), (0, 1)]
    assert at.found(epoch="bbbb0000") == [TopicFound("s", "bbbb0000", (0, 0, 0), (0, 0, 0))]
    assert at.records == [(0, 0), (0, 1), (1, 0), (2, 0)]


def test_added_partition_is_read_from_its_start(stage: Any) -> None:
    at = stage([(0, 1)])
    at.found()
    at.consumer.logs += [(0, 2), (0, 0)]
    # The ends of the last partition are not known yet.
    assert at.found(2) == [PartitionAdded("s", 1, 0), PartitionAdded("s", 2, 0)]
    assert at.records == [(1, 0), (1, 1)]
    at.consumer.logs[2] = 0, 1
    assert at.found() == []
    assert at.records == [(2, 0)]


@pytest.mark.parametrize(
    ("committed", "log", "events", "records"),
    [
        pytest.param(3, (0, 5), [], [3, 4], id="continues at the group's offset"),
        pytest.param(5, (0, 5), [], [], id="nothing was missed"),
        pytest.param(3, (4, 6), [RecordsLost("s", 0, 3, 4)], [4, 5], id="removed by retention"),
        pytest.param(
            3, (0, 20), [RecordsLost("s", 0, 3, 15, False)], [15, 16, 17, 18, 19], id="too far back"
        ),
        pytest.param(None, (2, 20), [RecordsLost("s", 0, 0, 20, False)], [], id="no offset"),
        pytest.param(None, (0, 0), [], [], id="no offset, empty log"),
    ],
)
def test_partition_unavailable_at_the_start_is_read_once_available(
    stage: Any,
    committed: int | None,
    log: tuple[int, int],
    events: list[Event],
    records: list[int],
) -> None:
    at = stage([log, (0, 1)])
    at.consumer.group = {} if committed is None else {0: committed}
    assert at.found(0) == [TopicFound("s", EPOCH, (committed or 0, 0), (committed or 0, 1))]
    assert at.records == [(1, 0)]
    # A partition that is reported twice is assigned only once.
    assert at.found(0) == []
    assert at.found() == events
    assert at.records == [(0, offset) for offset in records]
    assert at.found() == []
    at.consumer.logs[0] = log[0], log[1] + 1
    at.turn()
    assert at.records == [(0, log[1])]


def test_partition_that_returns_shorter_restarts_the_stream(stage: Any) -> None:
    at = stage([(0, 5), (0, 1)])
    at.consumer.group = {0: 9}
    assert at.found(0) == [TopicFound("s", EPOCH, (9, 0), (9, 1))]
    assert at.found() == [TopicFound("s", EPOCH, (0, 0), (0, 0))]


def test_unreadable_group_offsets_count_as_missing(stage: Any) -> None:
    at = stage([(0, 5), (0, 1)])
    at.consumer.group = None
    assert at.found(0) == [TopicFound("s", EPOCH, (0, 0), (0, 1))]
    assert at.found() == [RecordsLost("s", 0, 0, 5, False)]


def test_topic_recreated_while_a_partition_is_unavailable_is_read_from_its_start(
    stage: Any,
) -> None:
    at = stage([(0, 5), (0, 1)])
    at.consumer.group = {0: 3}
    at.found(0)
    at.consumer.logs[:] = [(0, 1), (0, 1)]
    assert at.found(epoch="bbbb0000") == [TopicFound("s", "bbbb0000", (0, 0), (0, 0))]
    assert at.records == [(0, 0), (1, 0)]


def test_recreated_topic_does_not_use_the_offsets_of_the_old_one(
    stage: Any,
) -> None:
    at = stage([(0, 5), (0, 1)])
    at.consumer.group = {0: 5}
    at.found()
    at.consumer.logs[:] = [(0, 2), (0, 1)]
    assert at.found(0, epoch="bbbb0000") == [TopicFound("s", "bbbb0000", (0, 0), (0, 0))]
    assert at.found(epoch="bbbb0000") == []
    assert at.records == [(0, 0), (0, 1)]


def test_failing_fetch_is_reported_once_and_retried_until_it_works(stage: Any, lines: Any) -> None:
    at = stage([(0, 4), (0, 4)])
    at.found()
    at.consumer.faults[1] = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    assert at.turn() == [FetchError("s", 1, Stall.NOT_ALLOWED)]
    assert at.turn() == []
    at.consumer.faults.clear()
    # Reassigned, the partition reports its unchanged end again.
    at.now += PROBE_SECONDS
    at.turn()
    at.turn()
    logged = [event for event, _ in lines]
    assert logged.count("reading a partition failed: trying again") == 1
    assert logged.count("partition can be read") == 1
    at.consumer.logs[1] = 0, 5
    at.turn()
    assert at.records == [(1, 4)]


def test_another_error_of_a_failing_partition_is_reported_too(stage: Any) -> None:
    at = stage([(0, 1)])
    at.found()
    at.consumer.faults[0] = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    assert at.turn() == [FetchError("s", 0, Stall.NOT_ALLOWED)]
    at.consumer.faults[0] = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)
    assert at.turn() == [FetchError("s", 0, Stall.NO_LEADER)]


def test_error_without_an_offset_before_anything_was_read_loses_nothing(stage: Any) -> None:
    at = stage([(0, 0), (0, 1)])
    at.found()
    at.consumer.queue.append(Message(0, None, OUT_OF_RANGE))
    at.turn()
    assert at.found() == []
    at.consumer.logs[0] = 0, 1
    assert at.turn() == []
    assert at.records == [(0, 0)]


def test_lost_records_of_one_partition_do_not_affect_the_others(stage: Any) -> None:
    at = stage([(0, 3), (0, 3)])
    at.found()
    at.consumer.logs[:] = [(7, 8), (0, 5)]
    at.turn()
    assert at.records == [(1, 3), (1, 4)]
    assert at.found() == [RecordsLost("s", 0, 3, 7)]
    assert at.records == [(0, 7)]
    assert [each for each in at.consumer.assigns if each[0] == 1] == [(1, 1)]


def test_partition_out_of_range_waits_until_its_ends_are_known(stage: Any) -> None:
    at = stage([(0, 3)])
    at.found()
    at.consumer.logs[0] = 7, 9
    at.turn()
    assert at.found(0) == []
    assert at.records == []
    assert at.found() == [RecordsLost("s", 0, 3, 7)]
    assert at.records == [(0, 7), (0, 8)]


def test_partition_that_fails_and_is_out_of_range_is_not_probed(stage: Any) -> None:
    at = stage([(0, 3)])
    at.found()
    at.consumer.faults[0] = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)
    at.turn()
    at.consumer.faults.clear()
    at.consumer.logs[0] = 7, 9
    at.turn()
    assigned = len(at.consumer.assigns)
    at.now += PROBE_SECONDS
    at.turn()
    assert len(at.consumer.assigns) == assigned
    assert at.found() == [RecordsLost("s", 0, 3, 7)]
    assert at.records == [(0, 7), (0, 8)]


def test_recreated_topic_does_not_inherit_failures(stage: Any, lines: Any) -> None:
    at = stage([(0, 3)])
    at.found()
    at.consumer.faults[0] = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)
    at.turn()
    at.consumer.faults.clear()
    at.consumer.logs[:] = [(0, 1)]
    at.found(epoch="bbbb0000")
    assert at.records == [(0, 0)]
    assert [event for event, _ in lines].count("partition can be read") == 0


def test_earliest_reads_back_as_many_records_as_the_ring_holds(stage: Any) -> None:
    at = stage([(0, 10)], auto_offset_reset="earliest")
    assert at.found() == [TopicFound("s", EPOCH, (5,), (10,))]
