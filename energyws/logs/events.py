"""Log events: a stable event text and named fields, one line each.

    2026-11-23T14:30:20.123Z INFO worker-0 WebSocket client connected client=12 subject=me

Operators grep for the event text, so it never contains a value; values are fields. docs/logs.md
lists all events.
"""

from __future__ import annotations

import logging
import sys
from typing import Final

# Python's loggers of these events are named `energyws.<name>`.
LOGGER_PREFIX: Final = "energyws."
# The attribute of a LogRecord that holds an event's fields; records of libraries have none.
FIELDS: Final = "energyws_fields"


class Levels:
    """The levels that every log has."""

    __slots__ = ()

    def debug(self, event: str, **fields: object) -> None:
        """For developers."""
        self.emit(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """What an operator expects to happen."""
        self.emit(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """What an operator should look into; the service recovers by itself."""
        self.emit(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """What an operator must look into."""
        self.emit(logging.ERROR, event, fields)

    def emit(self, level: int, event: str, fields: dict[str, object]) -> None:
        """Log an event at one of logging's levels; the methods above end here."""
        raise NotImplementedError


class Log(Levels):
    """The events of one part of a process: `Log("bus").info("resynchronised", frames=12)`."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"{LOGGER_PREFIX}{name}")

    def exception(self, event: str, **fields: object) -> None:
        """An error with the traceback of the exception being handled."""
        self.emit(logging.ERROR, event, fields, exc_info=True)

    def notice(self, event: str, **fields: object) -> None:
        """As info, but written at every configured level."""
        self.emit(logging.INFO, event, fields, always=True)

    def emit(
        self,
        level: int,
        event: str,
        fields: dict[str, object],
        *,
        exc_info: bool = False,
        always: bool = False,
    ) -> None:
        """always: whatever level is configured."""
        logger = self._logger
        if always or logger.isEnabledFor(level):
            # Logger.log would also search the stack for its caller, and always find this line.
            error = sys.exc_info() if exc_info else None
            record = logger.makeRecord(logger.name, level, "", 0, event, (), error)
            setattr(record, FIELDS, fields)
            logger.handle(record)
