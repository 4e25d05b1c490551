"""Logs: one line per event, a stable event text and named fields, as text (logfmt) or JSON.

    2026-11-23T14:30:20.123Z INFO worker-0 WebSocket client connected client=12 subject=me

The event text is what operators grep for and never carries values; values are fields. Control
characters never reach the line, so nobody can forge one. docs/logs.md has all events.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, Final, TextIO

import orjson

from energyws.protocol.frame import rfc3339
from energyws.settings import Logging as LogSettings

# What a library says, in words of its own.
LIBRARY_EVENT: Final = "library reports"
_OURS: Final = "energyws."
_FIELDS: Final = "energyws_fields"
# Long enough for any honest value; a hostile one fills no disk.
_MAX_VALUE: Final = 500
_MAX_TRACEBACK: Final = 20_000
# What may wait for a pipe that is not read: characters, and the time at the end of the process. A
# crowd that leaves at once writes thousands of lines before the thread has its turn: they all fit.
_MAX_WAITING: Final = 4 * 1024 * 1024
_FLUSH_SECONDS: Final = 1.0
# Lines that come within so long share a write, and one change of threads: by themselves each would
# cost a busy event loop more than all the rest of it.
_GATHER_SECONDS: Final = 0.02


class Log:
    """The events of one part of a process: `Log("bus").info("resynchronised", frames=12)`."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"{_OURS}{name}")

    def debug(self, event: str, **fields: object) -> None:
        """For developers."""
        self.emit(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """What an operator expects to happen."""
        self.emit(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """What an operator should look at; the service goes on by itself."""
        self.emit(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """What an operator must look at."""
        self.emit(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """An error with the traceback of the exception being handled."""
        self.emit(logging.ERROR, event, fields, exc_info=True)

    def notice(self, event: str, **fields: object) -> None:
        """As info, and written whatever the level is."""
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
        """What all of the above do; level: logging's number. always: whatever the level is."""
        logger = self._logger
        if always or logger.isEnabledFor(level):
            # As Logger.log does, which looks for the caller first, and would always find this.
            error = sys.exc_info() if exc_info else None
            record = logger.makeRecord(logger.name, level, "", 0, event, (), error)
            setattr(record, _FIELDS, fields)
            logger.handle(record)


def configure(settings: LogSettings, process: str) -> None:
    """Send everything that this process logs to standard error, under the process's name."""
    handler = _Unhurried(sys.stderr)
    handler.setFormatter(_formatter(settings, process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.level)
    # Nothing of this is in a line, and all of it is found out for each (documented at logging's
    # "Optimization").
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
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


class Recent(logging.Handler):
    """Keeps the newest `count` events of this process, as the JSON form has them."""

    def __init__(self, process: str, count: int) -> None:
        super().__init__()
        self.setFormatter(_Json(process))
        self._lines: deque[str] = deque(maxlen=count)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one; never raises."""
        try:
            self._lines.append(self.format(record))
        except Exception:
            self.handleError(record)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """What is logged in the block is kept."""
        root = logging.getLogger()
        root.addHandler(self)
        try:
            yield
        finally:
            root.removeHandler(self)

    def events(self) -> list[dict[str, Any]]:
        """The oldest first; for any thread."""
        # A copy: lines may come meanwhile.
        return [orjson.loads(line) for line in self._lines.copy()]


def _formatter(settings: LogSettings, process: str) -> logging.Formatter:
    return _Json(process) if settings.format == "json" else _Text(process)


class _Unhurried(logging.Handler):
    """Writes from a thread: a pipe that nobody reads stops nobody; what piles up is dropped.

    A thread and not O_NONBLOCK: that would be set for everybody who shares the pipe or terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._lines: deque[str] = deque()
        # Characters, ever. The first is changed under the handler's lock, the other one by the
        # thread only.
        self._taken = self._written = 0
        self._dropped = 0
        # There are lines, or the end has come; somebody waits for them; all are written.
        self._some, self._hurry, self._done = (threading.Event() for _ in range(3))
        self._closed = False
        threading.Thread(target=self._write, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Never blocks, never raises."""
        try:
            line = self.format(record)
        except Exception:
            self.handleError(record)
            return
        if self._taken - self._written >= _MAX_WAITING:
            self._dropped += 1
            return
        self._taken += len(line)
        self._lines.append(line)
        if not self._some.is_set():
            self._some.set()

    def flush(self) -> None:
        """Give what waits a moment to be written."""
        self._done.clear()
        self._hurry.set()
        self._some.set()
        self._done.wait(_FLUSH_SECONDS)

    def close(self) -> None:
        """End the thread, once it has written what waits."""
        self._closed = True
        self._hurry.set()
        self._some.set()
        super().close()

    def _write(self) -> None:
        while not self._closed or self._lines:
            self._some.wait()
            self._hurry.wait(_GATHER_SECONDS)
            # In this order: what comes or is wanted from here on has its own turn.
            self._hurry.clear()
            self._some.clear()
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            # Neither a full disk nor anything else must end the thread: the process would be mute.
            with contextlib.suppress(Exception):
                self._stream.write("".join(f"{line}\n" for line in lines))
                self._stream.flush()
            self._written += sum(map(len, lines))
            if self._dropped and not self._lines:
                dropped, self._dropped = self._dropped, 0
                Log("log").warning("lines dropped: the log was not read", count=dropped)
            if not self._lines:
                self._done.set()


def _event(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """Event and fields."""
    fields = getattr(record, _FIELDS, None)
    if fields is None:
        event, fields = LIBRARY_EVENT, {"library": record.name, "says": record.getMessage()}
    else:
        event, fields = record.getMessage(), dict(fields)
    if record.exc_info:
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return event, fields


class _Text(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        event, fields = _event(record)
        parts = [
            rfc3339(int(record.created * 1000)),
            record.levelname,
            self._process,
            _plain(event),
        ]
        trace = fields.pop("traceback", None)
        parts += [f"{key}={_quoted(value)}" for key, value in fields.items()]
        line = " ".join(parts)
        if trace:
            # Indented: only an event begins at the left margin, whatever an exception says.
            lines = trace[:_MAX_TRACEBACK].splitlines()
            line += "".join(f"\n  {_plain(each)}" for each in lines)
        return line


class _Json(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        event, fields = _event(record)
        line: dict[str, object] = {
            "time": rfc3339(int(record.created * 1000)),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name.removeprefix(_OURS),
            "event": _encodable(event, _MAX_VALUE),
        }
        for key, value in fields.items():
            limit = _MAX_TRACEBACK if key == "traceback" else _MAX_VALUE
            line[key] = value if _is_json_value(value) else _encodable(value, limit)
        text = orjson.dumps(line).decode()
        # JSON lets C1 controls and line separators be; terminals and readers of lines do not.
        if text.isprintable():
            return text
        return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _is_json_value(value: object) -> bool:
    if value is None:
        return True
    # orjson refuses integers of more than 64 bits.
    return isinstance(value, float) or (isinstance(value, int) and -(2**63) <= value < 2**64)


def _encodable(value: object, limit: int) -> str:
    return str(value)[:limit].encode("utf-8", "backslashreplace").decode()


def _plain(value: object) -> str:
    text = str(value)[:_MAX_VALUE]
    if text.isprintable() and "\\" not in text:
        return text
    # The backslash too, so that no value can undo the quoting or pass for another one.
    return "".join(
        c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text
    )


def _quoted(value: object) -> str:
    text = _plain(value)
    if text and " " not in text and '"' not in text and "=" not in text:
        return text
    return '"' + text.replace('"', '\\"') + '"'
