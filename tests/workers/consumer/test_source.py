"""The reading thread, turn by turn, on a fake consumer."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, KafkaError

from energyws.process.stalls import Stall
from tests.workers.consumer.fake_consumer import EPOCH, OUT_OF_RANGE, Message
from workers.consumer import source as module
from workers.consumer.events import (
    BrokerState,
    LogEnds,
    MetadataStalls,
    Records,
    RecordsLost,
    SchemaAwaited,
    TopicFound,
)
from workers.consumer.metadata import Topic
from workers.consumer.source import ENDS_SECONDS, LOOK_SECONDS, PROBE_SECONDS

ALL_DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN)
BROKEN = KafkaError(KafkaError._TRANSPORT)


def ends_of(at: Any) -> list[dict[tuple[str, int], int]]:
    """The ends of logs that the next turn reports."""
    at.source.step()
    return [each.ends for each in at.events if isinstance(each, LogEnds)]


def test_message_becomes_a_record_with_its_timestamp_if_known(stage: Any) -> None:
    at = stage([(0, 0)])
    at.found()
    without_time = Message(0, 1)
    without_time.timestamp = lambda: (TIMESTAMP_NOT_AVAILABLE, -1)  # type: ignore[method-assign]
    at.consumer.queue += [Message(0, 0), without_time]
    at.source.step()
    (batch,) = [each for each in at.events if isinstance(each, Records)]
    assert [(each.stream, each.offset, each.timestamp_ms) for each in batch.records] == [
        ("s", 0, 1_000),
        ("s", 1, None),
    ]


@pytest.mark.parametrize(("key", "taken"), [("record", [b"m7", None]), (None, [None, None])])
def test_records_bring_their_keys_only_where_the_stream_takes_them_there(
    stage: Any, key: str | None, taken: list[bytes | None]
) -> None:
    at = stage([(0, 0)], key=key)
    at.found()
    at.consumer.queue += [Message(0, 0, raw_key=b"m7"), Message(0, 1)]
    at.source.step()
    (batch,) = [each for each in at.events if isinstance(each, Records)]
    assert [each.key for each in batch.records] == taken


def test_end_of_a_log_is_reported_with_the_records_before_it(stage: Any) -> None:
    at = stage([(0, 2)])
    at.discovery.on_topic("s", Topic(EPOCH, ((0, 2),)))
    at.source.step()
    (batch,) = [each for each in at.events if isinstance(each, Records)]
    assert [each.offset for each in batch.records] == [0, 1]
    assert batch.ends == {("s", 0): 2}


def test_reading_waits_while_the_event_loop_is_behind(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCHES_AHEAD", 1)
    at = stage([(0, 1)])
    at.discovery.on_topic("s", Topic(EPOCH, ((0, 1),)))
    at.source.step()
    at.consumer.logs[0] = 0, 2
    second = threading.Thread(target=at.source.step, daemon=True)
    second.start()
    second.join(0.05)
    assert second.is_alive()
    assert len([each for each in at.events if isinstance(each, Records)]) == 1
    at.source.done()
    second.join(10)
    assert len([each for each in at.events if isinstance(each, Records)]) == 2


def test_ends_are_reported_once_a_second_from_fetches_or_from_discovery(stage: Any) -> None:
    at = stage([(0, 4), (0, 1)])
    at.found()
    assert ends_of(at) == []
    at.now += ENDS_SECONDS
    assert ends_of(at) == [{("s", 0): 4, ("s", 1): 1}]
    at.events.clear()
    # Fetches of partition 1 fail, so only discovery sees its end move.
    at.discovery.on_ends("s", Topic(EPOCH, ((0, 3), (0, 9))))
    at.now += ENDS_SECONDS
    assert ends_of(at) == [{("s", 0): 4, ("s", 1): 9}]


def test_offsets_are_committed_at_intervals_while_a_broker_is_reachable(stage: Any) -> None:
    at = stage([(0, 4)])
    at.found()
    at.published["s", 0] = 4
    at.source.step()
    assert at.consumer.commits == []
    at.source._on_error(ALL_DOWN)
    at.now += 5.0
    at.source.step()
    assert at.consumer.commits == []
    at.discovery.on_broker(True, "")
    at.now += 5.0
    at.source.step()
    assert at.consumer.commits == [{0: 4}]


def test_failing_fetches_make_discovery_look_at_a_limited_rate(stage: Any) -> None:
    at = stage([(0, 4)])
    at.found()
    for code in (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.TOPIC_AUTHORIZATION_FAILED):
        at.consumer.faults[0] = KafkaError(code)
        at.turn()
    assert at.discovery.looked_now == 1
    at.now += LOOK_SECONDS
    at.consumer.faults[0] = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)
    at.turn()
    assert at.discovery.looked_now == 2


def test_failing_partitions_are_reassigned_at_intervals(stage: Any) -> None:
    at = stage([(0, 4)])
    at.found()
    at.consumer.faults[0] = KafkaError(KafkaError.NOT_LEADER_FOR_PARTITION)
    at.turn()
    # The first reassignment is immediate, after a long time without failures.
    assigned = len(at.consumer.assigns)
    at.now += PROBE_SECONDS / 2
    at.turn()
    assert len(at.consumer.assigns) == assigned
    at.now += PROBE_SECONDS / 2
    at.turn()
    assert at.consumer.assigns[assigned:] == [(0, 4)]


def test_loss_of_all_brokers_makes_discovery_look_immediately(stage: Any) -> None:
    at = stage([(0, 4)])
    at.discovery.on_broker(True, "")
    at.source._on_error(ALL_DOWN)
    at.source._on_error(BROKEN)
    assert at.discovery.looked_now == 2
    at.discovery.on_broker(True, "")
    at.discovery.on_broker(False, "timed out")
    states = [each.up for each in at.events if isinstance(each, BrokerState)]
    assert states == [True, False, True, False]


def test_stalls_in_metadata_are_passed_on(stage: Any) -> None:
    at = stage([(0, 4)])
    at.discovery.on_stalls("s", {0: Stall.NO_LEADER})
    assert at.events == [MetadataStalls("s", {0: Stall.NO_LEADER})]


def test_unauthorized_group_is_logged_before_any_commit(stage: Any, lines: Any) -> None:
    at = stage([(0, 4)])
    refused = KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED, "FindCoordinator said no")
    at.consumer.queue.append(Message(-1, None, refused, name=None))
    at.turn()
    (fields,) = [fields for event, fields in lines if event.startswith("offsets cannot be")]
    assert fields["reason"] == "Broker: Group authorization failed"


def test_client_wide_errors_are_left_to_the_error_callback(stage: Any, lines: Any) -> None:
    at = stage([(0, 4)])
    at.consumer.queue.append(Message(-1, None, ALL_DOWN, name=None))
    assert at.turn() == []
    assert lines == []


def test_thread_commits_at_its_end_and_closes_the_client(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = stage([(0, 4)])
    at.found()
    at.published["s", 0] = 4
    # As in librdkafka, poll() delivers the result of the commit.
    on_commit = at.source._commits.on_commit
    poll = at.consumer.poll
    monkeypatch.setattr(at.consumer, "poll", lambda s: on_commit(None, []) or poll(s))
    at.source.stop()
    at.source.run()
    assert at.consumer.commits == [{0: 4}]
    assert at.consumer.closed
    assert not at.discovery.running


def test_thread_does_not_wait_for_a_last_commit_without_a_result(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "COMMIT_SECONDS", 0.01)
    at = stage([(0, 4)])
    at.found()
    at.published["s", 0] = 4
    at.source.stop()
    at.source.run()
    # close() would wait for the coordinator.
    assert not at.consumer.closed


def test_thread_does_not_commit_at_its_end_without_a_broker(stage: Any) -> None:
    at = stage([(0, 4)])
    at.found()
    at.published["s", 0] = 4
    at.source._on_error(ALL_DOWN)
    at.source.stop()
    at.source.run()
    assert at.consumer.commits == []
    assert at.consumer.closed


def test_out_of_range_makes_discovery_look_at_that_stream_again(stage: Any) -> None:
    at = stage([(0, 4)])
    at.found()
    at.consumer.queue.append(Message(0, 4, OUT_OF_RANGE))
    at.turn()
    assert at.discovery.looked_again == ["s"]


def test_partition_waits_at_the_record_whose_schema_is_awaited(stage: Any) -> None:
    at = stage([(0, 5), (0, 2)], auto_offset_reset="earliest")
    at.schemas.awaited.add((0, 2))
    assert at.found()[1:] == [SchemaAwaited("s", 0)]
    assert at.records == [(0, 0), (0, 1), (1, 0), (1, 1)]
    # Others go on; what comes after it does not overtake it.
    at.consumer.logs[:] = [(0, 7), (0, 3)]
    assert at.turn() == []
    assert at.records == [(1, 2)]
    assert at.source._assignment.next_offsets["s", 0] == 2
    at.schemas.awaited.clear()
    assert at.turn() == []
    assert at.records == [(0, offset) for offset in range(2, 7)]


def test_partition_may_wait_again_for_another_schema(stage: Any) -> None:
    at = stage([(0, 4)], auto_offset_reset="earliest")
    at.schemas.awaited |= {(0, 0), (0, 2)}
    at.found()
    assert at.records == []
    at.schemas.awaited.remove((0, 0))
    assert at.turn() == [SchemaAwaited("s", 0)]
    assert at.records == [(0, 0), (0, 1)]
    at.schemas.awaited.clear()
    at.turn()
    assert at.records == [(0, 2), (0, 3)]


def test_what_retention_removed_meanwhile_is_reported(stage: Any) -> None:
    at = stage([(0, 4)], auto_offset_reset="earliest")
    at.schemas.awaited.add((0, 1))
    at.found()
    at.consumer.logs[0] = 3, 6
    at.schemas.awaited.clear()
    at.turn()
    assert at.discovery.looked_again == ["s"]
    assert at.found() == [RecordsLost("s", 0, 1, 3)]
    assert at.records == [(0, 3), (0, 4), (0, 5)]


def test_topic_that_is_made_anew_meanwhile_is_read_from_its_begin(stage: Any) -> None:
    at = stage([(0, 4)], auto_offset_reset="earliest")
    at.schemas.awaited.add((0, 1))
    at.found()
    at.schemas.awaited.clear()
    at.consumer.logs[0] = 0, 2
    (found,) = [each for each in at.found(epoch="bbbb0000") if isinstance(each, TopicFound)]
    assert found.epoch == "bbbb0000"
    assert at.records == [(0, 0), (0, 1)]
    assert at.source._assignment.waiting == {}


def test_partition_that_failed_just_before_waits_all_the_same(stage: Any) -> None:
    at = stage([(0, 0)])
    at.found()
    at.schemas.awaited.add((0, 1))
    at.consumer.logs[0] = 0, 2
    at.consumer.queue += [Message(0, 0, BROKEN), Message(0, 0), Message(0, 1)]
    at.turn()
    assert at.records == [(0, 0)]
    at.now += PROBE_SECONDS
    assert at.turn() == []
    at.schemas.awaited.clear()
    at.turn()
    assert at.records == [(0, 1)]
