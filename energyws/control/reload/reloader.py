"""New settings for a running service: read, tried, and taken or refused as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from energyws.control.config.load import check_files, secret_files, with_secret_file
from energyws.control.reload.file_watch import WatchedFiles
from energyws.control.reload.plan import Plan, Takes
from energyws.control.reload.preflight import Preflight
from energyws.control.sd_notify import ServiceManager
from energyws.errors import ConfigError
from energyws.logs.events import Log
from energyws.process.board import Field, Row
from energyws.process.counters import RELOAD_REFUSALS
from energyws.settings import Settings

# Between two looks at certificates and secrets.
LOOK_SECONDS: Final = 1.0

_log = Log("supervisor")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a reload.

    changed: the keys that changed; restart: those of them that only a restart brings into force;
    problems: why the new settings were refused, one line each, empty if they were not.
    """

    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


_FAILED: Final = Outcome(problems=("the reload failed: the log has the reason",))
_STOPPED: Final = Outcome(problems=("the service is draining",))


class Reloader:
    """One after the other, in the loop that runs. `take` gets the trigger and what to use from now.

    current: the settings in force. row: where refusals are counted.
    """

    def __init__(
        self,
        current: Callable[[], Settings],
        take: Callable[[str, Settings], Plan],
        manager: ServiceManager,
        row: Row,
        trial: Preflight,
    ) -> None:
        self._current = current
        self._take = take
        self._manager = manager
        self._row = row
        self._trial = trial
        self._files = WatchedFiles(_secret_files(current()))
        self._look_at = 0.0
        # By what has triggered it: once more while it waits is once.
        self._asked: dict[str, tuple[Callable[[], Settings], asyncio.Future[Outcome]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def pids(self) -> Sequence[int]:
        """The processes that this has started and that still run."""
        return [] if self._trial.pid is None else [self._trial.pid]

    def ask(self, trigger: str, load: Callable[[], Settings]) -> asyncio.Future[Outcome]:
        """Use what `load` gives, or keep what is in force and say why; it may raise ConfigError.

        The future's result says what came of it; it has no other end.
        """
        if self._stopped:
            future = asyncio.get_running_loop().create_future()
            future.set_result(_STOPPED)
            return future
        waiting = self._asked.get(trigger)
        future = asyncio.get_running_loop().create_future() if waiting is None else waiting[1]
        self._asked[trigger] = load, future
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return future

    def look(self, now: float) -> None:
        """To be called often: files with certificates and secrets are read again when they change.

        now: monotonic seconds.
        """
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            if self._files.changed():
                self.ask("a file has changed", lambda: with_secret_file(self._current()))

    def stop(self) -> None:
        """Take nothing any more."""
        self._stopped = True

    async def _run(self) -> None:
        try:
            while self._asked:
                trigger = next(iter(self._asked))
                load, future = self._asked.pop(trigger)
                outcome = _FAILED
                try:
                    with self._manager.reloading():
                        outcome = await self._reload(trigger, load)
                except Exception:
                    _log.exception("reload failed")
                finally:
                    # A request that waited for it may have been given up.
                    if not future.done():
                        future.set_result(outcome)
        finally:
            self._task = None

    async def _reload(self, trigger: str, load: Callable[[], Settings]) -> Outcome:
        # Before they are read: what changes meanwhile is seen afterwards.
        self._files.follow(self._files.paths)
        tried = None
        try:
            # What has changed while it was tried is tried in its turn.
            while (settings := load()) != tried:
                check_files(settings)
                now = self._current()
                if (settings.auth, settings.kafka) != (now.auth, now.kafka):
                    await self._trial.of(settings)
                tried = settings
        except ConfigError as error:
            self._row.add(Field.RELOADS_REFUSED)
            RELOAD_REFUSALS.count(self._row, error.kind)
            for problem in error.problems:
                _log.error("reload refused: going on as before", trigger=trigger, reason=problem)
            return Outcome(problems=tuple(error.problems))
        if self._stopped:
            return _STOPPED
        plan = self._take(trigger, settings)
        if (paths := _secret_files(settings)) != self._files.paths:
            self._files.follow(paths)
        return Outcome(tuple(plan.keys), tuple(plan.taking(Takes.RESTART)))


def _secret_files(settings: Settings) -> list[str]:
    tls = settings.server.tls
    # The same file may be named twice; it is looked at once.
    names = [*([tls.cert, tls.key] if tls else []), *secret_files(settings).values()]
    return list(dict.fromkeys(names))
