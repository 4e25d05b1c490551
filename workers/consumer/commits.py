"""Offsets, committed so that lag shows.

A commit that finds no coordinator stays in the client library until there is one, and close() waits
for it: for ever, if the service has no right on the group. So at most one commit is under way, and
`finish` waits for it for a limited time. (An admin client's requests would time out by themselves,
but librdkafka 2.16 may abort the process when the coordinator comes back: its issue 4605.)
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from energyws.logs.events import Log

POLL_SECONDS: Final = 0.05

# Others may pass by themselves: the coordinator moves, the broker restarts.
_HINTS: Final = {
    KafkaError.GROUP_AUTHORIZATION_FAILED: "allow the service READ on this group",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "allow the service READ on its topics",
    KafkaError.UNKNOWN_MEMBER_ID: (
        "another consumer may have joined this group; give each service its own"
    ),
}

_log = Log("kafka")

_Offsets = Mapping[tuple[str, int], int]


class Commits:
    """The offsets of one group. For one thread; topics: the topic of each stream."""

    def __init__(self, group: str, topics: Mapping[str, str]) -> None:
        self._group = group
        self._topics = topics
        self._done: _Offsets = {}
        self._failures = 0
        self._told = False
        self.under_way = False

    def commit(self, consumer: Consumer, published: _Offsets) -> None:
        """Commit what has changed; on_commit tells the result."""
        if self.under_way or published == self._done:
            return
        self._done = dict(published)
        offsets = [
            TopicPartition(self._topics[stream], partition, offset)
            for (stream, partition), offset in published.items()
        ]
        try:
            # Never synchronously: with the broker away that blocks for as long as it likes.
            consumer.commit(offsets=offsets, asynchronous=True)
            self.under_way = True
        except KafkaException as refused:
            self.on_commit(refused.args[0], [])

    def finish(self, consumer: Consumer, published: _Offsets, seconds: float) -> None:
        """Commit for the last time and wait up to `seconds`; records that arrive are dropped."""
        deadline = time.monotonic() + seconds
        if not self._told:
            self._wait(consumer, deadline)
            self.commit(consumer, published)
            self._wait(consumer, deadline)

    def on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """Called by the consumer, while it is polled."""
        self.under_way = False
        refused = error or next((p.error for p in partitions if p.error is not None), None)
        if refused is None:
            self._failures, self._told = 0, False
        else:
            # The same offsets are committed again.
            self._done = {}
            self.refused(refused)

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

    def _wait(self, consumer: Consumer, deadline: float) -> None:
        while self.under_way and time.monotonic() < deadline:
            consumer.poll(POLL_SECONDS)
