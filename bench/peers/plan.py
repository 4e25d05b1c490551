"""How fast a peer is asked to be, and what its rounds amount to."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final

# The slowest that is tried, deliveries a second.
SLOWEST: Final = 10_000.0
_FACTOR: Final = 2.0


def sustained(target: float, known: float, sustains: Callable[[float], bool]) -> float:
    """The highest load up to `target` that a peer sustains, in deliveries a second; 0 for none.

    Tries go upwards from what is known to be sustained (0: nothing), each twice the one before,
    so that a peer is never asked for much more than it can do, and one between the last two; the
    result is therefore up to 1.4 times too low.
    """
    while known < target:
        attempt = min(target, known * _FACTOR or SLOWEST)
        if sustains(attempt):
            known = attempt
            continue
        between = known * math.sqrt(_FACTOR)
        return between if known and between < attempt and sustains(between) else known
    return known


def kept_up(asked_seconds: float, seconds: float, lost: int) -> bool:
    """Whether all was delivered about as fast as it was written, and nothing lost."""
    return lost == 0 and seconds <= asked_seconds * 1.15 + 0.25


def medians(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of every figure over the rounds."""
    return {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}


def ratios(peer: Sequence[float], energyws: Sequence[float]) -> dict[str, float]:
    """What a peer costs by what energyws costs, of rounds that followed each other."""
    each = [one / other for one, other in zip(peer, energyws, strict=True)]
    return {
        "ratio": round(statistics.median(each), 2),
        "ratio_min": round(min(each), 2),
        "ratio_max": round(max(each), 2),
    }
