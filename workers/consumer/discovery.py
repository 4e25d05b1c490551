"""The thread that looks at topics beside the consumer, and tells what has changed.

On a consumer that is polling, metadata waits behind the long fetch; so this is a thread with an
AdminClient. It asks often while something is missing, seldom when all is known. One partition
that cannot be read, or one topic, is no reason to know less of the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

from confluent_kafka.admin import AdminClient

from energyws.logs.events import Log
from energyws.process.stalls import WHOLE, Stall
from energyws.settings import Kafka
from workers.consumer.metadata import Topic, Unanswered, Unknown, describe, isolation
from workers.runtime import crash_on_error

MISSING_SECONDS: Final = 0.5
_log = Log("discovery")


class Discovery(threading.Thread):
    """Reports each stream's Topic when it is first seen, and whenever it changes shape.

    on_topic(stream, topic) and on_broker(up, reason) are called from this thread; so are, whenever
    a stream was looked at, on_ends(stream, topic) and on_waits(stream, waits).
    """

    def __init__(
        self,
        admin: AdminClient,
        kafka: Kafka,
        topics: Mapping[str, str],
        on_topic: Callable[[str, Topic], None],
        on_broker: Callable[[bool, str], None],
        on_ends: Callable[[str, Topic], None],
        on_waits: Callable[[str, Mapping[int, Stall]], None],
    ) -> None:
        super().__init__(name="discovery", daemon=True)
        self._admin = admin
        self._kafka = kafka
        self._isolation = isolation(kafka)
        self._topics = topics
        self._on_topic = on_topic
        self._on_broker = on_broker
        self._on_ends = on_ends
        self._on_waits = on_waits
        # What was reported last; look_again forgets it, but not which incarnation it was.
        self._known: dict[str, Topic] = {}
        self._epochs: dict[str, str] = {}
        self._missing: dict[str, Stall] = {}
        self._wake = threading.Event()
        self._stopping = False

    def look_again(self, stream: str) -> None:
        """Report this stream anew, as soon as possible, even if nothing changed."""
        self._known.pop(stream, None)
        self._wake.set()

    def hurry(self) -> None:
        """Something is wrong with the broker: look now."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread soon; it does not wait for that."""
        self._stopping = True
        self._wake.set()

    @crash_on_error
    def run(self) -> None:
        """The thread."""
        while not self._stopping:
            self._wake.clear()
            complete = self._look()
            refresh = self._kafka.metadata_refresh_seconds
            self._wake.wait(refresh if complete else min(refresh, MISSING_SECONDS))

    def _look(self) -> bool:
        """Whether everything was there."""
        complete = True
        for stream, name in self._topics.items():
            try:
                topic = describe(self._admin, name, self._isolation, self._epochs.get(stream))
            except Unanswered as silence:
                self._on_broker(False, str(silence))
                return False
            except Unknown as unknown:
                self._on_broker(True, "")
                self._miss(stream, name, unknown)
                complete = False
                continue
            self._on_broker(True, "")
            self._missing.pop(stream, None)
            self._on_waits(stream, topic.waits)
            self._on_ends(stream, topic)
            complete = complete and not topic.waits
            known = self._known.get(stream)
            if known is None or _shape(known) != _shape(topic):
                self._known[stream] = topic
                self._epochs[stream] = topic.epoch
                self._on_topic(stream, topic)
        return complete

    def _miss(self, stream: str, name: str, unknown: Unknown) -> None:
        self._on_waits(stream, {WHOLE: unknown.wait})
        if self._missing.get(stream) is not unknown.wait:
            self._missing[stream] = unknown.wait
            _log.warning(
                "topic cannot be read: waiting for it",
                stream=stream,
                topic=name,
                reason=unknown,
            )


def _shape(topic: Topic) -> tuple[str, int, frozenset[int]]:
    return topic.epoch, len(topic.ends), frozenset(topic.waits)
