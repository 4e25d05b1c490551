"""What is counted on the board by kind: families of counters and histograms, and their columns.

Every label is known beforehand, so a row has room for all of them, and nothing that a client sends
can make another one. A histogram has fixed bounds; observing costs two additions.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Final, get_args

from energyws.auth.claims import TokenClaim, TokenReason
from energyws.errors import CLOSES, ERROR_CODES, FaultKind
from energyws.process.board import COLUMNS, Row
from energyws.protocol.messages import Unrecovered

# Room for columns of Field to come.
_FIRST: Final = 48
_MICROSECONDS: Final = 1e6


class Family:
    """Counters of one thing, told apart by labels.

    Another combination of labels than those known counts as the last one.
    """

    def __init__(self, first: int, labels: Iterable[tuple[str, ...]]) -> None:
        self.labels: Final = tuple(labels)
        self.first: Final = first
        self._columns = {each: first + at for at, each in enumerate(self.labels)}

    @property
    def end(self) -> int:
        """The first column behind."""
        return self.first + len(self.labels)

    def count(self, row: Row, *labels: str, amount: int = 1) -> None:
        """Count something that has these labels."""
        row.add(self._columns.get(labels, self.end - 1), amount)

    def read(self, columns: Sequence[int]) -> dict[tuple[str, ...], int]:
        """The counters by their labels."""
        return dict(zip(self.labels, columns[self.first : self.end], strict=True))


class Histogram:
    """How many observations were at most `bounds[i]` seconds, each counted in one bucket.

    The last bucket has what is beyond the last bound.
    """

    def __init__(self, first: int, bounds: Iterable[float]) -> None:
        self.bounds: Final = tuple(bounds)
        self.first: Final = first

    @property
    def end(self) -> int:
        """The first column behind."""
        return self.first + len(self.bounds) + 2

    def observe(self, row: Row, seconds: float) -> None:
        """Count one observation."""
        row.add(self.first + bisect_left(self.bounds, seconds))
        row.add(self.end - 1, int(seconds * _MICROSECONDS))

    def read(self, columns: Sequence[int]) -> tuple[list[int], float]:
        """The count of each bucket, and the sum of all observations in seconds."""
        return list(columns[self.first : self.end - 1]), columns[self.end - 1] / _MICROSECONDS


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The least bound that at least `share` of the observations keep; None without any.

    For what is beyond the last bound it is infinity.
    """
    wanted = share * sum(counts)
    below = 0
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        below += count
        if below and below >= wanted:
            return bound
    return None


# accepted, or the code of the error that refuses it.
HANDSHAKES: Final = Family(
    _FIRST,
    [("accepted",), *((error.code.lower(),) for error in ERROR_CODES if error.status)],
)
# The reason, and the claim where it is one; empty otherwise, which Prometheus takes for no label.
TOKEN_REFUSALS: Final = Family(
    HANDSHAKES.end,
    [
        (reason, claim)
        for reason in get_args(TokenReason)
        for claim in (get_args(TokenClaim) if reason == "claims" else ("",))
    ],
)
# Who began to close, and with which code; 1006 is a connection that broke without one.
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
# Where what a client asked back begins, and whether all of it is there.
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
# How late the event loop comes to its heartbeat.
LOOP_DELAY: Final = Histogram(
    AGE.end, (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
)
# What was at fault where a process could not use what it was given while it ran.
RELOAD_REFUSALS: Final = Family(LOOP_DELAY.end, [(each,) for each in get_args(FaultKind)])

assert RELOAD_REFUSALS.end <= COLUMNS
