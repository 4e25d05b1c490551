"""Which schema is asked for next, and when; for many threads.

First come those without which a partition waits. The others are of records behind these, which may
be garbage: a producer can name a thousand schemas in one batch.
"""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass
from typing import Final

from workers.consumer.schemas.kept import Key

# Of schemas that nobody waits for.
MAX_WANTED: Final = 1000
RETRY_FIRST_SECONDS: Final = 0.25
RETRY_MAX_SECONDS: Final = 5.0
# Replicas that lost the registry together must not ask it together.
JITTER: Final = 0.2
# A schema that fails is dropped if nobody has asked for it for this long.
FORGET_SECONDS: Final = 30.0


@dataclass(slots=True)
class _Wanted:
    """due, asked_at: monotonic seconds. urgent: somebody waits for it. denials: how often the
    registry has said that there is no such schema."""

    due: float
    asked_at: float
    urgent: bool = False
    failures: int = 0
    denials: int = 0


class Wanted:
    """The schemas that are yet to be fetched; `now` is monotonic seconds."""

    def __init__(self) -> None:
        self._keys: dict[Key, _Wanted] = {}
        # Of the registry as a whole.
        self._registry = _Wanted(float("-inf"), 0.0)
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._keys)

    def ask(self, key: Key, now: float, *, urgent: bool) -> bool:
        """Whether it is to be fetched anew."""
        with self._changing:
            if (known := self._keys.get(key)) is not None:
                known.asked_at = now
                known.urgent |= urgent
                return False
            if not urgent and len(self._keys) >= MAX_WANTED:
                return False
            self._keys[key] = _Wanted(now, now, urgent)
            return True

    def next(self, now: float) -> Key | None:
        """The schema to ask for now."""
        with self._changing:
            if self._registry.due > now:
                return None
            due = [key for key, each in self._keys.items() if each.due <= now]
            return min(due, key=self._order, default=None)

    def pause(self, now: float) -> float | None:
        """In how many seconds there is one; None: unless somebody asks."""
        with self._changing:
            if not self._keys:
                return None
            first = min(each.due for each in self._keys.values())
            return max(0.0, self._registry.due - now, first - now)

    def failed(self, key: Key, now: float, *, everything: bool) -> None:
        """It is yet to be fetched, and so is everything else if the registry answers nobody."""
        with self._changing:
            known = self._keys[key]
            if now - known.asked_at > FORGET_SECONDS:
                del self._keys[key]
            _retry(known, now)
            if everything:
                _retry(self._registry, now)
            else:
                self._registry.failures = 0

    def denied(self, key: Key, until: float) -> int:
        """The registry knows no such schema: ask again then. How often it has said so."""
        with self._changing:
            known = self._keys[key]
            known.due = until
            known.denials += 1
            self._registry.failures = 0
            return known.denials

    def done(self, key: Key) -> None:
        """It has been fetched, or is known not to exist."""
        with self._changing:
            del self._keys[key]
            self._registry.failures = 0

    def _order(self, key: Key) -> tuple[bool, float]:
        return not self._keys[key].urgent, self._keys[key].due


def _retry(wanted: _Wanted, now: float) -> None:
    pause = min(RETRY_MAX_SECONDS, RETRY_FIRST_SECONDS * 2.0 ** min(wanted.failures, 10))
    wanted.failures += 1
    wanted.due = now + pause * random.uniform(1 - JITTER, 1)
