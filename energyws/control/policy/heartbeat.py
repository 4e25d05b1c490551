"""Whether a running child hangs; no I/O, no clock.

A child counts as hung when neither its heartbeat nor its CPU time moves. One that uses CPU time but
does not beat is starved or stuck, and gets much longer.
"""

from __future__ import annotations

from dataclasses import dataclass

from energyws.process.board import State
from energyws.settings import Supervision


@dataclass(frozen=True, slots=True)
class Beat:
    """What a running child shows: its state, its heartbeat counter, the CPU seconds it has used.

    full: it accepts no connections, because its file descriptors have run out. disputes: it has a
    stream that stands still, because the consumer takes its keys from elsewhere.
    """

    state: State
    beat: int
    cpu_seconds: float
    connections: int = 0
    full: bool = False
    disputes: bool = False


class Heartbeat:
    """The heartbeat of one child. Times are monotonic seconds."""

    def __init__(self, now: float) -> None:
        self._beat = -1
        self._beat_at = now
        self._cpu_seconds = 0.0
        self._cpu_at = now

    def forgive(self, seconds: float) -> None:
        """Leave out `seconds` in which the supervisor did not run."""
        self._beat_at += seconds
        self._cpu_at += seconds

    def look(self, beat: Beat, now: float, rules: Supervision) -> str | None:
        """Why this child must be killed; None: it is alive."""
        if beat.beat != self._beat:
            self._beat, self._beat_at = beat.beat, now
        if beat.cpu_seconds != self._cpu_seconds:
            self._cpu_seconds, self._cpu_at = beat.cpu_seconds, now
        silent = now - self._beat_at
        idle = now - self._cpu_at
        if min(silent, idle) >= rules.hang_seconds:
            return f"no heartbeat and no CPU time for {silent:.1f} s"
        if silent >= rules.starved_seconds:
            return f"no heartbeat for {silent:.1f} s, although it computes"
        return None
