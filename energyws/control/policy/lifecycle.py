"""A child process's life as a table: in each stage, what each event makes of it.

`slot.current`, `slot.successor` and `slot.leaving` follow from the stage, and so do all questions
about a process (does it serve, was it killed, was it asked to leave). docs/architecture.md shows
the same table; a test holds the two together.
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

    EXIT = "exit"


CURRENT: Final = frozenset({Stage.STARTING, Stage.SERVING, Stage.QUITTING, Stage.KILLED})
SUCCESSOR: Final = frozenset({Stage.WARMING, Stage.WARM, Stage.WITHDRAWING, Stage.GIVEN_UP})
# A kill is final: such a process is told nothing and is not killed again.
CONDEMNED: Final = frozenset({Stage.KILLED, Stage.GIVEN_UP, Stage.OVERDUE})

ASKED_TO: Final = {
    ShutdownMode.RETIRE: Event.RETIRE,
    ShutdownMode.HANDOVER: Event.HAND_OVER,
    ShutdownMode.STOP: Event.STOP,
}

_ASKED: Final = {
    Event.RETIRE: Stage.RETIRING,
    Event.HAND_OVER: Stage.HANDING_OVER,
    Event.STOP: Stage.STOPPING,
}
_SEEN: Final = (Event.READY, Event.DRAINS)


def _stage(stage: Stage, moves: Mapping[Event, Stage]) -> dict[Event, Stage]:
    """The row of a process that runs: what the board shows changes nothing unless `moves` says so.

    A child may still show that it is ready when it has been asked to leave, and draining says
    nothing new of one that leaves.
    """
    return {**dict.fromkeys(_SEEN, stage), **moves, Event.EXIT: Stage.ENDED}


TABLE: Final[Mapping[Stage, Mapping[Event, Stage]]] = {
    stage: _stage(stage, moves)
    for stage, moves in {
        Stage.STARTING: {
            Event.READY: Stage.SERVING,
            Event.DRAINS: Stage.QUITTING,
            **_ASKED,
            Event.KILL: Stage.KILLED,
        },
        Stage.SERVING: {
            Event.DRAINS: Stage.QUITTING,
            **_ASKED,
            Event.KILL: Stage.KILLED,
        },
        # Somebody else has sent it a SIGTERM.
        Stage.QUITTING: {
            Event.SET_ASIDE: Stage.LEAVING,
            Event.RETIRE: Stage.RETIRING,
            Event.STOP: Stage.STOPPING,
            Event.KILL: Stage.KILLED,
        },
        Stage.KILLED: dict.fromkeys(_ASKED, Stage.OVERDUE),
        Stage.WARMING: {
            Event.READY: Stage.WARM,
            Event.DRAINS: Stage.WITHDRAWING,
            Event.PROMOTE: Stage.STARTING,
            Event.RETIRE: Stage.RETIRING,
            Event.STOP: Stage.STOPPING,
            Event.KILL: Stage.GIVEN_UP,
        },
        Stage.WARM: {
            Event.DRAINS: Stage.WITHDRAWING,
            Event.PROMOTE: Stage.SERVING,
            Event.RETIRE: Stage.RETIRING,
            Event.STOP: Stage.STOPPING,
            Event.KILL: Stage.GIVEN_UP,
        },
        Stage.WITHDRAWING: {
            Event.PROMOTE: Stage.QUITTING,
            Event.RETIRE: Stage.RETIRING,
            Event.STOP: Stage.STOPPING,
            Event.KILL: Stage.GIVEN_UP,
        },
        Stage.GIVEN_UP: {
            Event.PROMOTE: Stage.KILLED,
            Event.RETIRE: Stage.OVERDUE,
            Event.STOP: Stage.OVERDUE,
        },
        Stage.LEAVING: {
            Event.HAND_OVER: Stage.HANDING_OVER,
            Event.STOP: Stage.STOPPING,
            Event.KILL: Stage.OVERDUE,
        },
        Stage.RETIRING: {
            Event.HAND_OVER: Stage.HANDING_OVER,
            Event.STOP: Stage.STOPPING,
            Event.KILL: Stage.OVERDUE,
        },
        Stage.HANDING_OVER: {
            Event.STOP: Stage.STOPPING,
            Event.KILL: Stage.OVERDUE,
        },
        Stage.STOPPING: {Event.KILL: Stage.OVERDUE},
        Stage.OVERDUE: {},
    }.items()
} | {Stage.ENDED: {}}


def after(stage: Stage, event: Event) -> Stage:
    """The stage that follows. Raises ValueError for an event that cannot happen in this one."""
    try:
        return TABLE[stage][event]
    except KeyError:
        raise ValueError(f"a process that is {stage.value} cannot {event.value}") from None
