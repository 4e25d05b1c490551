"""What the brokers tell of a topic: which incarnation it is, its partitions, their ends."""

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
# For a topic's id that is known from before: without a controller nobody answers.
ASK_AGAIN_SECONDS: Final = 1.0
_LOCAL_ANSWERS: Final = {KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
_NO_TOPIC_IDS: Final = {KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_VERSION}
_WAITS: Final = {
    KafkaError._UNKNOWN_TOPIC: Stall.NO_TOPIC,
    KafkaError.UNKNOWN_TOPIC_OR_PART: Stall.NO_TOPIC,
    KafkaError.TOPIC_AUTHORIZATION_FAILED: Stall.NOT_ALLOWED,
    KafkaError.LEADER_NOT_AVAILABLE: Stall.NO_LEADER,
    KafkaError.NOT_LEADER_FOR_PARTITION: Stall.NO_LEADER,
}


class Unanswered(EnergywsError):
    """No broker tells which topics there are. The text says why."""


class Unknown(EnergywsError):
    """Brokers answer, but the topic cannot be read now. The text says why."""

    def __init__(self, wait: Stall, reason: str) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it is now.

    epoch: names this incarnation; ends: the first offset of partition 0, 1, … and the one after
    the last that can be read (under read_committed the last stable offset, before which every
    transaction has ended); None: not known now, and `waits` says why.
    """

    epoch: str
    ends: tuple[tuple[int, int] | None, ...]
    waits: Mapping[int, Stall] = field(default_factory=dict)


def isolation(kafka: Kafka) -> IsolationLevel:
    """Which records a consumer gets: those of transactions that have ended, unless set."""
    if kafka.options.get("isolation.level") == "read_uncommitted":
        return IsolationLevel.READ_UNCOMMITTED
    return IsolationLevel.READ_COMMITTED


def describe(
    admin: AdminClient,
    name: str,
    level: IsolationLevel = IsolationLevel.READ_COMMITTED,
    known_epoch: str | None = None,
    most: int = MAX_PARTITIONS,
) -> Topic:
    """Ask the brokers for a topic; raises Unanswered or Unknown.

    known_epoch: taken where the topic's id cannot be had now; a topic cannot be made again
    without the controller, which tells the id. most: of more partitions it is Unknown.
    """
    try:
        # Also what keeps the controller that describe_topics asks up to date.
        metadata = admin.list_topics(name, timeout=ASK_SECONDS)
    except KafkaException as failure:
        raise Unanswered(failure.args[0].str()) from None
    topic = metadata.topics[name]
    partitions = sorted(topic.partitions)
    if topic.error is not None:
        if not _is_answer(topic.error):
            raise Unanswered(topic.error.str())
        raise _unknown(topic.error)
    if not partitions or partitions != list(range(len(partitions))):
        # Seen for a moment while a topic is made or deleted.
        raise Unknown(Stall.NO_TOPIC, f"its partitions are {partitions}")
    if len(partitions) > most:
        raise Unknown(
            Stall.TOO_MANY_PARTITIONS,
            f"it has {len(partitions)} partitions, more than {most}",
        )
    ends, waits = _ends(admin, name, topic.partitions, level)
    try:
        topic_id = _topic_id(admin, name, ASK_AGAIN_SECONDS if known_epoch else ASK_SECONDS)
    except KafkaException as failure:
        if known_epoch is None:
            raise Unknown(Stall.NO_TOPIC_ID, f"no topic id: {failure.args[0].str()}") from None
        epoch = known_epoch
    else:
        epoch = _epoch(topic_id, metadata.cluster_id, name)
    if not any(ends) and known_epoch != epoch:
        raise Unknown(waits[0], WORDS[waits[0]])
    return Topic(epoch, ends, waits)


def list_offsets(
    admin: AdminClient, name: str, partitions: Sequence[int], spec: OffsetSpec
) -> list[int]:
    """One offset of each partition, in their order; -1 where the broker has none.

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
    """The ends of each partition, and why those are missing that are."""
    waits = {number: Stall.NO_LEADER for number, each in partitions.items() if each.leader < 0}
    led = [number for number in partitions if number not in waits]
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
                wait = wait_of(each)
                # It has one, as metadata say: so this only means that we do not reach it.
                waits[number] = Stall.NO_ANSWER if wait is Stall.NO_LEADER else wait
    return tuple(ends), waits


def wait_of(error: KafkaError) -> Stall:
    """What a partition or a topic with this error waits for."""
    return _WAITS.get(error.code(), Stall.FAILS if error.code() >= 0 else Stall.NO_ANSWER)


def _unknown(error: KafkaError) -> Unknown:
    return Unknown(wait_of(error), error.str())


def _is_answer(error: KafkaError) -> bool:
    """Whether a broker said this of a topic; else nobody answered (librdkafka's own codes)."""
    return error.code() >= 0 or error.code() in _LOCAL_ANSWERS


def _topic_id(admin: AdminClient, name: str, seconds: float) -> str | None:
    """The broker's id of this incarnation (KIP-516); None where the broker has none.

    Any other failure is raised: an epoch that changes with the weather would be worse than none.
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

    Without a topic id a recreated topic of the same name has the same epoch, and shows only when
    its log is shorter than a position.
    """
    identity = topic_id or f"{cluster_id}/{name}"
    return hashlib.blake2b(identity.encode(), digest_size=4).hexdigest()
