"""How long a client waits before its next attempt to connect."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

BACKOFF_FIRST_SECONDS: Final = 0.25
BACKOFF_MAX_SECONDS: Final = 15.0


class Backoff:
    """Exponential backoff with full jitter: a random time from 0 to a bound that doubles."""

    def __init__(self, rng: Callable[[], float] = random.random) -> None:
        self._rng = rng
        self._failures = 0

    def next_seconds(self) -> float:
        bound: float = min(BACKOFF_MAX_SECONDS, BACKOFF_FIRST_SECONDS * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        return self._rng() * bound

    def reset(self) -> None:
        self._failures = 0
