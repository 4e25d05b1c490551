"""A topic as the brokers describe it: its incarnation, its partitions, their ends."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    OffsetSpec,
    PartitionMetadata,
)

from energyws.errors import EnergywsError
from energyws.process.stalls import WORDS, Stall
from energyws.protocol.position import MAX_PARTITIONS
from energyws.settings import Kafka

ASK_SECONDS: Final = 5.0
# Where the topic's id is known from before: without a controller, no broker answers.
ASK_AGAIN_SECONDS: Final = 1.0
_LOCAL_ANSWERS: Final = {KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
_NO_TOPIC_IDS: Final = {KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION}
_STALLS: Final = {
    KafkaError._UNKNOWN_TOPIC: Stall.NO_TOPIC,
    KafkaError.UNKNOWN_TOPIC_OR_PART: Stall.NO_TOPIC,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: Stall.NOT_ALLOWED,
    KafkaError.LEADER_NOT_AVAILABLE: Stall.NO_LEADER,
    KafkaError.NOT_LEADER_FOR_PARTITION: Stall.NO_LEADER,
}


class BrokersUnavailable(EnergywsError):
    """No broker answers which topics there are. The text says why."""


class TopicUnavailable(EnergywsError):
    """Brokers answer, but the topic cannot be read now. The text says why."""

    def __init__(self, stall: Stall, reason: str) -> None:
        super().__init__(reason)
        self.stall = stall


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic at this moment.

    epoch: names this incarnation. ends: of partition 0, 1, … the first offset, and the one after
    the last record that can be read (under read_committed the last stable offset, before which
    every transaction has ended); None where they are not known, and `stalls` says why.
    """

    epoch: str
    ends: tuple[tuple[int, int] | None, ...]
    stalls: Mapping[int, Stall] = field(default_factory=dict)


def isolation(kafka: Kafka) -> IsolationLevel:
    """Which records a consumer gets: by default only those of transactions that have ended."""
    if kafka.options.get("isolation.level") == "read_uncommitted":
        return IsolationLevel.READ_UNCOMMITTED
    return IsolationLevel.READ_COMMITTED


def describe(
    admin: AdminClient,
    name: str,
    level: IsolationLevel = IsolationLevel.READ_COMMITTED,
    known_epoch: str | None = None,
    max_partitions: int = MAX_PARTITIONS,
) -> Topic:
    """Ask the brokers for a topic; raises BrokersUnavailable or TopicUnavailable.

    known_epoch: used where no broker answers with the topic's id; a topic cannot be created anew
    without the controller, which knows the id. max_partitions: with more, it is unavailable.
    """
    try:
        # This also tells describe_topics which broker is the controller.
        metadata = admin.list_topics(name, timeout=ASK_SECONDS)
    except KafkaException as failure:
        raise BrokersUnavailable(failure.args[0].str()) from None
    topic = metadata.topics[name]
    partitions = sorted(topic.partitions)
    if topic.error is not None:
        if not _is_answer(topic.error):
            raise BrokersUnavailable(topic.error.str())
        raise TopicUnavailable(stall_of(topic.error), topic.error.str())
    if not partitions or partitions != list(range(len(partitions))):
        # Seen for a moment while a topic is created or deleted.
        raise TopicUnavailable(Stall.NO_TOPIC, f"its partitions are {partitions}")
    if len(partitions) > max_partitions:
        raise TopicUnavailable(
            Stall.TOO_MANY_PARTITIONS,
            f"it has {len(partitions)} partitions, more than {max_partitions}",
        )
    ends, stalls = _ends(admin, name, topic.partitions, level)
    try:
        topic_id = _topic_id(admin, name, ASK_AGAIN_SECONDS if known_epoch else ASK_SECONDS)
    except KafkaException as failure:
        if known_epoch is None:
            raise TopicUnavailable(
                Stall.NO_TOPIC_ID, f"no topic id: {failure.args[0].str()}"
            ) from None
        epoch = known_epoch
    else:
        epoch = _epoch(topic_id, metadata.cluster_id, name)
    if not any(ends) and known_epoch != epoch:
        raise TopicUnavailable(stalls[0], WORDS[stalls[0]])
    return Topic(epoch, ends, stalls)


def list_offsets(
    admin: AdminClient, name: str, partitions: Sequence[int], spec: OffsetSpec
) -> list[int]:
    """The offset of each partition for `spec`, in their order; -1 where the broker has none.

    Raises KafkaException.
    """
    found = _ask_offsets(admin, name, partitions, spec, IsolationLevel.READ_UNCOMMITTED)
    offsets = [found[partition] for partition in partitions]
    for each in offsets:
        if isinstance(each, KafkaError):
            raise KafkaException(each)
    return [each for each in offsets if isinstance(each, int)]


def _ask_offsets(
    admin: AdminClient,
    name: str,
    partitions: Sequence[int],
    spec: OffsetSpec,
    level: IsolationLevel,
) -> dict[int, int | KafkaError]:
    wanted = {TopicPartition(name, partition): spec for partition in partitions}
    answers: dict[TopicPartition, Future[Any]] = admin.list_offsets(
        wanted, isolation_level=level, request_timeout=ASK_SECONDS
    )
    found: dict[int, int | KafkaError] = {}
    for tp, answer in answers.items():
        try:
            found[tp.partition] = answer.result().offset
        except KafkaException as failure:
            found[tp.partition] = failure.args[0]
    return found


def _ends(
    admin: AdminClient,
    name: str,
    partitions: Mapping[int, PartitionMetadata],
    level: IsolationLevel,
) -> tuple[tuple[tuple[int, int] | None, ...], dict[int, Stall]]:
    """The ends of each partition, and the stalls of those whose ends are not known."""
    stalls = {number: Stall.NO_LEADER for number, each in partitions.items() if each.leader < 0}
    led = [number for number in partitions if number not in stalls]
    low: dict[int, int | KafkaError] = {}
    high: dict[int, int | KafkaError] = {}
    if led:
        low = _ask_offsets(admin, name, led, OffsetSpec.earliest(), level)  # type: ignore[no-untyped-call]
        answered = [number for number in led if isinstance(low[number], int)]
        if answered:
            high = _ask_offsets(admin, name, answered, OffsetSpec.latest(), level)  # type: ignore[no-untyped-call]
    ends: list[tuple[int, int] | None] = []
    for number in range(len(partitions)):
        first, end = low.get(number), high.get(number)
        if isinstance(first, int) and isinstance(end, int):
            ends.append((first, end))
            continue
        ends.append(None)
        for each in (first, end):
            if isinstance(each, KafkaError):
                stall = stall_of(each)
                # Metadata say that it has a leader: so we only fail to reach it.
                stalls[number] = Stall.NO_ANSWER if stall is Stall.NO_LEADER else stall
    return tuple(ends), stalls


def stall_of(error: KafkaError) -> Stall:
    """Why a partition or a topic with this error cannot be read."""
    return _STALLS.get(error.code(), Stall.FAILS if error.code() >= 0 else Stall.NO_ANSWER)


def _is_answer(error: KafkaError) -> bool:
    """Whether a broker sent this error; librdkafka's own codes mostly mean that none answered."""
    return error.code() >= 0 or error.code() in _LOCAL_ANSWERS


def _topic_id(admin: AdminClient, name: str, seconds: float) -> str | None:
    """The broker's id of this incarnation (KIP-516); None where the broker has none.

    Raises KafkaException for every other failure: an epoch that depended on whether a broker
    answers would be worse than none.
    """
    answers = admin.describe_topics(TopicCollection([name]), request_timeout=seconds)
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

    Without a topic id, a topic that was deleted and created anew has the same epoch; it is noticed
    only once its log is shorter than a position.
    """
    identity = topic_id or f"{cluster_id}/{name}"
    return hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()
