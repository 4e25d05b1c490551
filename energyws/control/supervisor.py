"""Carries out what the fleet's policy decides: sockets, children, signals, the admin port.

A signal handler only notes what came; the loop acts. Runs on asyncio for its timers and
descriptors.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Final, cast, get_args

from energyws.control.admin.handlers import Handlers
from energyws.control.admin.in_loop import Act, in_loop
from energyws.control.admin.server import AdminServer
from energyws.control.children.children import SUPERVISOR_ROW, Children
from energyws.control.children.listeners import Listeners
from energyws.control.children.run_directory import RunDirectory
from energyws.control.children.spawn import Command, Spawner, module_command
from energyws.control.config.load import warnings
from energyws.control.host.cores import usable_cores
from energyws.control.host.facts import read_host
from energyws.control.host.shortages import Shortage, shortages
from energyws.control.policy.actions import (
    Action,
    Crowded,
    Halt,
    Kill,
    Release,
    Replaced,
    Send,
    Start,
    Steer,
)
from energyws.control.policy.fleet import Fleet
from energyws.control.reload.plan import Plan, Takes, plan
from energyws.control.reload.preflight import Preflight
from energyws.control.reload.reloader import Reloader
from energyws.control.sd_notify import manager
from energyws.control.terminal import Terminal
from energyws.errors import BootError, ExitCode
from energyws.logs.events import Log
from energyws.logs.rate_limit import flush_suppressed
from energyws.logs.recent import Recent
from energyws.logs.writer import adjust
from energyws.process.board import Board, Field
from energyws.process.control_messages import Leave
from energyws.settings import MAX_WORKERS, Level, Settings

STEP_SECONDS: Final = 0.25
# What is shown of the log.
RECENT_EVENTS: Final = 50

_log = Log("supervisor")
_config_log = Log("config")


class Supervisor:
    """One service. `load` reads the settings again, or raises ConfigError.

    `command` says what a child runs; tests have simpler children.
    """

    def __init__(
        self,
        settings: Settings,
        load: Callable[[], Settings],
        command: Command = module_command,
    ) -> None:
        self._settings = settings
        self._load = load
        self._command = command
        self._fleet = Fleet(settings, worker_count(settings), random.random)
        self._wake = asyncio.Event()
        self._halt: Halt | None = None
        self._recent = Recent("supervisor", RECENT_EVENTS)
        self._doubts: list[Shortage] = []

    async def run(self) -> int:
        """Until the service ends; its exit code. Raises BootError before the first child runs."""
        settings = self._settings
        self._loop = asyncio.get_running_loop()
        _raise_descriptor_limit()
        with ExitStack() as stack:
            stack.enter_context(self._recent.kept())
            self._manager = manager(os.environ)
            stack.callback(self._manager.close)
            self._listeners = Listeners(settings.server, self._fleet.workers)
            stack.callback(self._listeners.close)
            directory = RunDirectory()
            stack.callback(directory.close)
            terminal = Terminal()
            stack.callback(terminal.close)
            board = Board.create()
            self._row = board.row(SUPERVISOR_ROW)
            self._reloads = Reloader(
                lambda: self._settings, self._take, self._manager, self._row, Preflight()
            )
            self._rebalanced_at = time.monotonic()
            spawner = Spawner(settings, board.descriptor, directory.path, self._command)
            self._children = Children(spawner, board, self._listeners, self._wake.set)
            self._view = Handlers(self._fleet, self._children, self._row, self._recent)
            # From here on it may be asked.
            self._admin = AdminServer(
                settings.admin,
                self._view.answers(),
                self._view.pages(),
                {
                    "/workers": self._in_loop(self._scale),
                    "/rebalance": self._in_loop(self._rebalance),
                    "/roll": self._in_loop(self._roll),
                    "/reload": self._in_loop(self._reload),
                    "/drain": self._in_loop(self._drain),
                    "/log": self._in_loop(self._log_level),
                },
            )
            stack.callback(self._admin.close)
            self._announce(self._admin.port)
            self._handle_signals(terminal)
            # Before anything else is let go of.
            stack.callback(self._children.kill_all)
            halt = await self._until_halt()
        level = _log.info if halt.code is ExitCode.OK else _log.error
        level("stopped", exit_code=int(halt.code), reason=halt.why)
        return halt.code

    async def _until_halt(self) -> Halt:
        while self._halt is None:
            self._crash_on_error(self._step)
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), STEP_SECONDS)
            except TimeoutError:
                continue
        return self._halt

    def _crash_on_error(self, act: Callable[[], object]) -> None:
        """Do something that must not be left half done: what it raises ends the service.

        Otherwise the fleet's policy might count on children that were never started or buried.
        """
        try:
            act()
        except Exception:
            _log.exception("failed")
            self._halt = Halt(ExitCode.FAILURE, "a fault of the service: see its log")
            self._wake.set()

    def _announce(self, admin_port: int) -> None:
        server = self._settings.server
        _log.info(
            "listening",
            scheme="ws" if server.tls is None else "wss",
            host=server.host,
            port=self._listeners.port,
            workers=self._fleet.workers,
        )
        _log.info("admin listening", host=self._settings.admin.host, port=admin_port)
        _warn_of_settings(self._settings)
        self._tell_doubts()

    def _tell_doubts(self) -> None:
        """What the machine may be short of, where that was not so before."""
        found = shortages(self._settings, self._fleet.workers, read_host())
        for doubt in found:
            if doubt not in self._doubts:
                _log.warning(doubt.event, **dict(doubt.fields), hint=doubt.hint)
        self._doubts = found

    def _handle_signals(self, terminal: Terminal) -> None:
        def on_hangup() -> None:
            if terminal.gone():
                self._on_stop(signal.SIGHUP)
            else:
                self._reloads.ask("SIGHUP", self._load)

        handlers: dict[signal.Signals, Callable[[], object]] = {
            signal.SIGTERM: lambda: self._on_stop(signal.SIGTERM),
            signal.SIGINT: lambda: self._on_stop(signal.SIGINT),
            signal.SIGHUP: on_hangup,
            signal.SIGQUIT: self._on_quit,
            signal.SIGTTIN: lambda: self._scale_by(+1),
            signal.SIGTTOU: lambda: self._scale_by(-1),
            signal.SIGUSR2: self._replace,
        }
        for number, handler in handlers.items():
            self._loop.add_signal_handler(number, self._crash_on_error, handler)

    def _on_stop(self, number: signal.Signals) -> None:
        if self._fleet.draining:
            self._on_quit()
            return
        self._begin_drain(number.name)

    def _begin_drain(self, trigger: str) -> None:
        server = self._settings.server
        _log.info(
            "draining",
            trigger=trigger,
            delay=server.drain_delay_seconds,
            seconds=server.drain_seconds,
        )
        self._manager.stopping()
        self._reloads.stop()
        self._fleet.drain(time.monotonic())
        self._wake.set()

    def _on_quit(self) -> None:
        self._halt = Halt(ExitCode.OK, "told to stop at once")
        self._wake.set()

    def _replace(self) -> None:
        if not self._fleet.draining:
            _log.info("replacing all children, one at a time")
            self._fleet.replace()
            self._wake.set()

    def _take(self, trigger: str, settings: Settings) -> Plan:
        change = plan(self._settings, settings)
        settings = change.settings
        if settings.server.workers != self._settings.server.workers:
            self._set_workers(worker_count(settings))
        before, self._settings = self._settings, settings
        self._fleet.settings = settings
        self._admin.token = settings.admin.token
        self._listeners.listen(settings.server.backlog)
        self._use_log(trigger, before, settings)
        self._row.add(Field.RELOADS)
        _log.info("reloaded", trigger=trigger, changed=",".join(change.keys) or "nothing")
        _warn_of_settings(settings)
        self._tell_doubts()
        if restart := change.taking(Takes.RESTART):
            _log.warning("only a restart brings this into force", keys=",".join(restart))
        if not self._children.adopt(settings):
            # A child that such an order cannot reach gets them at its start.
            self._fleet.replace()
        elif change.consumer or change.workers:
            self._fleet.replace(consumer=change.consumer, workers=change.workers)
        self._wake.set()
        return change

    def _look_after(self, now: float) -> None:
        """What is done every now and then, while the service is not on its way out."""
        self._reloads.look(now)
        every = self._settings.supervision.rebalance_seconds
        if every is not None and now >= self._rebalanced_at + every:
            self._rebalanced_at = now
            if shed := self._fleet.rebalance(now):
                _log.info("rebalancing", shed=sum(shed.values()), workers=len(shed))

    def _scale_by(self, change: int) -> None:
        if not self._fleet.draining:
            self._set_workers(min(max(1, self._fleet.workers + change), MAX_WORKERS))

    def _set_workers(self, workers: int) -> None:
        before = self._fleet.workers
        if workers != before:
            _log.info("scaling", workers=workers, before=before)
            self._fleet.scale(workers)
            self._tell_doubts()
            self._wake.set()

    def _step(self) -> None:
        self._children.reap_strangers(self._reloads.pids)
        now = self._view.stepped_at = time.monotonic()
        flush_suppressed()
        self._children.look_after(now)
        if not self._fleet.draining:
            self._look_after(now)
        actions = self._fleet.step(now, self._children.beats(), self._children.ended())
        for action in actions:
            self._carry_out(action)
        self._manager.step(self._view.reasons(), now)

    def _carry_out(self, action: Action) -> None:
        match action:
            case Start():
                self._children.start(action)
            case Send(process, order):
                if isinstance(order, Leave):
                    self._children.leave(process)
                self._children.tell(process, order)
            case Kill(process, why, hung):
                self._children.kill(process, why, hung=hung)
            case Steer(slots):
                self._listeners.steer(slots)
            case Release(slot):
                self._listeners.release(slot)
            case Replaced(name, None):
                _log.info("child replaced", child=name)
            case Replaced(name, why):
                _log.error("child not replaced: the old one stays", child=name, reason=why)
            case Crowded(processes):
                _log.warning("a start waits for another process to end", processes=processes)
            case Halt():
                self._halt = action

    def _in_loop(self, act: Act) -> Callable[[Any], tuple[int, Any]]:
        return in_loop(self._loop, act)

    def _scale(self, body: Any) -> tuple[int, Any]:
        wanted = body.get("workers") if isinstance(body, dict) else None
        # true is an int, too.
        if type(wanted) is not int or not 1 <= wanted <= MAX_WORKERS:
            return 400, {"error": f'send {{"workers": N}} with N from 1 to {MAX_WORKERS}'}
        if self._fleet.draining:
            return 409, {"error": "the service is draining"}
        before = self._fleet.workers
        self._set_workers(wanted)
        return 200, {"workers": wanted, "before": before}

    def _rebalance(self, body: Any) -> tuple[int, Any]:
        if self._fleet.draining:
            return 409, {"error": "the service is draining"}
        # With what is seen now, not with what was at the last step.
        self._crash_on_error(self._step)
        shed = self._fleet.rebalance(time.monotonic())
        _log.info("rebalancing", shed=sum(shed.values()), workers=len(shed))
        self._wake.set()
        return 200, {"shed": shed}

    def _roll(self, body: Any) -> tuple[int, Any]:
        if self._fleet.draining:
            return 409, {"error": "the service is draining"}
        self._replace()
        return 200, {"replacing": True}

    async def _reload(self, body: Any) -> tuple[int, Any]:
        if self._fleet.draining:
            return 409, {"error": "the service is draining"}
        # Shielded: another request may wait for the same reload.
        outcome = await asyncio.shield(self._reloads.ask("POST /reload", self._load))
        if outcome.problems:
            problems = list(outcome.problems)
            return 422, {"error": "refused: going on as before", "problems": problems}
        return 200, {"changed": list(outcome.changed), "restart": list(outcome.restart)}

    def _drain(self, body: Any) -> tuple[int, Any]:
        if self._fleet.draining:
            return 409, {"error": "the service is draining"}
        self._begin_drain("POST /drain")
        return 200, {"seconds": self._settings.server.drain_seconds}

    def _log_level(self, body: Any) -> tuple[int, Any]:
        wanted = body.get("level") if isinstance(body, dict) else None
        if wanted not in get_args(Level):
            levels = ", ".join(get_args(Level))
            return 400, {"error": f'send {{"level": L}} with L one of {levels}'}
        before = self._settings
        settings = replace(before, log=replace(before.log, level=cast(Level, wanted)))
        self._settings = self._fleet.settings = settings
        self._use_log("POST /log", before, settings)
        self._children.write_log(settings)
        return 200, {"level": wanted, "before": before.log.level}

    def _use_log(self, trigger: str, before: Settings, settings: Settings) -> None:
        adjust(settings.log, "supervisor")
        if settings.log.level != before.log.level:
            # Also where the new level hides what is less than an error: whoever reads the log must
            # see why nothing comes.
            _log.notice(
                "log level changed",
                trigger=trigger,
                now=settings.log.level,
                before=before.log.level,
            )


def worker_count(settings: Settings) -> int:
    """What server.workers stands for here."""
    workers = settings.server.workers
    return usable_cores() if workers == "auto" else workers


def serve(
    settings: Settings, load: Callable[[], Settings], command: Command = module_command
) -> int:
    """Run the service until it ends; its exit code. `load` reads the settings again."""

    async def run() -> int:
        return await Supervisor(settings, load, command).run()

    try:
        return asyncio.run(run())
    except BootError as error:
        _log.error("cannot start", reason=error)
        return ExitCode.BOOT


def _warn_of_settings(settings: Settings) -> None:
    for warning in warnings(settings):
        _config_log.warning("configuration to look at", what=warning)


def _raise_descriptor_limit() -> None:
    # Children inherit it.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
