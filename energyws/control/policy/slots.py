"""Slots, the fleet's places for children (consumer, worker-0 ...), and the processes in each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from energyws.control.policy.heartbeat import Beat, Heartbeat
from energyws.control.policy.lifecycle import CONDEMNED, CURRENT, SUCCESSOR, Event, Stage, after
from energyws.control.policy.restarts import Restarts
from energyws.process.board import State

CONSUMER: Final = "consumer"
_SEEN: Final = {State.READY: Event.READY, State.DRAINING: Event.DRAINS}


def worker_name(number: int) -> str:
    """The name of the slot, and of its children, that has the worker of this number."""
    return f"worker-{number}"


@dataclass(slots=True)
class SlotProcess:
    """One child process as last seen; id: the fleet's, never used twice.

    It is killed if it is not ready by `warm_until`, or not gone by `kill_at`, monotonic seconds.
    """

    id: int
    stage: Stage
    heartbeat: Heartbeat
    connections: int = 0
    full: bool = False
    disputes: bool = False
    warm_until: float = float("inf")
    kill_at: float = float("inf")

    def on(self, event: Event) -> None:
        """Move on to the next stage; raises ValueError if this one does not allow the event."""
        self.stage = after(self.stage, event)

    def see(self, beat: Beat) -> None:
        """Take over what the process shows of itself."""
        self.connections, self.full, self.disputes = beat.connections, beat.full, beat.disputes
        if (event := _SEEN.get(beat.state)) is not None:
            self.on(event)

    @property
    def condemned(self) -> bool:
        """Whether it has been killed and has not ended yet."""
        return self.stage in CONDEMNED


@dataclass(slots=True)
class Slot:
    """number: a worker's; the consumer's slot has none. wanted: False while it is being retired."""

    name: str
    number: int | None
    restarts: Restarts
    wanted: bool = True
    processes: list[SlotProcess] = field(default_factory=list)

    @property
    def current(self) -> SlotProcess | None:
        """The process that does the slot's work, or will when it is ready."""
        return next((each for each in self.processes if each.stage in CURRENT), None)

    @property
    def serving(self) -> SlotProcess | None:
        """The current process, if it is ready."""
        return next((each for each in self.processes if each.stage is Stage.SERVING), None)

    @property
    def successor(self) -> SlotProcess | None:
        """The process that is to take the current one's place."""
        return next((each for each in self.processes if each.stage in SUCCESSOR), None)

    @property
    def leaving(self) -> list[SlotProcess]:
        """Its former processes that have not ended yet, in the order of their start."""
        return [each for each in self.processes if each.stage not in CURRENT | SUCCESSOR]
