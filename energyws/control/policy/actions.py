"""The policy's input, and the actions that it asks of the supervisor."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from energyws.errors import ExitCode
from energyws.process.control_messages import Shed, ShutDown


@dataclass(frozen=True, slots=True)
class Exit:
    """A process has ended; status: as subprocess has it, an exit code or minus a signal."""

    process: int
    status: int


@dataclass(frozen=True, slots=True)
class Start:
    """Start a child; slot: the number of a worker's. A successor takes over when it is ready."""

    process: int
    name: str
    slot: int | None
    successor: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """Send a control message to this process."""

    process: int
    message: ShutDown | Shed


@dataclass(frozen=True, slots=True)
class Kill:
    """End this process at once. hung: it shows no life; otherwise it has missed a deadline."""

    process: int
    why: str
    hung: bool = False


@dataclass(frozen=True, slots=True)
class Steer:
    """Let new connections go to these slots only."""

    slots: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Release:
    """This slot is retired and its queue is empty: its socket can be closed."""

    slot: int


@dataclass(frozen=True, slots=True)
class Replaced:
    """The successor of a child has taken over or, for the reason `why`, was given up."""

    name: str
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Crowded:
    """`processes` run, as many as allowed: the next start waits until one of them has ended."""

    processes: int


@dataclass(frozen=True, slots=True)
class Halt:
    """End the service with this exit code, and every process that still runs with it."""

    code: ExitCode
    why: str


Action = Start | Send | Kill | Steer | Release | Replaced | Crowded | Halt


def describe(status: int, *, ours: bool = False) -> str:
    """An exit status in words. ours: we sent the signal that ended it."""
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
