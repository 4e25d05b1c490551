"""Carries out what the fleet's policy decides: sockets, exec, signals, reaping.

A signal handler only notes what came; the loop acts. Runs on asyncio for its timers and
descriptors, and starts children from the main thread only: the parent-death signal that ends them
is bound to the thread that started them (prctl(2)).
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psutil

from energyws.board import ROWS, Board, Field, Row, State
from energyws.control.admin import AdminServer
from energyws.control.cores import usable_cores
from energyws.control.fleet import (
    CONSUMER,
    Action,
    Beat,
    Exit,
    Fleet,
    Halt,
    Kill,
    Start,
    Terminate,
    describe,
)
from energyws.control.rundir import RunDirectory
from energyws.control.sockets import open_listeners, queue_limit
from energyws.control.spawn import ChildSpec, Command, Spawner, module_command
from energyws.errors import BootError, ExitCode
from energyws.log import Log
from energyws.settings import Settings

STEP_SECONDS: Final = 0.25
# On top of the drain and of one closing handshake.
DRAIN_MARGIN_SECONDS: Final = 5.0
KILL_SECONDS: Final = 5.0
LIVE_SECONDS: Final = 30.0
# Per process: what is no client connection.
_OTHER_DESCRIPTORS: Final = 64

_log = Log("supervisor")


@dataclass(slots=True)
class _Child:
    """A running child process."""

    spec: ChildSpec
    process: subprocess.Popen[bytes]
    row: Row
    usage: psutil.Process
    pidfd: int
    started_at: float = field(default_factory=time.monotonic)
    ready: bool = False


class Supervisor:
    """One service. `command` says what a child runs; tests have simpler children."""

    def __init__(self, settings: Settings, command: Command = module_command) -> None:
        self._settings = settings
        self._command = command
        workers = settings.server.workers
        self._count = usable_cores() if workers == "auto" else workers
        names = [CONSUMER, *(f"worker-{slot}" for slot in range(self._count))]
        self._fleet = Fleet(settings.supervision, names, random.random)
        self._slots = {name: slot for slot, name in enumerate(names[1:])}
        self._children: dict[str, _Child] = {}
        self._starts = dict.fromkeys(names, 0)
        self._exits: list[Exit] = []
        self._stepped_at = time.monotonic()
        self._wake = asyncio.Event()
        self._halt: Halt | None = None

    async def run(self) -> int:
        """Until the service ends; its exit code. Raises BootError before the first child runs."""
        settings = self._settings
        _raise_descriptor_limit(settings.server.max_connections, self._count)
        _warn_of_short_queue(settings.server.backlog)
        self._listeners = open_listeners(settings.server, self._count)
        admin = AdminServer(
            settings.admin,
            {"/live": self._live, "/ready": self._ready, "/workers": self._workers},
        )
        directory = RunDirectory()
        self._board = Board.create()
        self._spawner = Spawner(settings, self._board.descriptor, directory.path, self._command)
        self._announce(admin.port)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_stop, number)
        loop.add_signal_handler(signal.SIGQUIT, self._on_quit)
        try:
            while self._halt is None:
                self._step()
                self._wake.clear()
                try:
                    await asyncio.wait_for(self._wake.wait(), STEP_SECONDS)
                except TimeoutError:
                    continue
        finally:
            self._kill_all()
            admin.close()
            self._spawner.close()
            for listener in self._listeners:
                listener.close()
            directory.close()
        level = _log.info if self._halt.code is ExitCode.OK else _log.error
        level("stopped", exit_code=int(self._halt.code), reason=self._halt.why)
        return self._halt.code

    def _announce(self, admin_port: int) -> None:
        server = self._settings.server
        _log.info(
            "listening",
            scheme="ws" if server.tls is None else "wss",
            host=server.host,
            port=self._listeners[0].getsockname()[1],
            workers=self._count,
        )
        _log.info("admin listening", host=self._settings.admin.host, port=admin_port)

    def _on_stop(self, number: signal.Signals) -> None:
        if self._fleet.draining:
            self._on_quit()
            return
        server = self._settings.server
        seconds = server.drain_seconds + server.close_timeout_seconds + DRAIN_MARGIN_SECONDS
        _log.info("draining", signal=number.name, seconds=server.drain_seconds)
        self._fleet.drain(time.monotonic() + seconds)
        self._wake.set()

    def _on_quit(self) -> None:
        self._halt = Halt(ExitCode.OK, "told to stop at once")
        self._wake.set()

    def _step(self) -> None:
        self._reap_strangers()
        self._stepped_at = time.monotonic()
        exits, self._exits = self._exits, []
        for action in self._fleet.step(self._stepped_at, self._beats(), exits):
            self._carry_out(action)

    def _beats(self) -> dict[str, Beat]:
        beats = {}
        for name, child in self._children.items():
            try:
                usage = child.usage.cpu_times()
            except psutil.Error:
                # It has ended; its exit is on the way.
                continue
            state = State(child.row[Field.STATE])
            beats[name] = Beat(state, child.row[Field.BEAT], usage.user + usage.system)
        return beats

    def _carry_out(self, action: Action) -> None:
        match action:
            case Start(name):
                self._start(name)
            case Terminate(name):
                self._children[name].process.terminate()
            case Kill(name, why):
                _log.error("killing child", child=name, reason=why)
                self._children[name].process.kill()
            case Halt():
                self._halt = action

    def _start(self, name: str) -> None:
        slot = self._slots.get(name)
        listen_fd = None if slot is None else self._listeners[slot].fileno()
        taken = {child.spec.row for child in self._children.values()}
        spec = ChildSpec(
            name, next(row for row in range(ROWS) if row not in taken), slot, listen_fd
        )
        row = self._board.row(spec.row)
        row.clear()
        process = self._spawner.start(spec)
        child = _Child(spec, process, row, psutil.Process(process.pid), os.pidfd_open(process.pid))
        self._children[name] = child
        self._starts[name] += 1
        asyncio.get_running_loop().add_reader(child.pidfd, self._on_exit, name)
        _log.info("child started", child=name, pid=process.pid, restarts=self._starts[name] - 1)

    def _on_exit(self, name: str) -> None:
        child = self._children.pop(name)
        asyncio.get_running_loop().remove_reader(child.pidfd)
        os.close(child.pidfd)
        status = child.process.wait()
        # Its connections are gone, and count no longer.
        child.row.clear()
        level = _log.info if self._fleet.draining and status == 0 else _log.error
        level("child ended", child=name, pid=child.process.pid, status=describe(status))
        self._exits.append(Exit(name, status))
        self._wake.set()

    def _kill_all(self) -> None:
        for child in self._children.values():
            child.process.kill()
        for child in self._children.values():
            child.process.wait(KILL_SECONDS)
            os.close(child.pidfd)
        self._children.clear()

    def _reap_strangers(self) -> None:
        """As PID 1 of a container we inherit orphans; whoever is not ours is only buried."""
        if os.getpid() != 1:
            return
        ours = {child.process.pid for child in self._children.values()}
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid in ours:
                return
            os.waitpid(found.si_pid, 0)

    # The admin port's threads call these: they only read.

    def _live(self) -> tuple[int, Any]:
        silent = time.monotonic() - self._stepped_at
        alive = silent < LIVE_SECONDS
        return (200 if alive else 503), {"live": alive, "silent_seconds": round(silent, 1)}

    def _ready(self) -> tuple[int, Any]:
        reasons = self._unready(list(self._children.values()))
        return (503 if reasons else 200), {"ready": not reasons, "reasons": reasons}

    def _unready(self, children: Sequence[_Child]) -> list[str]:
        reasons = []
        if self._fleet.draining:
            reasons.append("draining")
        consumers = [child.row for child in children if child.spec.name == CONSUMER]
        if not consumers:
            reasons.append("the consumer is not running")
        elif not consumers[0][Field.BROKER_UP]:
            reasons.append("the broker is not reachable")
        elif consumers[0][Field.STATE] != State.READY:
            reasons.append("the consumer has not read all topics back yet")
        ready = [child for child in children if child.row[Field.STATE] == State.READY]
        if not any(child.spec.slot is not None for child in ready):
            reasons.append("no worker is ready")
        return reasons

    def _workers(self) -> tuple[int, Any]:
        now = time.monotonic()
        return 200, [
            {
                "name": child.spec.name,
                "pid": child.process.pid,
                "state": State(child.row[Field.STATE]).name.lower(),
                "restarts": self._starts[child.spec.name] - 1,
                "uptime_seconds": round(now - child.started_at, 1),
                "board": child.row.snapshot(),
            }
            for child in list(self._children.values())
        ]


def serve(settings: Settings, command: Command = module_command) -> int:
    """Run the service until it ends; its exit code."""

    async def run() -> int:
        return await Supervisor(settings, command).run()

    try:
        return asyncio.run(run())
    except BootError as error:
        _log.error("cannot start", reason=error)
        return ExitCode.BOOT


def _warn_of_short_queue(backlog: int) -> None:
    limit = queue_limit(backlog)
    if limit is not None:
        _log.warning(
            "the kernel lets fewer connections wait than server.backlog",
            backlog=backlog,
            limit=limit,
            hint=f"sysctl -w net.core.somaxconn={backlog}",
        )


def _raise_descriptor_limit(max_connections: int, workers: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    room = workers * (hard - _OTHER_DESCRIPTORS)
    if hard != resource.RLIM_INFINITY and room < max_connections:
        _log.warning(
            "too few file descriptors for server.max_connections",
            max_connections=max_connections,
            room=room,
            limit_per_process=hard,
            hint=f"ulimit -n {max_connections // workers + _OTHER_DESCRIPTORS + 1}",
        )
