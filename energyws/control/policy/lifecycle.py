"""A child process's life as a table: in each stage, what each event makes of it.

A slot's current, successor and leaving processes follow from their stages. docs/architecture.md
shows the same table; a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from energyws.process.control_messages import ShutdownMode


class Stage(Enum):
    """Where a process is in its life, as the policy sees it."""

    # The process of its slot.
    STARTING = "starting"
    SERVING = "serving"
    QUITTING = "quitting"
    KILLED = "killed"
    # Started beside the process of the slot, to take its place.
    WARMING = "warming"
    WARM = "warm"
    WITHDRAWING = "withdrawing"
    GIVEN_UP = "given up"
    # Out of its place, with a deadline.
    LEAVING = "leaving"
    RETIRING = "retiring"
    HANDING_OVER = "handing over"
    STOPPING = "stopping"
    OVERDUE = "overdue"
    # Reaped.
    ENDED = "ended"


class Event(Enum):
    """What happens to a process."""

    # Seen on the board, at every step.
    READY = "ready"
    DRAINS = "drains"
    # Decided by the fleet.
    PROMOTE = "promote"
    SET_ASIDE = "set aside"
    RETIRE = "retire"
    HAND_OVER = "hand over"
    STOP = "stop"
    KILL = "kill"
    # Reported by the supervisor.
    EXIT = "exit"


CURRENT: Final = frozenset({Stage.STARTING, Stage.SERVING, Stage.QUITTING, Stage.KILLED})
SUCCESSOR: Final = frozenset({Stage.WARMING, Stage.WARM, Stage.WITHDRAWING, Stage.GIVEN_UP})
# A kill is final: these are not killed again.
CONDEMNED: Final = frozenset({Stage.KILLED, Stage.GIVEN_UP, Stage.OVERDUE})

ASKED_TO: Final = {
    ShutdownMode.RETIRE: Event.RETIRE,
    ShutdownMode.HANDOVER: Event.HAND_OVER,
    ShutdownMode.STOP: Event.STOP,
}

_RETIRE: Final = {Event.RETIRE: Stage.RETIRING}
_HAND_OVER: Final = {Event.HAND_OVER: Stage.HANDING_OVER}
_STOP: Final = {Event.STOP: Stage.STOPPING}
_KILL_CURRENT: Final = {Event.KILL: Stage.KILLED}
_KILL_SUCCESSOR: Final = {Event.KILL: Stage.GIVEN_UP}
_KILL_LEAVING: Final = {Event.KILL: Stage.OVERDUE}

_MOVES: Final[Mapping[Stage, Mapping[Event, Stage]]] = {
    Stage.STARTING: {
        Event.READY: Stage.SERVING,
        Event.DRAINS: Stage.QUITTING,
        **(_RETIRE | _HAND_OVER | _STOP | _KILL_CURRENT),
    },
    Stage.SERVING: {
        Event.DRAINS: Stage.QUITTING,
        **(_RETIRE | _HAND_OVER | _STOP | _KILL_CURRENT),
    },
    # A SIGTERM from elsewhere, or the like: the fleet has not asked it to leave.
    Stage.QUITTING: {Event.SET_ASIDE: Stage.LEAVING, **(_RETIRE | _STOP | _KILL_CURRENT)},
    Stage.KILLED: dict.fromkeys(ASKED_TO.values(), Stage.OVERDUE),
    Stage.WARMING: {
        Event.READY: Stage.WARM,
        Event.DRAINS: Stage.WITHDRAWING,
        Event.PROMOTE: Stage.STARTING,
        **(_RETIRE | _STOP | _KILL_SUCCESSOR),
    },
    Stage.WARM: {
        Event.DRAINS: Stage.WITHDRAWING,
        Event.PROMOTE: Stage.SERVING,
        **(_RETIRE | _STOP | _KILL_SUCCESSOR),
    },
    Stage.WITHDRAWING: {Event.PROMOTE: Stage.QUITTING, **(_RETIRE | _STOP | _KILL_SUCCESSOR)},
    Stage.GIVEN_UP: {
        Event.PROMOTE: Stage.KILLED,
        **dict.fromkeys((Event.RETIRE, Event.STOP), Stage.OVERDUE),
    },
    Stage.LEAVING: _HAND_OVER | _STOP | _KILL_LEAVING,
    Stage.RETIRING: _HAND_OVER | _STOP | _KILL_LEAVING,
    Stage.HANDING_OVER: _STOP | _KILL_LEAVING,
    Stage.STOPPING: _KILL_LEAVING,
    Stage.OVERDUE: {},
}
# What the board shows changes nothing unless a row says so: a child may still show that it is ready
# when it has been asked to leave.
TABLE: Final[Mapping[Stage, Mapping[Event, Stage]]] = {
    stage: {Event.READY: stage, Event.DRAINS: stage, Event.EXIT: Stage.ENDED, **moves}
    for stage, moves in _MOVES.items()
} | {Stage.ENDED: {}}


def after(stage: Stage, event: Event) -> Stage:
    """The next stage. Raises ValueError for an event that cannot happen in this one."""
    try:
        return TABLE[stage][event]
    except KeyError:
        raise ValueError(f"a process that is {stage.value} cannot {event.value}") from None
