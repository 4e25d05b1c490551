"""The load at which a peer is measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

# The lowest load of a trial, in deliveries a second.
SLOWEST: Final = 10_000.0
_FACTOR: Final = 2.0


def sustained(target: float, known: float, sustains: Callable[[float], bool]) -> float:
    """The highest load up to `target` that a peer sustains, in deliveries a second; 0 for none.

    Trials start from the load that is known to be sustained (0: none) and double it each time, so
    that a peer never gets much more than it sustains; a last one is made between the last two.
    The result is therefore too low by up to a factor of 1.4.
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
    """Whether everything was delivered, and about as fast as it was written."""
    return lost == 0 and seconds <= asked_seconds * 1.15 + 0.25
