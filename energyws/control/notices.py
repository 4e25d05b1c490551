"""What the log says about settings, about the log itself, and about what the machine lacks."""

from __future__ import annotations

from energyws.control.config.rules import warnings
from energyws.control.host.facts import read_host
from energyws.control.host.shortages import Shortage, shortages
from energyws.logs.events import Log
from energyws.logs.writer import adjust
from energyws.settings import Settings

_log = Log("supervisor")
_config_log = Log("config")


class Shortages:
    """Says each shortage once, until it has been absent."""

    def __init__(self) -> None:
        self._known: list[Shortage] = []

    def warn(self, settings: Settings, workers: int) -> None:
        """Warn of what the machine lacks now for this many workers with these settings."""
        found = shortages(settings, workers, read_host())
        for shortage in found:
            if shortage not in self._known:
                _log.warning(shortage.event, **dict(shortage.fields), hint=shortage.hint)
        self._known = found


def warn_of_settings(settings: Settings) -> None:
    """Warn of settings that are valid but should be looked at."""
    for warning in warnings(settings):
        _config_log.warning("configuration to look at", what=warning)


def use_log(trigger: str, before: Settings, settings: Settings) -> None:
    """Let the supervisor's own log follow its settings, and say who changed its level."""
    adjust(settings.log, "supervisor")
    if settings.log.level != before.log.level:
        # At any level: a reader of the log must see why lines are missing from here on.
        _log.notice(
            "log level changed",
            trigger=trigger,
            now=settings.log.level,
            before=before.log.level,
        )
