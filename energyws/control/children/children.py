"""All running child processes: starts them, reads what they show, sends to them and reaps them.

Only the main thread starts children: the parent-death signal that ends them is bound to the thread
that started them (prctl(2)).
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
from energyws.control.children.spawn import ChildSpec, Spawner, for_children
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
from energyws.process.control_messages import Shed, ShutDown, UseLog, UseSettings, UseTicketKeys
from energyws.process.ticket_keys import TicketKeys
from energyws.settings import Settings

KILL_SECONDS: Final = 5.0
# The last row of the board is the supervisor's own.
SUPERVISOR_ROW: Final = ROWS - 1

_log = Log("supervisor")


class ChildrenSeen(NamedTuple):
    """All children at one moment, and the sums of those that have ended; see Status."""

    processes: list[ProcessStatus]
    ended: dict[str, Ended]
    starts: dict[str, int]
    exits: dict[tuple[str, Ending], int]
    partitions: list[PartitionStatus]
    records: dict[str, Records]


class Children:
    """The children by their ids in the fleet. wake: called when one has ended."""

    def __init__(
        self, spawner: Spawner, board: Board, listeners: Listeners, wake: Callable[[], None]
    ) -> None:
        self._spawner = spawner
        self._board = board
        self._listeners = listeners
        self._wake = wake
        self._running: dict[int, RunningChild] = {}
        self._starts: Counter[str] = Counter()
        # Ended but not reaped yet; and reaped, but not reported to the fleet yet.
        self._to_reap: list[int] = []
        self._exits: list[Exit] = []
        # Of children that have ended: the ends by name and reason, the sums by name, and the
        # records by stream.
        self._ends: Counter[tuple[str, Ending]] = Counter()
        self._ended: dict[str, Ended] = {}
        self._records: dict[str, Records] = {}
        self._ticket_keys = TicketKeys(time.monotonic())
        # Held while a child's counts move from its row into the sums: they must be seen only once.
        self._moving = threading.Lock()

    def __iter__(self) -> Iterator[RunningChild]:
        # A copy: the admin port's threads iterate as well.
        return iter(list(self._running.values()))

    def start(self, action: Start) -> None:
        """Start a child; it is running, not ready, when this returns."""
        name, slot = action.name, action.slot
        taken = {child.spec.row for child in self} | {SUPERVISOR_ROW}
        # There is one: the fleet has a limit.
        free = next(index for index in range(ROWS) if index not in taken)
        row = self._board.open_row(free)
        self._starts[name] += 1
        try:
            listen_fd = None if slot is None else self._listeners.claim(slot)
            spec = ChildSpec(name, free, slot, listen_fd, action.successor)
            child = self._started(spec, row)
        except OSError as error:
            # Out of memory, processes or descriptors: it counts as a crash and is tried again.
            _log.error("child cannot be started", child=name, reason=error.strerror)
            self._exits.append(Exit(action.process, ExitCode.FAILURE))
            return
        self._running[action.process] = child
        self._send_ticket_keys(child)
        asyncio.get_running_loop().add_reader(child.pidfd, self._on_exit, action.process)
        _log.info("child started", child=name, pid=child.process.pid, restarts=child.starts - 1)

    def _started(self, spec: ChildSpec, row: Row) -> RunningChild:
        process, control, stacks_fd = self._spawner.start(spec)
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError:
            # Without it we would not notice the child's end.
            process.kill()
            process.wait(KILL_SECONDS)
            control.close()
            os.close(stacks_fd)
            raise
        return RunningChild(
            spec,
            process,
            Mailbox(spec.name, control),
            stacks_fd,
            row,
            psutil.Process(process.pid),
            pidfd,
            self._starts[spec.name],
            sorted(self._spawner.settings.streams),
        )

    def look_after(self, now: float) -> None:
        """Send the messages that wait, end hung children, renew keys. To be called often.

        now: monotonic seconds.
        """
        for child in self:
            child.look_after(now)
        if self._ticket_keys.renew(now):
            for child in self:
                self._send_ticket_keys(child)

    def _send_ticket_keys(self, child: RunningChild) -> None:
        if child.spec.slot is not None:
            # Also to a worker without TLS: a reload may turn it on.
            child.mailbox.put(UseTicketKeys(self._ticket_keys.current.hex()))

    def send(self, id_: int, message: ShutDown | Shed) -> None:
        """Send a control message to a child, unless it has ended."""
        if (child := self._running.get(id_)) is not None:
            child.leaving = child.leaving or isinstance(message, ShutDown)
            child.mailbox.put(message)

    def use_settings(self, settings: Settings) -> bool:
        """Let all children, also later ones, use these settings.

        False: they are too large for a control message.
        """
        self._spawner.settings = settings
        sent = [child.mailbox.put(UseSettings(for_children(settings))) for child in self]
        return all(sent)

    def use_log(self, settings: Settings) -> None:
        """Let all children, also later ones, write the log as these settings say."""
        self._spawner.settings = settings
        for child in self:
            child.mailbox.put(UseLog(settings.log))

    def kill(self, id_: int, why: str, *, hung: bool) -> None:
        """End a child because it hangs or is overdue; a hung child writes its stacks first."""
        child = self._running.get(id_)
        if child is None:
            return
        _log.error("killing child", child=child.spec.name, pid=child.process.pid, reason=why)
        child.kill(time.monotonic(), hung=hung)

    def beats(self) -> dict[int, Beat]:
        """What the running children show, by id."""
        beats = {}
        for id_, child in self._running.items():
            try:
                usage = child.usage.cpu_times()
            except psutil.Error:
                # It has ended, and its exit is reported soon.
                continue
            row = child.row
            child.cpu_seconds = usage.user + usage.system
            beats[id_] = Beat(
                State(row[Field.STATE]),
                row[Field.BEAT],
                child.cpu_seconds,
                row[Field.CONNECTIONS],
                bool(row[Field.FULL_SINCE_MS]),
                bool(row[Field.DISPUTED]),
            )
        return beats

    def seen(self) -> ChildrenSeen:
        """The state of all children; for any thread."""
        now = time.monotonic()
        with self._moving:
            processes: list[ProcessStatus] = []
            partitions: dict[tuple[str, int], PartitionStatus] = {}
            records = dict(self._records)
            for child in self:
                try:
                    usage = usage_of(child.usage)
                except psutil.Error:
                    # It has ended and is not reaped yet: its counts must not disappear.
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
                    # Of two consumers, that of the newer one.
                    for each in partitions_of(child.row, child.streams):
                        partitions[each.stream, each.partition] = each
                    # At 0 from the start, which a rate() needs.
                    _add(records, [(name, Records()) for name in child.streams])
                    _add(records, records_of(child.row, child.streams))
            return ChildrenSeen(
                processes,
                dict(self._ended),
                dict(self._starts),
                dict(self._ends),
                list(partitions.values()),
                records,
            )

    def ended(self) -> list[Exit]:
        """Reap the children that have ended since the last call, and report them."""
        to_reap, self._to_reap = self._to_reap, []
        for id_ in to_reap:
            self._reap(id_)
        exits, self._exits = self._exits, []
        return exits

    def kill_all(self) -> None:
        """End all children at once, and wait until they have ended."""
        for child in self:
            child.process.kill()
        for child in self:
            child.process.wait(KILL_SECONDS)
            child.close()
        self._running.clear()

    def reap_orphans(self, known: Sequence[int]) -> None:
        """As PID 1 of a container, reap the orphans that this process inherits.

        known: processes of this one that other code here reaps.
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

    def _on_exit(self, id_: int) -> None:
        # An exception in here would only be logged by the loop: a step does everything else.
        asyncio.get_running_loop().remove_reader(self._running[id_].pidfd)
        self._to_reap.append(id_)
        self._wake()

    def _reap(self, id_: int) -> None:
        child = self._running[id_]
        status = child.process.wait()
        if traceback := stacks.read(child.stacks):
            _log.error(
                "where the child stood when it hung or crashed",
                child=child.spec.name,
                pid=child.process.pid,
                at=stacks.where(traceback),
                traceback=traceback,
            )
        child.close()
        self._keep_counts(id_, child, status)
        level = _log.info if child.leaving and status == 0 else _log.error
        level(
            "child ended",
            child=child.spec.name,
            pid=child.process.pid,
            status=describe(status, ours=child.end is not None),
        )
        self._exits.append(Exit(id_, status))

    def _keep_counts(self, id_: int, child: RunningChild, status: int) -> None:
        name = child.spec.name
        why: Ending | None = child.end or ("told" if child.leaving and status == 0 else None)
        why = why or ("killed" if status < 0 else "failed")
        with self._moving:
            del self._running[id_]
            known = self._ended.get(name, Ended(0.0, [0] * COLUMNS))
            columns = list(map(int.__add__, known.columns, child.row.columns()))
            self._ended[name] = Ended(known.cpu_seconds + child.cpu_seconds, columns)
            self._ends[name, why] += 1
            _add(self._records, records_of(child.row, child.streams))
            self._board.clear(child.spec.row)


def _add(sums: dict[str, Records], counted: Iterable[tuple[str, Records]]) -> None:
    for stream, records in counted:
        sums[stream] = sums.get(stream, Records()) + records
