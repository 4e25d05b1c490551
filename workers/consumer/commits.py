"""Commits offsets, only so that monitoring shows the group's lag.

A commit that finds no coordinator stays in librdkafka until there is one, and close() waits for it:
for ever, if the service may not use the group. So at most one commit is under way, and `finish`
waits for it for a limited time. (An admin client's requests would time out by themselves, but
librdkafka 2.16 may abort the process when the coordinator comes back: its issue 4605.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from energyws.logs.events import Log

POLL_SECONDS: Final = 0.05

# Other errors may pass by themselves: the coordinator moves, the broker restarts.
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
    """The offsets of one group. For one thread. topics: the topic of each stream."""

    def __init__(
        self,
        group: str,
        topics: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._group = group
        self._topics = topics
        self._clock = clock
        self._committed: _Offsets = {}
        self._failures = 0
        self._warned = False
        self.under_way = False

    def commit(self, consumer: Consumer, published: _Offsets) -> None:
        """Commit these next offsets if they have changed; librdkafka calls `on_commit`."""
        if self.under_way or published == self._committed:
            return
        self._committed = dict(published)
        offsets = [
            TopicPartition(self._topics[stream], partition, offset)
            for (stream, partition), offset in published.items()
        ]
        try:
            # Never synchronously: without a broker that blocks without limit.
            consumer.commit(offsets=offsets, asynchronous=True)
            self.under_way = True
        except KafkaException as refused:
            self.on_commit(refused.args[0], [])

    def finish(self, consumer: Consumer, published: _Offsets, seconds: float) -> None:
        """Commit for the last time and wait up to `seconds`; records that arrive are dropped."""
        deadline = self._clock() + seconds
        if not self._warned:
            self._wait(consumer, deadline)
            self.commit(consumer, published)
            self._wait(consumer, deadline)

    def on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        """librdkafka's callback, from within poll()."""
        self.under_way = False
        refused = error or next((p.error for p in partitions if p.error is not None), None)
        if refused is None:
            self._failures, self._warned = 0, False
        else:
            # So that the same offsets are committed again.
            self._committed = {}
            self.failed(refused)

    def failed(self, error: KafkaError) -> None:
        """Log that commits fail, once until one succeeds.

        The first failure without a hint is not logged: it may pass by itself.
        """
        hint = _HINTS.get(error.code())
        self._failures += 1
        if self._warned or (hint is None and self._failures < 2):
            return
        self._warned = True
        # The broker's text alone, without librdkafka's about the request that it answers.
        reason = KafkaError(error.code()) if error.code() >= 0 else error
        _log.warning(
            "offsets cannot be committed: streaming goes on, consumer lag will not show",
            group=self._group,
            reason=reason.str(),
            hint=hint or "see the broker's log; it is tried again",
        )

    def _wait(self, consumer: Consumer, deadline: float) -> None:
        while self.under_way and self._clock() < deadline:
            consumer.poll(POLL_SECONDS)
