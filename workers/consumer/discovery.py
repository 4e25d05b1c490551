"""The thread that looks at topics beside the consumer, and reports what has changed.

On a consumer that is polling, a metadata request waits behind the long fetch; so this thread has an
AdminClient. It asks often while something is missing, and every kafka.metadata_refresh_seconds when
everything is known. A partition or a topic that cannot be read does not delay news of the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

from confluent_kafka.admin import AdminClient

from energyws.logs.events import Log
from energyws.process.stalls import WHOLE, Stall
from energyws.settings import Kafka
from workers.consumer.metadata import (
    BrokersUnavailable,
    Topic,
    TopicUnavailable,
    describe,
    isolation,
)
from workers.runtime import crash_on_error

MISSING_SECONDS: Final = 0.5
_log = Log("discovery")


class Discovery(threading.Thread):
    """Reports each stream's Topic when it is first seen, and whenever it changes shape.

    on_topic(stream, topic) and on_broker(up, reason) are called from this thread; so are
    on_ends(stream, topic) and on_stalls(stream, stalls), each time it has looked at a stream.
    """

    def __init__(
        self,
        admin: AdminClient,
        kafka: Kafka,
        topics: Mapping[str, str],
        on_topic: Callable[[str, Topic], None],
        on_broker: Callable[[bool, str], None],
        on_ends: Callable[[str, Topic], None],
        on_stalls: Callable[[str, Mapping[int, Stall]], None],
    ) -> None:
        super().__init__(name="discovery", daemon=True)
        self._admin = admin
        self._kafka = kafka
        self._isolation = isolation(kafka)
        self._topics = topics
        self._on_topic = on_topic
        self._on_broker = on_broker
        self._on_ends = on_ends
        self._on_stalls = on_stalls
        # What was reported last. `look_again` drops it, but keeps the epoch.
        self._reported: dict[str, Topic] = {}
        self._epochs: dict[str, str] = {}
        self._missing: dict[str, Stall] = {}
        self._wake = threading.Event()
        self._stopping = False

    def look_again(self, stream: str) -> None:
        """Report this stream again as soon as possible, even if nothing has changed."""
        self._reported.pop(stream, None)
        self._wake.set()

    def look_now(self) -> None:
        """Look at all topics without waiting for the next refresh."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread soon, without waiting for it."""
        self._stopping = True
        self._wake.set()

    @crash_on_error
    def run(self) -> None:
        """The thread."""
        while not self._stopping:
            self._wake.clear()
            complete = self.look()
            refresh = self._kafka.metadata_refresh_seconds
            self._wake.wait(refresh if complete else min(refresh, MISSING_SECONDS))

    def look(self) -> bool:
        """Look at every topic once; True if all of them can be read completely."""
        complete = True
        for stream, name in self._topics.items():
            try:
                topic = describe(self._admin, name, self._isolation, self._epochs.get(stream))
            except BrokersUnavailable as unavailable:
                self._on_broker(False, str(unavailable))
                return False
            except TopicUnavailable as unavailable:
                self._on_broker(True, "")
                self._report_missing(stream, name, unavailable)
                complete = False
                continue
            self._on_broker(True, "")
            self._missing.pop(stream, None)
            self._on_stalls(stream, topic.stalls)
            self._on_ends(stream, topic)
            complete = complete and not topic.stalls
            reported = self._reported.get(stream)
            if reported is None or _shape(reported) != _shape(topic):
                self._reported[stream] = topic
                self._epochs[stream] = topic.epoch
                self._on_topic(stream, topic)
        return complete

    def _report_missing(self, stream: str, name: str, unavailable: TopicUnavailable) -> None:
        self._on_stalls(stream, {WHOLE: unavailable.stall})
        if self._missing.get(stream) is not unavailable.stall:
            self._missing[stream] = unavailable.stall
            _log.warning(
                "topic cannot be read: waiting for it",
                stream=stream,
                topic=name,
                reason=unavailable,
            )


def _shape(topic: Topic) -> tuple[str, int, frozenset[int]]:
    return topic.epoch, len(topic.ends), frozenset(topic.stalls)
