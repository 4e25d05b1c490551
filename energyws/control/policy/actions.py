"""What the fleet's policy sees and what it wants done: values between deciding and doing."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from energyws.errors import ExitCode
from energyws.process.control_messages import Leave, Shed


@dataclass(frozen=True, slots=True)
class Exit:
    """A process has ended; status as subprocess has it: an exit code, or minus a signal."""

    process: int
    status: int


@dataclass(frozen=True, slots=True)
class Start:
    """Start this child; slot is a worker's. A successor takes over when it is ready."""

    process: int
    name: str
    slot: int | None
    successor: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """Give an order to this process."""

    process: int
    order: Leave | Shed


@dataclass(frozen=True, slots=True)
class Kill:
    """End this process at once. hung: it shows no life; else it has missed a deadline."""

    process: int
    why: str
    hung: bool = False


@dataclass(frozen=True, slots=True)
class Steer:
    """Let new connections go to these slots only."""

    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """This slot's worker is gone for good, its queue is empty: its socket can be closed."""

    slot: int


@dataclass(frozen=True, slots=True)
class Replaced:
    """The successor of a child is ready, or (why) was given up."""

    name: str
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Crowded:
    """`processes` run, the most there may be: the next start waits until one of them has ended."""

    processes: int


@dataclass(frozen=True, slots=True)
class Halt:
    """End the service with this exit code, and whatever still runs with it."""

    code: ExitCode
    why: str


Action = Start | Send | Kill | Steer | Release | Replaced | Crowded | Halt


def describe(status: int, *, ours: bool = False) -> str:
    """An exit status in words. ours: the signal that ended it was sent by us."""
    if status >= 0:
        try:
            return f"with exit code {status} ({ExitCode(status).name.lower()})"
        except ValueError:
            return f"with exit code {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (out of memory?)" if -status == signal.SIGKILL and not ours else ""
    return f"killed by {name}{hint}"
