"""What is held against each other: the producer's facts, the losses allowed, and the verdict."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """The Gaps that clients may receive; by default none at all.

    reasons: any other reason is a failure. With an allowed reason, too, only the numbers that were
    given to World.removed may be missing, and only where the Gap is.
    counted: the Gap's `missed`, where it is a number, must be the number of missing records; False
    where the log holds records that never become frames.
    """

    reasons: frozenset[str] = frozenset()
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Facts:
    """The producer's knowledge, by partition.

    offsets: of each number, None before it is in the log. unwritten: numbers that never got there.
    """

    offsets: Sequence[Sequence[int | None]]
    unwritten: Sequence[Collection[int]]


@dataclass(slots=True)
class Verdict:
    """Counts over all clients, and every problem in words. told: Gaps, right or wrong."""

    gaps: int = 0
    duplicates: int = 0
    reorderings: int = 0
    corrupt: int = 0
    told: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Outcome(Verdict):
    """The verdict on one injection. Times in seconds, from the beginning of the injection.

    silence: the longest time that any client received nothing, less the records' interval.
    all_live: until every client had a record that was written after the injection was over.
    """

    fault: str = ""
    broker: str = ""
    repetition: int = 0
    clients: int = 0
    frames: int = 0
    silence: float = 0.0
    all_live: float = 0.0
    log_bytes: int = 0
    reconnects: int = 0
    notes: dict[str, float] = field(default_factory=dict)
