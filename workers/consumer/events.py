"""What the source's threads tell the event loop of the consumer process: values, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from energyws.process.stalls import Stall


@dataclass(frozen=True, slots=True)
class Found:
    """A stream's topic is there, or is another one now: read from `begin`, live from `live`.

    Both are offsets of partition 0, 1, …; a stream that was found before starts over.
    """

    stream: str
    epoch: str
    begin: tuple[int, ...]
    live: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Grown:
    """A partition was added; it is read from `begin`."""

    stream: str
    partition: int
    begin: int


class Record(NamedTuple):
    """What is kept of a message; timestamp_ms is None where the broker has none."""

    stream: str
    partition: int
    offset: int
    timestamp_ms: int | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Records:
    """Records in the order of each partition, and ends of partitions that were reached.

    ends: (stream, partition) to the offset after its last record.
    """

    records: list[Record]
    ends: dict[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class Lost:
    """Offsets `begin` up to, not with, `end` will not be read.

    retention: it took them first; else they are too many, or nobody knows where reading stood.
    """

    stream: str
    partition: int
    begin: int
    end: int
    retention: bool = True


@dataclass(frozen=True, slots=True)
class BrokerState:
    """The broker went away, or came back."""

    up: bool


@dataclass(frozen=True, slots=True)
class Ends:
    """Where the logs end, by (stream, partition): the high watermarks, as far as they are known."""

    ends: dict[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class MetadataStalls:
    """Why a stream cannot be read now, as its metadata say: by partition, or by WHOLE.

    All there is to say of the stream: what is not in it can be read.
    """

    stream: str
    waits: Mapping[int, Stall]


@dataclass(frozen=True, slots=True)
class FetchError:
    """A fetch was answered with an error; the next record or end of the partition takes it back."""

    stream: str
    partition: int
    wait: Stall


Event = Found | Grown | Records | Lost | BrokerState | Ends | MetadataStalls | FetchError
