"""The running child processes: started, looked at, given orders, ended and buried.

Children are started from the main thread only: the parent-death signal that ends them is bound to
the thread that started them (prctl(2)).
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import psutil

from energyws.control.children import stacks
from energyws.control.children.child import RunningChild
from energyws.control.children.listeners import Listeners
from energyws.control.children.mailbox import Mailbox
from energyws.control.children.spawn import ChildSpec, Spawner
from energyws.control.children.status import (
    Ended,
    Ending,
    PartitionStatus,
    ProcessStatus,
    Records,
    Usage,
    partitions_of,
    records_of,
    usage_of,
)
from energyws.control.policy.actions import Exit, Start, describe
from energyws.control.policy.heartbeat import Beat
from energyws.errors import ExitCode
from energyws.logs.events import Log
from energyws.process.board import COLUMNS, ROWS, Board, Field, Row, State
from energyws.process.control_messages import Adopt, ControlMessage, Write
from energyws.settings import Settings

KILL_SECONDS: Final = 5.0
# The last row of the board is the supervisor's own.
SUPERVISOR_ROW: Final = ROWS - 1

_log = Log("supervisor")


class ChildrenSeen(NamedTuple):
    """All children at one moment, and those that were; see Status."""

    processes: list[ProcessStatus]
    ended: dict[str, Ended]
    starts: dict[str, int]
    exits: dict[tuple[str, Ending], int]
    partitions: dict[tuple[str, int], PartitionStatus]
    records: dict[str, Records]


class Children:
    """By the fleet's numbers. `wake` is called when one has ended."""

    def __init__(
        self, spawner: Spawner, board: Board, listeners: Listeners, wake: Callable[[], None]
    ) -> None:
        self._spawner = spawner
        self._board = board
        self._listeners = listeners
        self._wake = wake
        self._running: dict[int, RunningChild] = {}
        self._starts: Counter[str] = Counter()
        # Those that have ended and are not buried yet; and what the fleet has not heard of.
        self._gone: list[int] = []
        self._exits: list[Exit] = []
        # By name and reason; and what those had counted that have ended, by name.
        self._ends: Counter[tuple[str, Ending]] = Counter()
        self._ended: dict[str, Ended] = {}
        # By stream: what became of the records of consumers that have ended.
        self._records: dict[str, Records] = {}
        # What an ended child has counted must be seen once, here or there.
        self._moving = threading.Lock()

    def __iter__(self) -> Iterator[RunningChild]:
        # A copy: the admin port's threads look, too.
        return iter(list(self._running.values()))

    def start(self, action: Start) -> None:
        """Start one; it is running, not ready, when this returns."""
        name, slot = action.name, action.slot
        taken = {child.spec.row for child in self} | {SUPERVISOR_ROW}
        # The fleet starts no more than there is room for.
        free = next(number for number in range(ROWS) if number not in taken)
        row = self._board.row(free)
        row.clear()
        self._starts[name] += 1
        try:
            listen_fd = None if slot is None else self._listeners.claim(slot)
            spec = ChildSpec(name, free, slot, listen_fd, action.successor)
            child = self._started(spec, row)
        except OSError as error:
            # No memory, no process, no descriptor to be had: as if it had crashed, it is tried
            # again later.
            _log.error("child cannot be started", child=name, reason=error.strerror)
            self._exits.append(Exit(action.process, ExitCode.FAILURE))
            return
        self._running[action.process] = child
        asyncio.get_running_loop().add_reader(child.pidfd, self._on_exit, action.process)
        _log.info("child started", child=name, pid=child.process.pid, restarts=child.starts - 1)

    def _started(self, spec: ChildSpec, row: Row) -> RunningChild:
        process, orders, stacks_fd = self._spawner.start(spec)
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError:
            # Its end would go unnoticed.
            process.kill()
            process.wait(KILL_SECONDS)
            orders.close()
            os.close(stacks_fd)
            raise
        return RunningChild(
            spec,
            process,
            Mailbox(spec.name, orders),
            stacks_fd,
            row,
            psutil.Process(process.pid),
            pidfd,
            self._starts[spec.name],
            sorted(self._spawner.settings.streams),
        )

    def tell(self, number: int, order: ControlMessage) -> bool:
        """Give an order to one that may have ended; False: it can never be delivered."""
        child = self._running.get(number)
        return child is None or child.orders.put(order)

    def look_after(self, now: float) -> None:
        """To be called often, with the monotonic time: what each of them needs by and by."""
        for child in self:
            child.look_after(now)

    def leave(self, number: int) -> None:
        """Its end is no surprise from now on."""
        if (child := self._running.get(number)) is not None:
            child.leaving = True

    def adopt(self, settings: Settings) -> bool:
        """Let all of them, and those to come, use these settings; False: not all can be told."""
        self._spawner.settings = settings
        told = [self.tell(number, Adopt(settings)) for number in list(self._running)]
        return all(told)

    def write_log(self, settings: Settings) -> None:
        """Let all of them, and those to come, write the log as these settings say."""
        self._spawner.settings = settings
        for number in list(self._running):
            self.tell(number, Write(settings.log))

    def kill(self, number: int, why: str, *, hung: bool) -> None:
        """End one, because it hangs or is overdue; one that hangs writes its stacks first."""
        child = self._running.get(number)
        if child is None:
            return
        _log.error("killing child", child=child.spec.name, pid=child.process.pid, reason=why)
        child.kill(time.monotonic(), hung=hung)

    def beats(self) -> dict[int, Beat]:
        """What they show of themselves."""
        beats = {}
        for number, child in self._running.items():
            try:
                usage = child.usage.cpu_times()
            except psutil.Error:
                # It has ended; its exit is on the way.
                continue
            row = child.row
            child.cpu_seconds = usage.user + usage.system
            beats[number] = Beat(
                State(row[Field.STATE]),
                row[Field.BEAT],
                child.cpu_seconds,
                row[Field.CONNECTIONS],
                bool(row[Field.FULL_SINCE_MS]),
            )
        return beats

    def sight(self) -> ChildrenSeen:
        """What is known of all of them; for any thread."""
        now = time.monotonic()
        with self._moving:
            processes: list[ProcessStatus] = []
            partitions: dict[tuple[str, int], PartitionStatus] = {}
            records = dict(self._records)
            for child in self:
                try:
                    usage = usage_of(child.usage)
                except psutil.Error:
                    # It has ended, and is not buried yet: what it has counted must not vanish.
                    usage = Usage(child.cpu_seconds, 0, 0, 0)
                child.cpu_seconds = max(child.cpu_seconds, usage.cpu_seconds)
                processes.append(
                    ProcessStatus(
                        child.spec.name,
                        child.spec.slot,
                        child.process.pid,
                        child.starts - 1,
                        now - child.started_at,
                        usage,
                        child.row.columns(),
                    )
                )
                if child.spec.slot is None:
                    # Of two consumers, the newer one's.
                    for each in partitions_of(child.row, child.streams):
                        partitions[each.stream, each.partition] = each
                    # At 0 from the start: a rate needs that.
                    _add(records, [(name, Records()) for name in child.streams])
                    _add(records, records_of(child.row, child.streams))
            return ChildrenSeen(
                processes,
                dict(self._ended),
                dict(self._starts),
                dict(self._ends),
                partitions,
                records,
            )

    def ended(self) -> list[Exit]:
        """Those that have ended since the last call, buried."""
        gone, self._gone = self._gone, []
        for number in gone:
            self._on_end(number)
        exits, self._exits = self._exits, []
        return exits

    def kill_all(self) -> None:
        """End all of them, and wait until they are gone."""
        for child in self:
            child.process.kill()
        for child in self:
            child.process.wait(KILL_SECONDS)
            child.close()
        self._running.clear()

    def reap_strangers(self, known: Sequence[int]) -> None:
        """As PID 1 of a container we inherit orphans; whoever is not ours is only buried.

        known: the processes of others here, who bury them themselves.
        """
        if os.getpid() != 1:
            return
        ours = {child.process.pid for child in self}.union(known)
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in ours:
                return
            os.waitpid(found.si_pid, 0)

    def _on_exit(self, number: int) -> None:
        # The loop that calls this only reports what fails in it: all else is done in a step.
        asyncio.get_running_loop().remove_reader(self._running[number].pidfd)
        self._gone.append(number)
        self._wake()

    def _on_end(self, number: int) -> None:
        child = self._running[number]
        status = child.process.wait()
        if told := stacks.read(child.stacks):
            _log.error(
                "where the child stood when it hung or crashed",
                child=child.spec.name,
                pid=child.process.pid,
                at=stacks.where(told),
                traceback=told,
            )
        child.close()
        self._bury(number, child, status)
        level = _log.info if child.leaving and status == 0 else _log.error
        level(
            "child ended",
            child=child.spec.name,
            pid=child.process.pid,
            status=describe(status, ours=child.end is not None),
        )
        self._exits.append(Exit(number, status))

    def _bury(self, number: int, child: RunningChild, status: int) -> None:
        """Keep what it has counted; its connections are gone, and count no longer."""
        name = child.spec.name
        why: Ending | None = child.end or ("told" if child.leaving and status == 0 else None)
        why = why or ("killed" if status < 0 else "failed")
        with self._moving:
            del self._running[number]
            known = self._ended.get(name, Ended(0.0, [0] * COLUMNS))
            columns = list(map(int.__add__, known.columns, child.row.columns()))
            self._ended[name] = Ended(known.cpu_seconds + child.cpu_seconds, columns)
            self._ends[name, why] += 1
            _add(self._records, records_of(child.row, child.streams))
            child.row.clear()


def _add(sums: dict[str, Records], counted: Iterable[tuple[str, Records]]) -> None:
    for stream, records in counted:
        sums[stream] = sums.get(stream, Records()) + records
