"""When a child that crashed starts again, and when the service gives up instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from energyws.control.policy.actions import Halt, describe
from energyws.errors import ExitCode
from energyws.settings import Supervision

# A child that has run this long without a crash starts with a clean record.
FORGET_SECONDS: Final = 60.0
BACKOFF_FIRST_SECONDS: Final = 0.25
_FINAL_EXITS: Final = frozenset({ExitCode.CONFIG, ExitCode.BOOT})


class Restarts:
    """The crashes of one slot. rng: uniform in [0, 1). Times are monotonic seconds."""

    def __init__(self, name: str, rng: Callable[[], float]) -> None:
        self._name = name
        self._rng = rng
        self._crashes: list[float] = []
        self._ended_at = self._start_at = float("-inf")

    def due(self, now: float, rules: Supervision) -> bool:
        """Whether the slot's next process may start."""
        # A reload may have shortened the longest pause since this one began.
        return min(self._start_at, self._ended_at + rules.backoff_max_seconds) <= now

    def skip_backoff(self, now: float) -> None:
        """The slot's process leaves in order: the next one starts at once."""
        self._start_at = now

    def crashed(self, status: int, now: float, rules: Supervision) -> Halt | None:
        """Note a crash and plan the next start; Halt: do not start it again."""
        if status in _FINAL_EXITS:
            why = f"{self._name} cannot start ({describe(status)}): see its log"
            return Halt(ExitCode(status), why)
        window = max(FORGET_SECONDS, rules.crash_loop_seconds)
        self._crashes = [at for at in self._crashes if now - at < window] + [now]
        recent = [at for at in self._crashes if now - at < rules.crash_loop_seconds]
        if len(recent) >= rules.crash_loop_count:
            why = (
                f"{self._name} ended {len(recent)} times within "
                f"{rules.crash_loop_seconds:g} s, last {describe(status)}: see its log"
            )
            return Halt(ExitCode.CRASH_LOOP, why)
        self._ended_at, self._start_at = now, now + self._backoff(rules.backoff_max_seconds)
        return None

    def _backoff(self, longest: float) -> float:
        crashes = len(self._crashes)
        if crashes <= 1:
            return 0.0
        bound = min(longest, BACKOFF_FIRST_SECONDS * 2.0 ** (crashes - 2))
        # Half the jitter: a child that keeps crashing never restarts at once.
        return bound * (1 + self._rng()) / 2
