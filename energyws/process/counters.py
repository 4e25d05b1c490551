"""Labelled counters and histograms on the board, and their columns.

All labels are fixed, so that a row has room for them and no client can create another one. A
histogram has fixed bounds; one observation costs two additions.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Final, get_args

from energyws.auth.claims import TokenClaim, TokenReason
from energyws.errors import CLOSES, ERROR_CODES, FaultKind
from energyws.process.board import COLUMNS, Row
from energyws.protocol.messages import Unrecovered
from energyws.settings import Limits
from energyws.stream.record import REASONS

# The columns below are for Field, with room for more.
_FIRST: Final = 48
_MICROSECONDS: Final = 1e6


class Family:
    """Counters of one thing, one for each combination of labels.

    Any other combination counts as the last one.
    """

    def __init__(self, first: int, labels: Iterable[tuple[str, ...]]) -> None:
        self.labels: Final = tuple(labels)
        self.first: Final = first
        self._columns = {each: first + at for at, each in enumerate(self.labels)}

    @property
    def end(self) -> int:
        """The first column after these."""
        return self.first + len(self.labels)

    def count(self, row: Row, *labels: str, amount: int = 1) -> None:
        row.add(self._columns.get(labels, self.end - 1), amount)

    def read(self, columns: Sequence[int]) -> dict[tuple[str, ...], int]:
        return dict(zip(self.labels, columns[self.first : self.end], strict=True))


class Histogram:
    """Each observation counts in one bucket: the first whose bound, in seconds, it does not exceed.

    One more bucket counts observations beyond the last bound.
    """

    def __init__(self, first: int, bounds: Iterable[float]) -> None:
        self.bounds: Final = tuple(bounds)
        self.first: Final = first

    @property
    def end(self) -> int:
        """The first column after these."""
        return self.first + len(self.bounds) + 2

    def observe(self, row: Row, seconds: float) -> None:
        row.add(self.first + bisect_left(self.bounds, seconds))
        row.add(self.end - 1, int(seconds * _MICROSECONDS))

    def read(self, columns: Sequence[int]) -> tuple[list[int], float]:
        """The count of each bucket, and the sum of all observations in seconds."""
        return list(columns[self.first : self.end - 1]), columns[self.end - 1] / _MICROSECONDS


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The least bound that at least `share` of the observations do not exceed.

    None without observations; infinity where it is beyond the last bound.
    """
    wanted = share * sum(counts)
    below = 0
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        below += count
        if below and below >= wanted:
            return bound
    return None


# "accepted", or the code of the error with which it is refused.
HANDSHAKES: Final = Family(
    _FIRST,
    [("accepted",), *((error.code.lower(),) for error in ERROR_CODES if error.status)],
)
# The reason, and the claim if the reason is one; else "", which Prometheus treats as no label.
TOKEN_REFUSALS: Final = Family(
    HANDSHAKES.end,
    [
        (reason, claim)
        for reason in get_args(TokenReason)
        for claim in (get_args(TokenClaim) if reason == "claims" else ("",))
    ],
)
# Which side closed first, and with which code; 1006: the connection broke without a close frame.
CLOSED: Final = Family(
    TOKEN_REFUSALS.end,
    [
        *(("server", str(code)) for code in sorted({close.code for close in CLOSES})),
        ("client", "1000"),
        ("client", "1001"),
        ("client", "1006"),
        ("client", "other"),
    ],
)
# Where a replay starts, and "recovered", or the reason why it is not complete.
RESUMES: Final = Family(
    CLOSED.end,
    [
        (depth, result)
        for depth in ("memory", "log")
        for result in ("recovered", *(reason.value.lower() for reason in Unrecovered))
    ],
)
# From the first write of a batch to its last one.
FANOUT: Final = Histogram(
    RESUMES.end,
    (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0),
)
# From a record's timestamp to the last write of it.
AGE: Final = Histogram(
    FANOUT.end,
    (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0),
)
# How late the event loop runs its heartbeat.
LOOP_DELAY: Final = Histogram(
    AGE.end, (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
)
# What a running process could not use: the fault in a reload that it refused.
RELOAD_REFUSALS: Final = Family(LOOP_DELAY.end, [(each,) for each in get_args(FaultKind)])
# How often a client met one of `limits`, by the key.
LIMITED: Final = Family(RELOAD_REFUSALS.end, [(each.name,) for each in fields(Limits)])
# Why records were skipped.
SKIPPED: Final = Family(LIMITED.end, [(reason,) for reason in REASONS])
# How the questions for schemas ended.
SCHEMA_FETCHES: Final = Family(SKIPPED.end, [("fetched",), ("not_found",), ("failed",)])
# Values that JSON cannot express, by the format of their records.
NULL_VALUES: Final = Family(SCHEMA_FETCHES.end, [("avro",), ("protobuf",)])

assert NULL_VALUES.end <= COLUMNS
