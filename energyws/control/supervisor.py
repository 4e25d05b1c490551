"""Carries out what the fleet's policy decides: sockets, children, signals, the admin port.

Signals are only noted when they arrive; the loop handles them. Runs on asyncio for its timers and
descriptors.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Final

from energyws.control.children.spawn import Command, module_command
from energyws.control.host.confinement import confine
from energyws.control.host.facts import usable_cores
from energyws.control.notices import Shortages, use_log, warn_of_settings
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
from energyws.control.reload.plan import Outcome, Plan, Takes, plan
from energyws.control.running import Running, set_up
from energyws.errors import BootError, ExitCode
from energyws.logs.events import Log
from energyws.logs.rate_limit import flush_suppressed
from energyws.process.board import Field
from energyws.settings import MAX_WORKERS, Level, Settings

STEP_SECONDS: Final = 0.25

_log = Log("supervisor")


class Supervisor:
    """One service. load: reads the settings again, or raises ConfigError.

    command: the command line of a child; tests have simpler children.
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
        self._shortages = Shortages()
        # Set by `run`.
        self._running: Running

    async def run(self) -> int:
        """Run until the service ends; its exit code. Raises BootError before the first child."""
        confine(core_dumps=self._settings.supervision.core_dumps)
        _raise_descriptor_limit()
        with ExitStack() as stack:
            self._running = set_up(
                stack,
                self._fleet,
                self._command,
                self,
                lambda: self._settings,
                self._use_settings,
                self._wake.set,
            )
            self._announce()
            halt = await self._until_halt()
        level = _log.info if halt.code is ExitCode.OK else _log.error
        level("stopped", exit_code=int(halt.code), reason=halt.why)
        return halt.code

    def _announce(self) -> None:
        server = self._settings.server
        _log.info(
            "listening",
            scheme="ws" if server.tls is None else "wss",
            host=server.host,
            port=self._running.listeners.port,
            workers=self._fleet.workers,
        )
        self._running.admin.announce()
        warn_of_settings(self._settings)
        self._shortages.warn(self._settings, self._fleet.workers)

    # The loop.

    async def _until_halt(self) -> Halt:
        while self._halt is None:
            self._crash_on_error(self._step)
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), STEP_SECONDS)
            self._crash_on_error(self._handle_signals)
        return self._halt

    def _crash_on_error(self, act: Callable[[], object]) -> None:
        """Call `act`; an exception ends the service.

        Otherwise the policy might count on children that were never started or reaped.
        """
        try:
            act()
        except Exception:
            _log.exception("failed")
            self._halt = Halt(ExitCode.FAILURE, "a fault of the service: see its log")
            self._wake.set()

    def _step(self) -> None:
        running = self._running
        running.children.reap_orphans(running.reloader.pids)
        now = running.handlers.stepped_at = time.monotonic()
        flush_suppressed()
        running.children.look_after(now)
        running.deny_list.look(self._settings, now)
        if not self._fleet.draining:
            self._look_after(now)
        actions = self._fleet.step(now, running.children.beats(), running.children.ended())
        for action in actions:
            self._carry_out(action)
        running.manager.step(running.handlers.reasons(), now)

    def _look_after(self, now: float) -> None:
        """Do what is due from time to time, unless the service drains."""
        self._running.reloader.look(now)
        every = self._settings.supervision.rebalance_seconds
        if every is not None and now >= self._running.rebalanced_at + every:
            self._running.rebalanced_at = now
            if shed := self._fleet.rebalance(now):
                _log.info("rebalancing", shed=sum(shed.values()), workers=len(shed))

    def _carry_out(self, action: Action) -> None:
        match action:
            case Start():
                self._running.children.start(action)
            case Send(process, message):
                self._running.children.send(process, message)
            case Kill(process, why, hung):
                self._running.children.kill(process, why, hung=hung)
            case Steer(slots):
                self._running.listeners.steer(slots)
            case Release(slot):
                self._running.listeners.release(slot)
            case Replaced(name, None):
                _log.info("child replaced", child=name)
            case Replaced(name, why):
                _log.error("child not replaced: the old one stays", child=name, reason=why)
            case Crowded(processes):
                _log.warning("a start waits for another process to end", processes=processes)
            case Halt():
                self._halt = action

    # Signals.

    def _handle_signals(self) -> None:
        for number in self._running.signals.take():
            getattr(self, f"handle_{number.name.removeprefix('SIG').lower()}")()

    def handle_term(self) -> None:
        """Drain; end at once if the service drains already."""
        self._drain_or_stop("SIGTERM")

    def handle_int(self) -> None:
        """As TERM."""
        self._drain_or_stop("SIGINT")

    def handle_hup(self) -> None:
        """Reload; but drain if it means that the terminal is gone."""
        if self._running.terminal.gone():
            self._drain_or_stop("SIGHUP")
        else:
            self._running.reloader.request("SIGHUP", self._load)

    def handle_quit(self) -> None:
        """End at once."""
        self._halt = Halt(ExitCode.OK, "told to stop at once")
        self._wake.set()

    def handle_ttin(self) -> None:
        """One worker more."""
        self._scale_by(+1)

    def handle_ttou(self) -> None:
        """One worker less."""
        self._scale_by(-1)

    def handle_usr2(self) -> None:
        """Replace all children."""
        self.replace()

    def _drain_or_stop(self, trigger: str) -> None:
        if self._fleet.draining:
            self.handle_quit()
        else:
            self.drain(trigger)

    def _scale_by(self, change: int) -> None:
        if not self._fleet.draining:
            self.scale(min(max(1, self._fleet.workers + change), MAX_WORKERS))

    # What operators ask for; the POST requests call these in the loop.

    def drain(self, trigger: str) -> None:
        """Begin to shut down; not to be called twice."""
        server = self._settings.server
        _log.info(
            "draining",
            trigger=trigger,
            delay=server.drain_delay_seconds,
            seconds=server.drain_seconds,
        )
        self._running.manager.stopping()
        self._running.reloader.stop()
        self._fleet.drain(time.monotonic())
        self._wake.set()

    def replace(self) -> None:
        """Replace all children by new processes, one at a time, unless the service drains."""
        if not self._fleet.draining:
            _log.info("replacing all children, one at a time")
            self._fleet.replace()
            self._wake.set()

    def scale(self, workers: int) -> None:
        """Have this many workers."""
        before = self._fleet.workers
        if workers != before:
            _log.info("scaling", workers=workers, before=before)
            self._fleet.scale(workers)
            self._shortages.warn(self._settings, self._fleet.workers)
            self._wake.set()

    def rebalance(self) -> dict[str, int]:
        """Let workers that have more than their share shed clients; how many each, by name."""
        # A step first: the last one may have seen other numbers of connections.
        self._crash_on_error(self._step)
        shed = self._fleet.rebalance(time.monotonic())
        _log.info("rebalancing", shed=sum(shed.values()), workers=len(shed))
        self._wake.set()
        return shed

    def reload(self, trigger: str) -> asyncio.Future[Outcome]:
        """Read the settings again, and apply them if they pass."""
        return self._running.reloader.request(trigger, self._load)

    def set_log_level(self, trigger: str, level: Level) -> None:
        """Change log.level in all processes until the next reload."""
        before = self._settings
        settings = replace(before, log=replace(before.log, level=level))
        self._settings = self._fleet.settings = settings
        use_log(trigger, before, settings)
        self._running.children.use_log(settings)

    def _use_settings(self, trigger: str, settings: Settings) -> Plan:
        change = plan(self._settings, settings)
        settings = change.settings
        if settings.server.workers != self._settings.server.workers:
            self.scale(worker_count(settings))
        before, self._settings = self._settings, settings
        self._fleet.settings = settings
        self._running.admin.use(settings.admin)
        self._running.listeners.listen(settings.server.backlog)
        use_log(trigger, before, settings)
        self._running.row.add(Field.RELOADS)
        _log.info("reloaded", trigger=trigger, changed=",".join(change.keys) or "nothing")
        warn_of_settings(settings)
        self._shortages.warn(self._settings, self._fleet.workers)
        if restart := change.taking(Takes.RESTART):
            _log.warning("changed keys take effect only after a restart", keys=",".join(restart))
        self._running.deny_list.publish(settings)
        if not self._running.children.use_settings(settings):
            # Too large for a control message: new processes get them at their start.
            self._fleet.replace()
        elif change.consumer or change.workers:
            self._fleet.replace(consumer=change.consumer, workers=change.workers)
        self._wake.set()
        return change


def worker_count(settings: Settings) -> int:
    """The number of workers that server.workers means on this machine."""
    workers = settings.server.workers
    return usable_cores() if workers == "auto" else workers


def serve(
    settings: Settings, load: Callable[[], Settings], command: Command = module_command
) -> int:
    """Run the service until it ends; its exit code. The arguments are those of Supervisor."""

    async def run() -> int:
        return await Supervisor(settings, load, command).run()

    try:
        return asyncio.run(run())
    except BootError as error:
        _log.error("cannot start", reason=error)
        return ExitCode.BOOT


def _raise_descriptor_limit() -> None:
    # Children inherit it.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
