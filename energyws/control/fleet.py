"""What to do about the children, decided from what is seen of them; no I/O, no clock.

Rules of this file:

1. A child is started again when it ends unasked: at once the first time, then later and later.
2. Crashing again and again, or an exit code that says "never again", ends the service.
3. A child counts as hung when its heartbeat stands still and so does its CPU time; one that
   computes but does not beat is starved or stuck, and gets much longer.
4. What was not seen because the supervisor itself was away is held against nobody.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from energyws.board import State
from energyws.errors import ExitCode
from energyws.settings import Supervision

# A child that has run for so long without a crash starts with a clean record.
FORGET_SECONDS: Final = 60.0
BACKOFF_FIRST_SECONDS: Final = 0.25
# Steps come several times a second; a longer silence is the supervisor's own.
LATE_SECONDS: Final = 1.0
_FINAL_EXITS: Final = frozenset({ExitCode.CONFIG, ExitCode.BOOT})


@dataclass(frozen=True, slots=True)
class Beat:
    """What a running child shows: its state, its heartbeat counter, CPU seconds it has used."""

    state: State
    beat: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Exit:
    """A child has ended; status as subprocess has it: an exit code, or minus a signal."""

    name: str
    status: int


@dataclass(frozen=True, slots=True)
class Start:
    """Start this child."""

    name: str


@dataclass(frozen=True, slots=True)
class Terminate:
    """Ask this child to drain and end."""

    name: str


@dataclass(frozen=True, slots=True)
class Kill:
    """End this child at once."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Halt:
    """End the service with this exit code, and whatever still runs with it."""

    code: ExitCode
    why: str


Action = Start | Terminate | Kill | Halt


class Phase(Enum):
    """WAITING → RUNNING → (LEAVING →) GONE, or from RUNNING back to WAITING after a crash."""

    WAITING = "waiting"
    RUNNING = "running"
    LEAVING = "leaving"
    GONE = "gone"


@dataclass(slots=True)
class _Member:
    name: str
    phase: Phase = Phase.WAITING
    start_at: float = float("-inf")
    beat: int = -1
    beat_at: float = 0.0
    cpu_seconds: float = 0.0
    cpu_at: float = 0.0
    crashes: list[float] = field(default_factory=list)
    killed: bool = False


class Fleet:
    """The children by name, in the order of their start. Times are monotonic seconds."""

    def __init__(
        self, settings: Supervision, names: Sequence[str], rng: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._rng = rng
        self._members = {name: _Member(name) for name in names}
        self._stepped_at: float | None = None
        self._drain_until: float | None = None

    @property
    def draining(self) -> bool:
        """Whether the service is on its way out."""
        return self._drain_until is not None

    def phase(self, name: str) -> Phase:
        """Where a child is in its life."""
        return self._members[name].phase

    def drain(self, until: float) -> None:
        """End in order: workers first, then the consumer that feeds them; kill what is left."""
        self._drain_until = until

    def step(self, now: float, beats: Mapping[str, Beat], exits: Sequence[Exit]) -> list[Action]:
        """What is to be done now; every action is taken to be carried out."""
        self._forgive_own_absence(now)
        actions: list[Action] = []
        for exit_ in exits:
            actions += self._on_exit(exit_, now)
        if self._drain_until is not None:
            return actions + self._drain(now, self._drain_until)
        for member in self._members.values():
            if member.phase is Phase.WAITING and member.start_at <= now:
                member.phase = Phase.RUNNING
                member.killed = False
                member.beat, member.beat_at, member.cpu_at = -1, now, now
                actions.append(Start(member.name))
            elif member.phase is Phase.RUNNING and member.name in beats:
                actions += self._watch(member, beats[member.name], now)
        return actions

    def _forgive_own_absence(self, now: float) -> None:
        if self._stepped_at is not None and (late := now - self._stepped_at) > LATE_SECONDS:
            for member in self._members.values():
                member.beat_at += late
                member.cpu_at += late
        self._stepped_at = now

    def _watch(self, member: _Member, beat: Beat, now: float) -> list[Action]:
        if beat.beat != member.beat:
            member.beat, member.beat_at = beat.beat, now
        if beat.cpu_seconds != member.cpu_seconds:
            member.cpu_seconds, member.cpu_at = beat.cpu_seconds, now
        silent = now - member.beat_at
        idle = now - member.cpu_at
        if member.killed:
            return []
        if min(silent, idle) >= self._settings.hang_seconds:
            why = f"no heartbeat and no CPU time for {silent:.1f} s"
        elif silent >= self._settings.starved_seconds:
            why = f"no heartbeat for {silent:.1f} s, although it computes"
        else:
            return []
        member.killed = True
        return [Kill(member.name, why)]

    def _on_exit(self, exit_: Exit, now: float) -> list[Action]:
        member = self._members[exit_.name]
        if self._drain_until is not None or member.phase is Phase.LEAVING:
            member.phase = Phase.GONE
            return []
        if exit_.status in _FINAL_EXITS:
            member.phase = Phase.GONE
            why = f"{member.name} cannot start ({describe(exit_.status)}): see its log"
            return [Halt(ExitCode(exit_.status), why)]
        settings = self._settings
        window = max(FORGET_SECONDS, settings.crash_loop_seconds)
        member.crashes = [at for at in member.crashes if now - at < window] + [now]
        recent = [at for at in member.crashes if now - at < settings.crash_loop_seconds]
        if len(recent) >= settings.crash_loop_count:
            member.phase = Phase.GONE
            why = (
                f"{member.name} ended {len(recent)} times within "
                f"{settings.crash_loop_seconds:g} s, last {describe(exit_.status)}: see its log"
            )
            return [Halt(ExitCode.CRASH_LOOP, why)]
        member.phase = Phase.WAITING
        member.start_at = now + self._backoff(len(member.crashes))
        return []

    def _backoff(self, crashes: int) -> float:
        if crashes <= 1:
            return 0.0
        bound = min(
            self._settings.backoff_max_seconds, BACKOFF_FIRST_SECONDS * 2.0 ** (crashes - 2)
        )
        # Never less than half: a crash must not be answered at once again.
        return bound * (1 + self._rng()) / 2

    def _drain(self, now: float, until: float) -> list[Action]:
        for member in self._members.values():
            if member.phase is Phase.WAITING:
                member.phase = Phase.GONE
        remaining = [m for m in self._members.values() if m.phase is not Phase.GONE]
        if not remaining:
            return [Halt(ExitCode.OK, "drained")]
        if now >= until:
            overdue = [member for member in remaining if not member.killed]
            for member in overdue:
                member.killed = True
            return [Kill(member.name, "did not drain in time") for member in overdue]
        workers = [member for member in remaining if member.name != CONSUMER]
        # The consumer feeds the others until the last of them is gone.
        leaving = [m for m in workers or remaining if m.phase is Phase.RUNNING]
        for member in leaving:
            member.phase = Phase.LEAVING
        return [Terminate(member.name) for member in leaving]


CONSUMER: Final = "consumer"


def describe(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        try:
            return f"with exit code {status} ({ExitCode(status).name.lower()})"
        except ValueError:
            return f"with exit code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (out of memory?)" if -status == signal.SIGKILL else ""
    return f"killed by {name}{hint}"
