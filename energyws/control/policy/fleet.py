"""What to do about the children, decided from what is seen of them; no I/O, no clock.

Rules of this file:

1. A child that crashes is started again: at once the first time, then after longer and longer
   pauses (restarts.py).
2. A child that keeps crashing, or ends with an exit code that no restart can cure, ends the
   service.
3. New connections go to workers that are ready, and to those with room and without a stream that
   stands still if there are any; while no worker is ready, they wait in every queue (balance.py).
4. Children are replaced one at a time: the successor becomes ready, then the old one leaves. A
   successor that does not become ready is given up, and the old one stays.
5. A worker whose slot is no longer needed gets no new connections, and then leaves.
6. A child that leaves has a deadline.
7. There are never more than `limit` processes: a start waits until another process has ended.
8. Time in which the supervisor itself did not run does not count against a child.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from energyws.control.policy.actions import (
    Action,
    Crowded,
    Exit,
    Halt,
    Kill,
    Release,
    Replaced,
    Send,
    Start,
    Steer,
)
from energyws.control.policy.balance import Steering, surplus
from energyws.control.policy.heartbeat import Beat, Heartbeat
from energyws.control.policy.lifecycle import ASKED_TO, CURRENT, Event, Stage
from energyws.control.policy.restarts import Restarts
from energyws.control.policy.slots import CONSUMER, Slot, SlotProcess, worker_name
from energyws.errors import ExitCode
from energyws.process.board import ROWS
from energyws.process.control_messages import Shed, ShutDown, ShutdownMode
from energyws.settings import Settings

# Steps come several times a second; a longer silence is the supervisor's own.
LATE_SECONDS: Final = 1.0
# On top of the drain and of one closing handshake.
DRAIN_MARGIN_SECONDS: Final = 5.0
# Each has a row of the board, and so does the supervisor.
MAX_PROCESSES: Final = ROWS - 1
# For a successor to become ready.
WARM_SECONDS: Final = 60.0


class Fleet:
    """The children in the order of their start. Times are monotonic seconds."""

    def __init__(
        self,
        settings: Settings,
        workers: int,
        rng: Callable[[], float],
        limit: int = MAX_PROCESSES,
    ) -> None:
        self.settings = settings
        self._rng = rng
        self._limit = limit
        # Whether a start waits for another process to end.
        self._full = False
        self._slots = {CONSUMER: Slot(CONSUMER, None, Restarts(CONSUMER, rng))}
        self._started = 0
        self._stepped_at: float | None = None
        # When children are asked to leave, and when those that have not left are killed.
        self._drain_at = self._drain_until = float("inf")
        self._steering = Steering()
        self._to_replace: list[str] = []
        # A slot and its successor; None once that has taken over.
        self._replacing: tuple[Slot, SlotProcess | None] | None = None
        self._to_send: list[Send] = []
        self.scale(workers)

    @property
    def draining(self) -> bool:
        """Whether the service is shutting down."""
        return self._drain_at < float("inf")

    @property
    def workers(self) -> int:
        """How many workers there should be; for any thread."""
        return self._workers

    @property
    def drain_seconds(self) -> float:
        """The most that children may take to leave when the service stops."""
        server = self.settings.server
        return server.drain_seconds + server.close_timeout_seconds + DRAIN_MARGIN_SECONDS

    @property
    def leave_seconds(self) -> float:
        """The most that a child may take to leave that still serves the connections it accepted."""
        return self.drain_seconds + 2 * self.settings.server.handshake_timeout_seconds

    def scale(self, workers: int) -> None:
        """Have this many workers; the highest slots are the ones that come and go."""
        self._workers = workers
        for number in range(workers):
            name = worker_name(number)
            slot = self._slots.setdefault(name, Slot(name, number, Restarts(name, self._rng)))
            slot.wanted = True
        for slot in self._slots.values():
            if slot.number is not None and slot.number >= workers:
                slot.wanted = False

    def replace(self, *, workers: bool = True, consumer: bool = True) -> None:
        """Replace these children by new processes, one at a time; the consumer first."""
        names = [CONSUMER] if consumer else []
        names += [name for name in self._slots if name != CONSUMER] if workers else []
        wanted = dict.fromkeys(self._to_replace + names)
        self._to_replace = sorted(wanted, key=lambda name: name != CONSUMER)

    def rebalance(self, now: float) -> dict[str, int]:
        """Let workers that have more than their share shed clients; how many each, by name.

        Does nothing while workers still shed from the last time.
        """
        if self._steering.shedding:
            return {}
        serving = self._serving()
        excess = surplus({name: process.connections for _, name, process in serving})
        chosen = [each for each in serving if each[1] in excess]
        self._to_send += [Send(process.id, Shed(excess[name])) for _, name, process in chosen]
        self._steering.shed([number for number, *_ in chosen], now + self.leave_seconds)
        return excess

    def drain(self, now: float) -> None:
        """End in order: workers first, then the consumer that feeds them; kill what is left.

        For server.drain_delay_seconds everything runs as before, so that load balancers see that
        this service is not ready before it refuses a client.
        """
        self._to_replace.clear()
        self._drain_at = now + self.settings.server.drain_delay_seconds
        self._drain_until = self._drain_at + self.drain_seconds

    def step(self, now: float, beats: Mapping[int, Beat], exits: Sequence[Exit]) -> list[Action]:
        """What is to be done now; the policy counts on every action being carried out.

        beats and exits: of the processes that the fleet has started, by their ids.
        """
        self._forgive_own_absence(now)
        for _, process in self._processes():
            if (beat := beats.get(process.id)) is not None:
                process.see(beat)
        if halts := [halt for exit_ in exits if (halt := self._on_exit(exit_, now)) is not None]:
            return [*halts]
        actions = self._kill(
            [process for _, process in self._processes() if process.kill_at <= now]
        )
        if now >= self._drain_at:
            return actions + self._drain(now)
        # Before any worker is asked to leave.
        actions += self._steer(now)
        was_full, self._full = self._full, False
        for slot in list(self._slots.values()):
            actions += self._tend(slot, now) if slot.wanted else self._retire(slot, now)
        actions += self._replace_next(now)
        if self._full and not was_full:
            actions.append(Crowded(self._limit))
        to_send, self._to_send = self._to_send, []
        running = {process.id for _, process in self._processes()}
        actions += [send for send in to_send if send.process in running]
        for slot in self._slots.values():
            for each in (slot.current, slot.successor):
                if each is not None and not each.condemned and each.id in beats:
                    actions += self._look(each, beats[each.id], now)
        return actions

    def _processes(self) -> Iterator[tuple[Slot, SlotProcess]]:
        for slot in self._slots.values():
            for process in slot.processes:
                yield slot, process

    def _forgive_own_absence(self, now: float) -> None:
        if self._stepped_at is not None and (late := now - self._stepped_at) > LATE_SECONDS:
            for _, process in self._processes():
                process.heartbeat.forgive(late)
        self._stepped_at = now

    def _look(self, process: SlotProcess, beat: Beat, now: float) -> list[Action]:
        why = process.heartbeat.look(beat, now, self.settings.supervision)
        if why is None:
            return []
        process.on(Event.KILL)
        return [Kill(process.id, why, hung=True)]

    def _kill(self, overdue: Sequence[SlotProcess]) -> list[Action]:
        overdue = [process for process in overdue if not process.condemned]
        for process in overdue:
            process.on(Event.KILL)
        return [Kill(process.id, "did not drain in time") for process in overdue]

    def _ask_to_leave(self, process: SlotProcess, mode: ShutdownMode, now: float) -> list[Action]:
        process.on(ASKED_TO[mode])
        if process.kill_at == float("inf"):
            # Another mode later does not move the deadline.
            process.kill_at = now + self.leave_seconds
        return [Send(process.id, ShutDown(mode))]

    def _has_room(self) -> bool:
        if sum(1 for _ in self._processes()) < self._limit:
            return True
        self._full = True
        return False

    def _start(self, slot: Slot, now: float, stage: Stage) -> list[Action]:
        self._started += 1
        slot.processes.append(SlotProcess(self._started, stage, Heartbeat(now)))
        return [Start(self._started, slot.name, slot.number, stage is Stage.WARMING)]

    def _on_exit(self, exit_: Exit, now: float) -> Halt | None:
        slot, process = next(found for found in self._processes() if found[1].id == exit_.process)
        slot.processes.remove(process)
        crashed = process.stage in CURRENT and now < self._drain_at
        process.on(Event.EXIT)
        if not crashed:
            return None
        return slot.restarts.crashed(exit_.status, now, self.settings.supervision)

    # Steady state: one process in every slot.

    def _tend(self, slot: Slot, now: float) -> list[Action]:
        current = slot.current
        if current is not None and current.stage is Stage.QUITTING:
            current.on(Event.SET_ASIDE)
            current.kill_at = now + self.leave_seconds
            slot.restarts.skip_backoff(now)
            current = None
        if current is None and slot.successor is not None:
            current = slot.successor
            current.on(Event.PROMOTE)
        if current is None:
            if not slot.restarts.due(now, self.settings.supervision) or not self._has_room():
                return []
            return self._start(slot, now, Stage.STARTING)
        if slot.serving is None:
            return []
        # From now on the queue belongs to the process that serves.
        return [
            action
            for each in slot.leaving
            if each.stage in (Stage.LEAVING, Stage.RETIRING)
            for action in self._ask_to_leave(each, ShutdownMode.HANDOVER, now)
        ]

    # Where new connections go.

    def _serving(self) -> list[tuple[int, str, SlotProcess]]:
        return [
            (slot.number, slot.name, slot.serving)
            for slot in self._slots.values()
            if slot.number is not None and slot.wanted and slot.serving is not None
        ]

    def _steer(self, now: float) -> list[Action]:
        serving = self._serving()
        loads = {number: process.connections for number, _, process in serving}
        lesser = {number for number, _, each in serving if each.full or each.disputes}
        wanted = [n for s in self._slots.values() if s.wanted and (n := s.number) is not None]
        slots = self._steering.step(now, loads, wanted, lesser)
        return [] if slots is None else [Steer(slots)]

    # Fewer workers.

    def _retire(self, slot: Slot, now: float) -> list[Action]:
        actions = [
            action
            for process in (slot.current, slot.successor)
            if process is not None
            for action in self._ask_to_leave(process, ShutdownMode.RETIRE, now)
        ]
        if not slot.processes and slot.number is not None:
            del self._slots[slot.name]
            actions.append(Release(slot.number))
        return actions

    # Other processes for the same slots.

    def _replace_next(self, now: float) -> list[Action]:
        if self._replacing is not None:
            return self._go_on_replacing(*self._replacing, now)
        if not self._to_replace or not self._has_room():
            return []
        slot = self._slots.get(self._to_replace.pop(0))
        if slot is None or not slot.wanted or slot.current is None:
            return []  # The next process that starts there is a new one anyway.
        if slot.serving is None:
            # It serves no client: there is nothing to hand over.
            slot.restarts.skip_backoff(now)
            return self._ask_to_leave(slot.current, ShutdownMode.HANDOVER, now)
        actions = self._start(slot, now, Stage.WARMING)
        successor = slot.processes[-1]
        successor.warm_until = now + WARM_SECONDS
        self._replacing = slot, successor
        return actions

    def _go_on_replacing(
        self, slot: Slot, successor: SlotProcess | None, now: float
    ) -> list[Action]:
        if successor is None:
            if not slot.leaving:
                self._replacing = None
            return []
        if successor is slot.successor and successor.stage is not Stage.WARM:
            if successor.warm_until <= now and not successor.condemned:
                successor.on(Event.KILL)
                return [Kill(successor.id, f"not ready within {WARM_SECONDS:g} s")]
            return []
        if successor is slot.successor:
            old = slot.current
            self._replacing = slot, None
            actions: list[Action] = [Replaced(slot.name)]
            if old is not None:
                actions += self._ask_to_leave(old, ShutdownMode.HANDOVER, now)
            successor.on(Event.PROMOTE)
            return actions
        self._replacing = None
        if successor is slot.current or not slot.wanted:
            # The old one has ended meanwhile: there was nothing to take over.
            return []
        # What one successor cannot do, the next cannot either, unless it was asked for meanwhile.
        self._to_replace = self._to_replace if slot.name in self._to_replace else []
        return [Replaced(slot.name, "its successor did not become ready: see its log")]

    # The end.

    def _drain(self, now: float) -> list[Action]:
        processes = list(self._processes())
        if not processes:
            return [Halt(ExitCode.OK, "drained")]
        if now >= self._drain_until:
            return self._kill([process for _, process in processes])
        workers = [process for slot, process in processes if slot.number is not None]
        # The consumer feeds the others until the last of them is gone.
        return [
            action
            for process in workers or [process for _, process in processes]
            if process.stage not in (Stage.STOPPING, Stage.OVERDUE)
            for action in self._ask_to_leave(process, ShutdownMode.STOP, now)
        ]
