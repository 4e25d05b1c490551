"""What the judge compares: the producer's facts and the allowed losses; and its verdict."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """The Gaps that clients may receive; by default none.

    reasons: any other reason is a failure. Even with an allowed reason, only the numbers given to
    World.removed may be missing, and only where the Gap is.
    counted: the Gap's `missed`, if it is a number, must equal the number of missing records; False
    if the log holds records that never become frames.
    """

    reasons: frozenset[str] = frozenset()
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Facts:
    """What the producer knows, by partition.

    offsets: of each number; None before it is in the log. unwritten: numbers never written to it.
    """

    offsets: Sequence[Sequence[int | None]]
    unwritten: Sequence[Collection[int]]


@dataclass(slots=True)
class Verdict:
    """Counts over all clients, and every problem in words. reported: all Gaps, right or wrong.

    foreign: records whose keys their client has no right to.
    """

    gaps: int = 0
    duplicates: int = 0
    reorderings: int = 0
    corrupt: int = 0
    reported: int = 0
    foreign: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Outcome(Verdict):
    """The verdict on one injection. Times in seconds since it began.

    silence: the longest time that a WebSocket client received nothing, minus the interval of
    records; sse_silence: the same of SSE clients, which wait as long as the service tells them to.
    sse_clients, sse_frames: how many of clients and frames are of SSE; keyed_clients, keyed_frames:
    of clients that have a few keys each, whose silence is not measured.
    io_uring: what the workers said about it when the injection was over; empty in older results.
    all_live: until every client had a record written after the injection ended.
    """

    fault: str = ""
    broker: str = ""
    repetition: int = 0
    clients: int = 0
    frames: int = 0
    sse_clients: int = 0
    sse_frames: int = 0
    keyed_clients: int = 0
    keyed_frames: int = 0
    silence: float = 0.0
    sse_silence: float = 0.0
    all_live: float = 0.0
    log_bytes: int = 0
    reconnects: int = 0
    io_uring: str = ""
    notes: dict[str, float] = field(default_factory=dict)

    def count(self, before: Mapping[str, int], seen: Mapping[str, int]) -> None:
        """Take the number of frames from the crowd's reports before and after."""
        for name in ("frames", "sse_frames", "keyed_frames"):
            setattr(self, name, seen[name] - before[name])
