"""Metadata beside the consumer: which partitions a topic has, which incarnation it is, its ends.

On a consumer that is polling, metadata waits behind the long fetch; so this is a thread with an
AdminClient of its own. It asks often while something is missing, seldom when all is known.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from energyws.log import Log

ASK_SECONDS: Final = 5.0
MISSING_SECONDS: Final = 0.5
_LOCAL_ANSWERS: Final = {KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
_NO_TOPIC_IDS: Final = {KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION}

_log = Log("discovery")


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is now.

    epoch: names this incarnation; ends: (low, high) watermark of partition 0, 1, …
    """

    epoch: str
    ends: tuple[tuple[int, int], ...]


class Discovery(threading.Thread):
    """Reports each stream's Topic when it is first seen, and whenever it changes shape.

    on_topic(stream, topic) and on_broker(up) are called from this thread; so is
    on_ends(stream, topic), whenever it was looked at.
    """

    def __init__(
        self,
        client: Mapping[str, Any],
        topics: Mapping[str, str],
        refresh_seconds: float,
        on_topic: Callable[[str, Topic], None],
        on_broker: Callable[[bool], None],
        on_ends: Callable[[str, Topic], None],
    ) -> None:
        super().__init__(name="discovery", daemon=True)
        self._client = {**client, "allow.auto.create.topics": False}
        self._topics = topics
        self._refresh_seconds = refresh_seconds
        self._on_topic = on_topic
        self._on_broker = on_broker
        self._on_ends = on_ends
        self._known: dict[str, Topic] = {}
        self._missing: set[str] = set()
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

    def run(self) -> None:
        """The thread."""
        admin = AdminClient(self._client)
        while not self._stopping:
            self._wake.clear()
            complete = self._look(admin)
            self._wake.wait(self._refresh_seconds if complete else MISSING_SECONDS)

    def _look(self, admin: AdminClient) -> bool:
        """Whether everything was there."""
        complete = True
        for stream, name in self._topics.items():
            try:
                topic = describe(admin, name)
            except KafkaException as failure:
                error: KafkaError = failure.args[0]
                if not _is_answer(error):
                    _log.debug("broker cannot be asked", topic=name, reason=error.str())
                    self._on_broker(False)
                    return False
                self._on_broker(True)
                self._miss(stream, name, error)
                complete = False
                continue
            self._on_broker(True)
            self._missing.discard(stream)
            self._on_ends(stream, topic)
            known = self._known.get(stream)
            if known is None or _shape(known) != _shape(topic):
                self._known[stream] = topic
                self._on_topic(stream, topic)
        return complete

    def _miss(self, stream: str, name: str, error: KafkaError) -> None:
        if stream not in self._missing:
            self._missing.add(stream)
            _log.warning(
                "topic cannot be read: waiting for it",
                stream=stream,
                topic=name,
                reason=error.str(),
            )


def describe(admin: AdminClient, name: str) -> Topic:
    """Ask the broker for a topic; raises KafkaException."""
    # Also what keeps the controller that describe_topics asks up to date.
    metadata = admin.list_topics(name, timeout=ASK_SECONDS)
    topic = metadata.topics[name]
    partitions = sorted(topic.partitions)
    if topic.error is not None:
        raise KafkaException(topic.error)
    if not partitions or partitions != list(range(len(partitions))):
        # Seen for a moment while a topic is made or deleted.
        reason = f"its partitions are {partitions}"
        raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, reason))
    low = list_offsets(admin, name, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    high = list_offsets(admin, name, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    epoch = _epoch(_topic_id(admin, name), metadata.cluster_id, name)
    return Topic(epoch, tuple(zip(low, high, strict=True)))


def list_offsets(
    admin: AdminClient, name: str, partitions: Sequence[int], spec: OffsetSpec
) -> list[int]:
    """One offset of each partition, in their order; -1 where the broker has none."""
    wanted = {TopicPartition(name, partition): spec for partition in partitions}
    answers: dict[TopicPartition, Future[Any]] = admin.list_offsets(
        wanted, request_timeout=ASK_SECONDS
    )
    found = {tp.partition: answer.result().offset for tp, answer in answers.items()}
    return [found[partition] for partition in partitions]


def _is_answer(error: KafkaError) -> bool:
    """Whether a broker said this of a topic; else nobody answered (librdkafka's own codes)."""
    return error.code() >= 0 or error.code() in _LOCAL_ANSWERS


def _topic_id(admin: AdminClient, name: str) -> str | None:
    """The broker's id of this incarnation (KIP-516); None where the broker has none.

    Any other failure is raised: an epoch that changes with the weather would be worse than none.
    """
    answers = admin.describe_topics(TopicCollection([name]), request_timeout=ASK_SECONDS)
    try:
        topic_id = str(answers[name].result().topic_id)
    except KafkaException as failure:
        if failure.args[0].code() in _NO_TOPIC_IDS:
            return None
        raise
    # A broker from before topic ids answers with the zero id.
    return topic_id if topic_id.strip("A=") else None


def _epoch(topic_id: str | None, cluster_id: str | None, name: str) -> str:
    """Eight hex digits; every replica derives the same ones.

    Without a topic id a recreated topic of the same name has the same epoch, and shows only when
    its log is shorter than a position.
    """
    identity = topic_id or f"{cluster_id}/{name}"
    return hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()


def _shape(topic: Topic) -> tuple[str, int]:
    return topic.epoch, len(topic.ends)
