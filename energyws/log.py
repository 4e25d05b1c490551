"""Logs: one line per event, a stable event text and named fields, as text (logfmt) or JSON.

    2026-11-23T14:30:20.123Z INFO worker-0 WebSocket client connected client=12 subject=me

The event text is what operators grep for and never carries values; values are fields. Control
characters never reach the line, so nobody can forge one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, TextIO

import orjson

from energyws.frame import rfc3339
from energyws.settings import Log as LogSettings

_FIELDS: Final = "energyws_fields"
# Long enough for any honest value; a hostile one fills no disk.
_MAX_VALUE: Final = 500
_MAX_TRACEBACK: Final = 20_000
# What may wait for a pipe that is not read: lines, and the time at the end of the process.
_MAX_WAITING: Final = 1_000
_FLUSH_SECONDS: Final = 1.0


class Log:
    """The events of one part of a process: `Log("bus").info("resynchronised", frames=12)`."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"energyws.{name}")

    def debug(self, event: str, **fields: object) -> None:
        """For developers."""
        self._emit(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """What an operator expects to happen."""
        self._emit(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """What an operator should look at; the service goes on by itself."""
        self._emit(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """What an operator must look at."""
        self._emit(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """An error with the traceback of the exception being handled."""
        self._emit(logging.ERROR, event, fields, exc_info=True)

    def _emit(
        self, level: int, event: str, fields: dict[str, object], *, exc_info: bool = False
    ) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, exc_info=exc_info, extra={_FIELDS: fields})


class Limited:
    """Lets one event through per `seconds`, and counts what it held back in between."""

    __slots__ = ("_clock", "_held", "_next", "_seconds")

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next = float("-inf")
        self._held = 0

    def ready(self) -> int | None:
        """None: hold this one back. A number: let it through; so many were held back before."""
        now = self._clock()
        if now < self._next:
            self._held += 1
            return None
        held, self._held = self._held, 0
        self._next = now + self._seconds
        return held


def configure(settings: LogSettings, process: str) -> None:
    """Send everything that this process logs to standard error, under the process's name."""
    handler = _Unhurried(sys.stderr)
    handler.setFormatter(_formatter(settings, process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    # What picows says of single connections is ours to say, at a bounded rate and without what
    # clients sent; aiofastnet's and asyncio's errors are about us.
    logging.getLogger("picows").setLevel(logging.CRITICAL)
    for name in ("aiofastnet", "asyncio"):
        logging.getLogger(name).setLevel(logging.ERROR)


def adjust(settings: LogSettings, process: str) -> None:
    """Change level and form of what `configure` has begun."""
    root = logging.getLogger()
    root.setLevel(settings.level)
    for handler in root.handlers:
        if isinstance(handler, _Unhurried):
            handler.setFormatter(_formatter(settings, process))


def _formatter(settings: LogSettings, process: str) -> logging.Formatter:
    return _Json(process) if settings.format == "json" else _Text(process)


class _Unhurried(logging.Handler):
    """Writes from a thread: a pipe that nobody reads stops nobody; what piles up is dropped.

    A thread and not O_NONBLOCK: that would be set for everybody who shares the pipe or terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: queue.Queue[str | None] = queue.Queue(_MAX_WAITING)
        self._dropped = 0
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Never blocks, never raises."""
        try:
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self._dropped += 1
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Give what waits a moment to be written."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        while self._lines.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(0.001)

    def close(self) -> None:
        """End the thread, once it has written what waits."""
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            # A full disk must not end the thread.
            with contextlib.suppress(OSError, ValueError):
                self._stream.write(f"{line}\n")
                self._stream.flush()
            self._lines.task_done()
            if self._dropped and self._lines.empty():
                dropped, self._dropped = self._dropped, 0
                Log("log").warning("lines dropped: the log was not read", count=dropped)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = dict(getattr(record, _FIELDS, {}))
    if record.exc_info:
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return fields


class _Text(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        parts = [
            rfc3339(int(record.created * 1000)),
            record.levelname,
            self._process,
            _plain(record.getMessage()),
        ]
        fields = _fields(record)
        traceback = fields.pop("traceback", None)
        parts += [f"{key}={_quoted(value)}" for key, value in fields.items()]
        line = " ".join(parts)
        if traceback:
            # Indented: only an event begins at the left margin, whatever an exception says.
            lines = traceback[:_MAX_TRACEBACK].splitlines()
            line += "".join(f"\n  {_plain(each)}" for each in lines)
        return line


class _Json(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": rfc3339(int(record.created * 1000)),
            "level": record.levelname,
            "process": self._process,
            "event": _encodable(record.getMessage(), _MAX_VALUE),
        }
        for key, value in _fields(record).items():
            limit = _MAX_TRACEBACK if key == "traceback" else _MAX_VALUE
            line[key] = value if _is_json_number(value) else _encodable(value, limit)
        text = orjson.dumps(line).decode()
        # JSON lets C1 controls and line separators be; terminals and readers of lines do not.
        return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _is_json_number(value: object) -> bool:
    # orjson refuses integers of more than 64 bits.
    return isinstance(value, float) or (isinstance(value, int) and -(2**63) <= value < 2**64)


def _encodable(value: object, limit: int) -> str:
    return str(value)[:limit].encode("utf-8", "backslashreplace").decode()


def _plain(value: object) -> str:
    # The backslash too, so that no value can undo the quoting or pass for another one.
    return "".join(
        c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode()
        for c in str(value)[:_MAX_VALUE]
    )


def _quoted(value: object) -> str:
    text = _plain(value)
    if text and not any(c in ' "=' for c in text):
        return text
    return '"' + text.replace('"', '\\"') + '"'
