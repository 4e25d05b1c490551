"""Who sits where: a child by name, the process that does its work, and those beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from energyws.control.policy.heartbeat import Heartbeat
from energyws.process.board import State
from energyws.process.control_messages import ShutdownMode

CONSUMER: Final = "consumer"


def worker_name(slot: int) -> str:
    """The name of the child in a worker slot."""
    return f"worker-{slot}"


@dataclass(slots=True)
class SlotProcess:
    """One child process, as it was last seen. told: how it was told to leave; killed: by us.

    It is killed if it is not ready by `warm_until`, or not gone by `kill_at`, monotonic seconds.
    """

    number: int
    watch: Heartbeat
    state: State = State.EMPTY
    connections: int = 0
    full: bool = False
    warm_until: float = float("inf")
    kill_at: float = float("inf")
    told: ShutdownMode | None = None
    killed: bool = False

    @property
    def ready(self) -> bool:
        """Whether it does its work."""
        return self.state is State.READY and not self.killed


@dataclass(slots=True)
class Slot:
    """A child by name: the process that does its work, its successor, and those that leave.

    ended_at: when its last process crashed; start_at: when the next one is started.
    """

    name: str
    slot: int | None
    wanted: bool = True
    start_at: float = float("-inf")
    ended_at: float = float("-inf")
    crashes: list[float] = field(default_factory=list)
    current: SlotProcess | None = None
    successor: SlotProcess | None = None
    leaving: list[SlotProcess] = field(default_factory=list)

    def members(self) -> Iterator[SlotProcess]:
        """All its processes."""
        yield from (each for each in (self.current, self.successor) if each is not None)
        yield from self.leaving
