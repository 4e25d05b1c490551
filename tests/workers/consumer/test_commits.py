"""Commits on a fake consumer, with results from the test."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from workers.consumer.commits import Commits

TOPICS = {"s": "t"}


class FakeConsumer:
    """Records commits; each poll takes a second and delivers the next result, if any."""

    def __init__(self) -> None:
        self.now = 100.0
        self.committed: list[dict[int, int]] = []
        self.results: list[KafkaError | None] = []
        self.refusal: KafkaError | None = None
        self.commits = Commits("g", TOPICS, lambda: self.now)

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool) -> None:
        assert asynchronous
        if self.refusal is not None:
            raise KafkaException(self.refusal)
        self.committed.append({each.partition: each.offset for each in offsets})

    def poll(self, seconds: float) -> None:
        self.now += 1.0
        if self.results:
            self.commits.on_commit(self.results.pop(0), [])


@pytest.fixture
def consumer() -> Any:
    return FakeConsumer()


def test_only_one_commit_is_in_flight(consumer: Any) -> None:
    for offset in (1, 2, 3):
        consumer.commits.commit(consumer, {("s", 0): offset})
    assert consumer.committed == [{0: 1}]
    consumer.commits.on_commit(None, [])
    consumer.commits.commit(consumer, {("s", 0): 3})
    assert consumer.committed == [{0: 1}, {0: 3}]


def test_unchanged_offsets_are_not_committed_again_unless_the_commit_failed(consumer: Any) -> None:
    published = {("s", 0): 1}
    consumer.commits.commit(consumer, published)
    consumer.commits.on_commit(None, [])
    consumer.commits.commit(consumer, published)
    assert consumer.committed == [{0: 1}]
    consumer.commits.commit(consumer, {("s", 0): 2})
    consumer.commits.on_commit(KafkaError(KafkaError._WAIT_COORD), [])
    consumer.commits.commit(consumer, {("s", 0): 2})
    assert consumer.committed == [{0: 1}, {0: 2}, {0: 2}]


def test_last_commit_waits_for_the_previous_and_its_own_result(consumer: Any) -> None:
    consumer.commits.commit(consumer, {("s", 0): 1})
    consumer.results = [None, None]
    consumer.commits.finish(consumer, {("s", 0): 4}, 10.0)
    assert consumer.committed == [{0: 1}, {0: 4}]
    assert not consumer.commits.under_way


def test_last_commit_has_a_deadline(consumer: Any) -> None:
    consumer.commits.commit(consumer, {("s", 0): 1})
    consumer.commits.finish(consumer, {("s", 0): 4}, 3.0)
    assert consumer.now == 103.0
    assert consumer.committed == [{0: 1}]
    assert consumer.commits.under_way


def test_last_commit_is_skipped_while_commits_fail(consumer: Any) -> None:
    consumer.commits.failed(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED))
    consumer.commits.finish(consumer, {("s", 0): 4}, 3.0)
    assert (consumer.now, consumer.committed) == (100.0, [])


def test_commit_refused_by_librdkafka_is_retried(consumer: Any) -> None:
    consumer.refusal = KafkaError(KafkaError._STATE)
    consumer.commits.commit(consumer, {("s", 0): 1})
    assert not consumer.commits.under_way
    consumer.refusal = None
    consumer.commits.commit(consumer, {("s", 0): 1})
    assert consumer.committed == [{0: 1}]


def test_error_of_one_partition_fails_the_commit(consumer: Any, lines: Any) -> None:
    denied: Any = SimpleNamespace(error=KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    consumer.commits.on_commit(None, [TopicPartition("t", 0, 1), denied])
    assert [fields["hint"] for _, fields in lines] == ["allow the service READ on its topics"]


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
def test_failing_commits_are_logged_once_with_the_right_hint(
    lines: Any, errors: list[int], hint: str | None
) -> None:
    commits = Commits("g", TOPICS)
    for code in (*errors, *errors[-1:] * (hint is not None)):
        commits.on_commit(KafkaError(code) if code else None, [])
    hints = [fields["hint"] for _, fields in lines]
    assert len(hints) == (hint is not None)
    assert hint is None or hints[0].startswith(hint)
