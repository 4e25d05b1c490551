"""New settings for a running service: read, checked, and applied or refused as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from energyws.control.config.files import check_files, secret_files, with_secret_files
from energyws.control.reload.file_watch import WatchedFiles
from energyws.control.reload.plan import Outcome, Plan, Takes
from energyws.control.reload.preflight import Preflight
from energyws.control.sd_notify import ServiceManager
from energyws.errors import ConfigError
from energyws.logs.events import Log
from energyws.process.board import Field, Row
from energyws.process.counters import RELOAD_REFUSALS
from energyws.settings import Settings

# Between two looks at the files of certificates and secrets.
LOOK_SECONDS: Final = 1.0

_log = Log("supervisor")

_FAILED: Final = Outcome(problems=("the reload failed: the log has the reason",))
_STOPPED: Final = Outcome(problems=("the service is draining",))


class Reloader:
    """One reload at a time, in the running event loop.

    current: gives the settings in use. apply: called with the trigger and new settings that have
    passed. row: counts refusals.
    """

    def __init__(
        self,
        current: Callable[[], Settings],
        apply: Callable[[str, Settings], Plan],
        manager: ServiceManager,
        row: Row,
        preflight: Preflight,
    ) -> None:
        self._current = current
        self._apply = apply
        self._manager = manager
        self._row = row
        self._preflight = preflight
        self._files = WatchedFiles(_secret_files(current()))
        self._look_at = 0.0
        # By trigger: a second request while one waits is the same one.
        self._requested: dict[str, tuple[Callable[[], Settings], asyncio.Future[Outcome]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def pids(self) -> Sequence[int]:
        """The processes that this has started and that still run."""
        return [] if self._preflight.pid is None else [self._preflight.pid]

    def request(self, trigger: str, load: Callable[[], Settings]) -> asyncio.Future[Outcome]:
        """Apply the settings that `load` gives, or keep the present ones; it may raise ConfigError.

        The future always ends with an Outcome.
        """
        if self._stopped:
            future = asyncio.get_running_loop().create_future()
            future.set_result(_STOPPED)
            return future
        waiting = self._requested.get(trigger)
        future = asyncio.get_running_loop().create_future() if waiting is None else waiting[1]
        self._requested[trigger] = load, future
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return future

    def look(self, now: float) -> None:
        """Reload if a file with a certificate or secret has changed. To be called often.

        now: monotonic seconds.
        """
        if now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            if self._files.changed():
                self.request("a file has changed", lambda: with_secret_files(self._current()))

    def stop(self) -> None:
        """Apply no new settings from now on."""
        self._stopped = True

    async def _run(self) -> None:
        try:
            while self._requested:
                trigger = next(iter(self._requested))
                load, future = self._requested.pop(trigger)
                outcome = _FAILED
                try:
                    with self._manager.reloading():
                        outcome = await self._reload(trigger, load)
                except Exception:
                    _log.exception("reload failed")
                finally:
                    # Cancelled, if the request that waited for it has been.
                    if not future.done():
                        future.set_result(outcome)
        finally:
            self._task = None

    async def _reload(self, trigger: str, load: Callable[[], Settings]) -> Outcome:
        # Before the files are read, so that a change meanwhile is noticed afterwards.
        self._files.follow(self._files.paths)
        checked = None
        try:
            # Settings that changed during the check are checked again.
            while (settings := load()) != checked:
                check_files(settings)
                now = self._current()
                # A registry that refuses us must not keep a secret from being replaced.
                registry = _for_registry(settings) != _for_registry(now)
                if registry or (settings.auth, settings.kafka) != (now.auth, now.kafka):
                    await self._preflight.check(settings, registry=registry)
                checked = settings
        except ConfigError as error:
            self._row.add(Field.RELOADS_REFUSED)
            RELOAD_REFUSALS.count(self._row, error.kind)
            for problem in error.problems:
                _log.error("reload refused: going on as before", trigger=trigger, reason=problem)
            return Outcome(problems=tuple(error.problems))
        if self._stopped:
            return _STOPPED
        plan = self._apply(trigger, settings)
        if (paths := _secret_files(settings)) != self._files.paths:
            self._files.follow(paths)
        return Outcome(tuple(plan.keys), tuple(plan.taking(Takes.RESTART)))


def _for_registry(settings: Settings) -> object:
    """What decides whether the schema registry can be used."""
    named = {(each.topic, each.format) for each in settings.streams.values()}
    return settings.schema_registry, {each for each in named if each[1] != "json"}


def _secret_files(settings: Settings) -> list[str]:
    tls = settings.server.tls
    # A file that two keys name is watched once.
    names = [*([tls.cert, tls.key] if tls else []), *secret_files(settings).values()]
    return list(dict.fromkeys(names))
