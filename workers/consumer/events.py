"""What the source's threads tell the event loop of the consumer process: values, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from energyws.process.stalls import Stall
from energyws.stream.record import Reader


@dataclass(frozen=True, slots=True)
class TopicFound:
    """A stream's topic exists, or was replaced by another: read from `begin`, live from `live`.

    Both are offsets of partition 0, 1, …; a stream that was found before starts over.
    """

    stream: str
    epoch: str
    begin: tuple[int, ...]
    live: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PartitionAdded:
    """A new partition is read from `begin`."""

    stream: str
    partition: int
    begin: int


class Record(NamedTuple):
    """What is kept of a message; timestamp_ms is None where the broker has none.

    key: the bytes of a key that stands outside the value, where the stream takes its keys there.
    reader: what makes JSON of the value; None: it is JSON.
    """

    stream: str
    partition: int
    offset: int
    timestamp_ms: int | None
    value: bytes | None
    key: bytes | None = None
    reader: Reader | None = None


@dataclass(frozen=True, slots=True)
class Records:
    """Records in the order of each partition, and ends of partitions that were reached.

    ends: (stream, partition) to the offset after its last record.
    """

    records: list[Record]
    ends: dict[tuple[str, int], int]


class OldRecord(NamedTuple):
    """A record from before those that are read back. key: escaped; data None: it removes it."""

    key: bytes
    timestamp_ms: int
    data: bytes | None
    partition: int


@dataclass(frozen=True, slots=True)
class WarmedUp:
    """All old records were read: those since since_ms, or all that the log had (None).

    lacking: partitions of which some could not be read. records: how many; in so many seconds.
    """

    since_ms: int | None
    lacking: tuple[int, ...]
    records: int
    seconds: float


@dataclass(frozen=True, slots=True)
class RecordsLost:
    """The offsets from `begin` to `end` (exclusive) will not be read.

    retention: it removed them first; else they are too many, or the group has no offset.
    """

    stream: str
    partition: int
    begin: int
    end: int
    retention: bool = True


@dataclass(frozen=True, slots=True)
class BrokerState:
    """Whether any broker can be reached has changed."""

    up: bool


@dataclass(frozen=True, slots=True)
class LogEnds:
    """The high watermarks that are known, by (stream, partition)."""

    ends: dict[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class MetadataStalls:
    """Why metadata say that a stream cannot be read, by partition or by WHOLE.

    Complete: every partition that is not listed can be read.
    """

    stream: str
    stalls: Mapping[int, Stall]


@dataclass(frozen=True, slots=True)
class FetchError:
    """A fetch was answered with an error; the partition's next record or end takes it back."""

    stream: str
    partition: int
    stall: Stall


@dataclass(frozen=True, slots=True)
class SchemaAwaited:
    """A partition waits for the schema of its next record, until that record or an end arrives."""

    stream: str
    partition: int


Event = (
    TopicFound
    | PartitionAdded
    | Records
    | RecordsLost
    | BrokerState
    | LogEnds
    | MetadataStalls
    | FetchError
    | SchemaAwaited
)
