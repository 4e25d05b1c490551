"""What to do about the children, decided from what is seen of them; no I/O, no clock.

Rules of this file:

1. A child is started again when it ends unasked: at once the first time, then later and later.
2. Crashing again and again, or an exit code that says "never again", ends the service.
3. Connections are steered to workers that are ready, and have room where any has; while none is
   ready, they wait in every queue.
4. A child is replaced one at a time: the successor becomes ready, then the old one leaves. One
   that does not become ready is given up, and the old one stays.
5. A slot that is not needed any more gets no new connections first; its worker then leaves.
6. Who leaves has a deadline.
7. There are never more processes than `limit`: what is to be started waits until another has ended.
8. What was not seen because the supervisor itself was away is held against nobody.
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
    describe,
)
from energyws.control.policy.balance import Steering, surplus
from energyws.control.policy.heartbeat import Beat, Heartbeat
from energyws.control.policy.slots import CONSUMER, Slot, SlotProcess, worker_name
from energyws.errors import ExitCode
from energyws.process.board import ROWS, State
from energyws.process.control_messages import Leave, Shed, ShutdownMode
from energyws.settings import Settings

# A child that has run for so long without a crash starts with a clean record.
FORGET_SECONDS: Final = 60.0
BACKOFF_FIRST_SECONDS: Final = 0.25
# Steps come several times a second; a longer silence is the supervisor's own.
LATE_SECONDS: Final = 1.0
# On top of the drain and of one closing handshake.
DRAIN_MARGIN_SECONDS: Final = 5.0
# Each has a row of the board, and the supervisor has one.
MAX_PROCESSES: Final = ROWS - 1
# A successor has so long to become ready.
WARM_SECONDS: Final = 60.0
_FINAL_EXITS: Final = frozenset({ExitCode.CONFIG, ExitCode.BOOT})


class Fleet:
    """The children in the order of their start. Times are monotonic seconds.

    Numbers of processes are given out here, and never again.
    """

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
        # Whether something waits for another process to end.
        self._full = False
        self._seats = {CONSUMER: Slot(CONSUMER, None)}
        self._started = 0
        self._stepped_at: float | None = None
        # When children are told to leave, and when those that have not are killed.
        self._drain_at = self._drain_until = float("inf")
        self._steering = Steering()
        self._to_replace: list[str] = []
        # A seat, and the successor that is not ready yet.
        self._replacing: tuple[Slot, SlotProcess | None] | None = None
        self._orders: list[Send] = []
        self.scale(workers)

    @property
    def draining(self) -> bool:
        """Whether the service is on its way out."""
        return self._drain_at < float("inf")

    @property
    def workers(self) -> int:
        """How many workers there should be; for any thread."""
        return self._workers

    @property
    def drain_seconds(self) -> float:
        """How long all clients may take to leave, once they are sent on."""
        server = self.settings.server
        return server.drain_seconds + server.close_timeout_seconds + DRAIN_MARGIN_SECONDS

    @property
    def leave_seconds(self) -> float:
        """How long a child may take to leave that lets in whoever it has accepted."""
        return self.drain_seconds + 2 * self.settings.server.handshake_timeout_seconds

    def scale(self, workers: int) -> None:
        """Have so many workers; the highest slots are the ones that come and go."""
        self._workers = workers
        for slot in range(workers):
            name = worker_name(slot)
            seat = self._seats.setdefault(name, Slot(name, slot))
            seat.wanted = True
        for seat in self._seats.values():
            if seat.slot is not None and seat.slot >= workers:
                seat.wanted = False

    def replace(self, *, workers: bool = True, consumer: bool = True) -> None:
        """Replace these children by new processes, one at a time; the consumer first."""
        names = [CONSUMER] if consumer else []
        names += [name for name in self._seats if name != CONSUMER] if workers else []
        self._to_replace = [each for each in self._to_replace if each not in names] + names

    def rebalance(self, now: float) -> dict[str, int]:
        """Let workers that have more than their share shed clients; how many each.

        Nothing happens while those of the last time are still on their way.
        """
        if self._steering.shedding:
            return {}
        seats = self._serving()
        excess = surplus({seat.name: seat.current.connections for seat in seats if seat.current})
        chosen = [seat for seat in seats if seat.name in excess]
        for seat in chosen:
            if seat.current is not None:
                self._orders.append(Send(seat.current.number, Shed(excess[seat.name])))
        slots = [seat.slot for seat in chosen if seat.slot is not None]
        self._steering.shed(slots, now + self.leave_seconds)
        return excess

    def drain(self, now: float) -> None:
        """End in order: workers first, then the consumer that feeds them; kill what is left.

        For server.drain_delay_seconds all goes on as before: balancers are to see that this service
        is not ready before anybody is refused.
        """
        self._to_replace.clear()
        self._drain_at = now + self.settings.server.drain_delay_seconds
        self._drain_until = self._drain_at + self.drain_seconds

    def step(self, now: float, beats: Mapping[int, Beat], exits: Sequence[Exit]) -> list[Action]:
        """What is to be done now; every action is taken to be carried out."""
        self._forgive_own_absence(now)
        for _, process in self._processes():
            if (beat := beats.get(process.number)) is not None:
                process.state, process.connections = beat.state, beat.connections
                process.full = beat.full
        actions: list[Action] = []
        for exit_ in exits:
            actions += self._on_exit(exit_, now)
        if any(isinstance(action, Halt) for action in actions):
            return actions
        actions += self._overdue(now)
        if now >= self._drain_at:
            return actions + self._drain(now)
        # Before anybody is told to leave.
        actions += self._steer(now)
        was_full, self._full = self._full, False
        for seat in list(self._seats.values()):
            actions += self._tend(seat, now) if seat.wanted else self._retire(seat, now)
        actions += self._replace_next(now)
        if self._full and not was_full:
            actions.append(Crowded(self._limit))
        orders, self._orders = self._orders, []
        running = {process.number for _, process in self._processes()}
        actions += [order for order in orders if order.process in running]
        for seat in self._seats.values():
            for each in (seat.current, seat.successor):
                if each is not None and not each.killed and each.number in beats:
                    actions += self._look(each, beats[each.number], now)
        return actions

    def _processes(self) -> Iterator[tuple[Slot, SlotProcess]]:
        for seat in self._seats.values():
            for process in seat.members():
                yield seat, process

    def _forgive_own_absence(self, now: float) -> None:
        if self._stepped_at is not None and (late := now - self._stepped_at) > LATE_SECONDS:
            for _, process in self._processes():
                process.watch.forgive(late)
        self._stepped_at = now

    def _look(self, process: SlotProcess, beat: Beat, now: float) -> list[Action]:
        why = process.watch.look(beat, now, self.settings.supervision)
        if why is None:
            return []
        process.killed = True
        return [Kill(process.number, why, hung=True)]

    def _has_room(self) -> bool:
        if sum(1 for _ in self._processes()) < self._limit:
            return True
        self._full = True
        return False

    def _new(self, seat: Slot, now: float, *, successor: bool = False) -> tuple[SlotProcess, Start]:
        self._started += 1
        return (
            SlotProcess(self._started, Heartbeat(now)),
            Start(self._started, seat.name, seat.slot, successor),
        )

    # Steady state: one process in every seat.

    def _tend(self, seat: Slot, now: float) -> list[Action]:
        current = seat.current
        if current is not None and current.state is State.DRAINING:
            # Not ours: somebody has sent it a SIGTERM. It leaves, and has a successor at once.
            current.kill_at = now + self.leave_seconds
            seat.leaving.append(current)
            seat.current, seat.start_at = None, now
        if seat.current is None and seat.successor is not None:
            seat.current, seat.successor = seat.successor, None
        if seat.current is None:
            # The longest pause may be a shorter one by now.
            latest = seat.ended_at + self.settings.supervision.backoff_max_seconds
            if min(seat.start_at, latest) > now or not self._has_room():
                return []
            seat.current, start = self._new(seat, now)
            return [start]
        if not seat.current.ready:
            return []
        # The queue is its own from now on.
        return [
            action
            for each in seat.leaving
            if each.told is not ShutdownMode.HANDOVER
            for action in self._tell(each, ShutdownMode.HANDOVER, now)
        ]

    def _tell(self, process: SlotProcess, how: ShutdownMode, now: float) -> list[Action]:
        if process.told is None:
            process.kill_at = min(process.kill_at, now + self.leave_seconds)
        process.told = how
        return [Send(process.number, Leave(how))]

    def _overdue(self, now: float) -> list[Action]:
        overdue = [
            process
            for _, process in self._processes()
            if process.kill_at <= now and not process.killed
        ]
        for process in overdue:
            process.killed = True
        return [Kill(process.number, "did not drain in time") for process in overdue]

    def _on_exit(self, exit_: Exit, now: float) -> list[Action]:
        seat, process = next(
            found for found in self._processes() if found[1].number == exit_.process
        )
        if process is not seat.current:
            if process is seat.successor:
                seat.successor = None
            else:
                seat.leaving.remove(process)
            return []
        seat.current = None
        if now >= self._drain_at or process.told is not None:
            return []
        if exit_.status in _FINAL_EXITS:
            why = f"{seat.name} cannot start ({describe(exit_.status)}): see its log"
            return [Halt(ExitCode(exit_.status), why)]
        rules = self.settings.supervision
        window = max(FORGET_SECONDS, rules.crash_loop_seconds)
        seat.crashes = [at for at in seat.crashes if now - at < window] + [now]
        recent = [at for at in seat.crashes if now - at < rules.crash_loop_seconds]
        if len(recent) >= rules.crash_loop_count:
            why = (
                f"{seat.name} ended {len(recent)} times within "
                f"{rules.crash_loop_seconds:g} s, last {describe(exit_.status)}: see its log"
            )
            return [Halt(ExitCode.CRASH_LOOP, why)]
        seat.ended_at, seat.start_at = now, now + self._backoff(len(seat.crashes))
        return []

    def _backoff(self, crashes: int) -> float:
        if crashes <= 1:
            return 0.0
        bound = min(
            self.settings.supervision.backoff_max_seconds,
            BACKOFF_FIRST_SECONDS * 2.0 ** (crashes - 2),
        )
        # Never less than half: a crash must not be answered at once again.
        return bound * (1 + self._rng()) / 2

    # Where new connections go.

    def _serving(self) -> list[Slot]:
        return [
            seat
            for seat in self._seats.values()
            if seat.slot is not None and seat.wanted and seat.current and seat.current.ready
        ]

    def _steer(self, now: float) -> list[Action]:
        serving = {
            seat.slot: seat.current
            for seat in self._serving()
            if seat.slot is not None and seat.current is not None
        }
        loads = {slot: member.connections for slot, member in serving.items()}
        full = {slot for slot, member in serving.items() if member.full}
        wanted = [seat.slot for seat in self._seats.values() if seat.wanted]
        slots = self._steering.step(now, loads, [slot for slot in wanted if slot is not None], full)
        return [] if slots is None else [Steer(slots)]

    # Fewer workers.

    def _retire(self, seat: Slot, now: float) -> list[Action]:
        actions: list[Action] = []
        for process in (seat.current, seat.successor):
            if process is not None:
                seat.leaving.append(process)
                actions += self._tell(process, ShutdownMode.RETIRE, now)
        seat.current = seat.successor = None
        if not seat.leaving and seat.slot is not None:
            del self._seats[seat.name]
            actions.append(Release(seat.slot))
        return actions

    # Other processes for the same seats.

    def _replace_next(self, now: float) -> list[Action]:
        if self._replacing is not None:
            return self._go_on_replacing(*self._replacing, now)
        if not self._to_replace or not self._has_room():
            return []
        seat = self._seats.get(self._to_replace.pop(0))
        if seat is None or not seat.wanted or seat.current is None:
            # Whatever is started there next is a new one.
            return []
        if not seat.current.ready:
            # It serves nobody: there is nothing to hand over.
            old, seat.current, seat.start_at = seat.current, None, now
            seat.leaving.append(old)
            return self._tell(old, ShutdownMode.HANDOVER, now)
        seat.successor, start = self._new(seat, now, successor=True)
        seat.successor.warm_until = now + WARM_SECONDS
        self._replacing = seat, seat.successor
        return [start]

    def _go_on_replacing(self, seat: Slot, process: SlotProcess | None, now: float) -> list[Action]:
        """process: the successor; None once it has taken over."""
        if process is None:
            if not seat.leaving:
                self._replacing = None
            return []
        if process is seat.successor and not process.ready:
            if process.warm_until <= now and not process.killed:
                process.killed = True
                return [Kill(process.number, f"not ready within {WARM_SECONDS:g} s")]
            return []
        if process is seat.successor:
            old, seat.current, seat.successor = seat.current, process, None
            self._replacing = seat, None
            actions: list[Action] = [Replaced(seat.name)]
            if old is not None:
                seat.leaving.append(old)
                actions += self._tell(old, ShutdownMode.HANDOVER, now)
            return actions
        self._replacing = None
        if process is seat.current or not seat.wanted:
            # The old one has ended in between: there was nobody to take over from.
            return []
        # What one successor cannot do, the next cannot either.
        self._to_replace.clear()
        return [Replaced(seat.name, "its successor did not become ready: see its log")]

    # The end.

    def _drain(self, now: float) -> list[Action]:
        processes = list(self._processes())
        if not processes:
            return [Halt(ExitCode.OK, "drained")]
        if now >= self._drain_until:
            overdue = [process for _, process in processes if not process.killed]
            for process in overdue:
                process.killed = True
            return [Kill(process.number, "did not drain in time") for process in overdue]
        workers = [process for seat, process in processes if seat.slot is not None]
        # The consumer feeds the others until the last of them is gone.
        return [
            action
            for process in workers or [process for _, process in processes]
            if process.told is not ShutdownMode.STOP
            for action in self._tell(process, ShutdownMode.STOP, now)
        ]
