"""Offsets, committed so that lag shows: by requests with a time limit, never by the consumer.

librdkafka's consumer keeps a commit that cannot be made until it can, and close() waits for it;
with no right on the group that is for ever. An admin client's request ends, with the broker's word.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from typing import Any, Final

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from energyws.log import Log

REQUEST_SECONDS: Final = 5.0

# Others may pass by themselves: the coordinator moves, the broker restarts.
_HINTS: Final = {
    KafkaError.GROUP_AUTHORIZATION_FAILED: "allow the service READ on this group",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "allow the service READ on its topics",
    KafkaError.UNKNOWN_MEMBER_ID: (
        "another consumer may have joined this group; give each service its own"
    ),
}

_log = Log("kafka")


class Commits:
    """The offsets of one group. For one thread; topics: the topic of each stream."""

    def __init__(self, admin: AdminClient, group: str, topics: Mapping[str, str]) -> None:
        self._admin = admin
        self._group = group
        self._topics = topics
        self._asked: Future[ConsumerGroupTopicPartitions] | None = None
        self._wanted: dict[tuple[str, int], int] = {}
        self._failures = 0
        self._told = False

    def commit(self, published: Mapping[tuple[str, int], int]) -> None:
        """Ask for it, unless that is done or the last request is still under way."""
        self._take_answer()
        if self._asked is not None or not published or published == self._wanted:
            return
        self._wanted = dict(published)
        offsets = [
            TopicPartition(self._topics[stream], partition, offset)
            for (stream, partition), offset in published.items()
        ]
        request = ConsumerGroupTopicPartitions(self._group, offsets)
        answers: dict[str, Future[Any]] = self._admin.alter_consumer_group_offsets(
            [request], request_timeout=REQUEST_SECONDS
        )
        self._asked = answers[self._group]

    def finish(self, published: Mapping[tuple[str, int], int], seconds: float) -> None:
        """Commit for the last time; waits for each of at most two requests no longer than this."""
        if not self._told:
            self._wait(seconds)
            self.commit(published)
            self._wait(seconds)

    def refused(self, error: KafkaError) -> None:
        """Say that it does not work: once, until it does again."""
        hint = _HINTS.get(error.code())
        self._failures += 1
        if self._told or (hint is None and self._failures < 2):
            return
        self._told = True
        # A broker's word without the library's about the request that it answers.
        said = KafkaError(error.code()) if error.code() >= 0 else error
        _log.warning(
            "offsets cannot be committed: streaming goes on, consumer lag will not show",
            group=self._group,
            reason=said.str(),
            hint=hint or "see the broker's log; it is tried again",
        )

    def _wait(self, seconds: float) -> None:
        if self._asked is not None:
            try:
                self._asked.exception(seconds)
            except NotInTime:
                return
            self._take_answer()

    def _take_answer(self) -> None:
        if self._asked is None or not self._asked.done():
            return
        asked, self._asked = self._asked, None
        try:
            answered = asked.result().topic_partitions or ()
            error = next((each.error for each in answered if each.error is not None), None)
        except KafkaException as failure:
            error = failure.args[0]
        if error is None:
            self._failures, self._told = 0, False
        else:
            # The same offsets are asked for again.
            self._wanted = {}
            self.refused(error)
