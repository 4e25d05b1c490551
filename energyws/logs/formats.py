"""The two forms of a log line: text (logfmt) and JSON.

No control character reaches a line, so no value can forge another event.
"""

from __future__ import annotations

import json
import logging
from typing import Any, Final

import orjson

from energyws.logs.events import FIELDS, LOGGER_PREFIX
from energyws.protocol.frame import rfc3339
from energyws.settings import Logging

# The event of a library's message, which becomes a field.
LIBRARY_EVENT: Final = "library reports"
# Characters: enough for any honest value, while a hostile one cannot fill the disk.
_MAX_VALUE: Final = 500
_MAX_TRACEBACK: Final = 20_000


def formatter(settings: Logging, process: str) -> logging.Formatter:
    return JsonFormatter(process) if settings.format == "json" else TextFormatter(process)


class _Formatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process


class TextFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event, fields = _event(record)
        time = rfc3339(int(record.created * 1000))
        trace = fields.pop("traceback", None)
        pairs = (f"{key}={_quoted(value)}" for key, value in fields.items())
        line = " ".join((time, record.levelname, self._process, _plain(event), *pairs))
        if trace:
            # Indented: only an event begins at the left margin, whatever an exception's text says.
            lines = trace[:_MAX_TRACEBACK].splitlines()
            line += "".join(f"\n  {_plain(each)}" for each in lines)
        return line


class JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event, fields = _event(record)
        line: dict[str, object] = {
            "time": rfc3339(int(record.created * 1000)),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name.removeprefix(LOGGER_PREFIX),
            "event": _encodable(event, _MAX_VALUE),
        }
        for key, value in fields.items():
            limit = _MAX_TRACEBACK if key == "traceback" else _MAX_VALUE
            line[key] = value if _is_json_value(value) else _encodable(value, limit)
        text = orjson.dumps(line).decode()
        # JSON allows C1 controls and line separators unescaped; terminals and line readers act on
        # them.
        if text.isprintable():
            return text
        return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _event(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """Event text and fields; a traceback is a field."""
    fields = getattr(record, FIELDS, None)
    if fields is None:
        event, fields = LIBRARY_EVENT, {"library": record.name, "says": record.getMessage()}
    else:
        event, fields = record.getMessage(), dict(fields)
    if record.exc_info:
        fields["traceback"] = logging.Formatter().formatException(record.exc_info)
    return event, fields


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
    # Backslashes are escaped too: a value must neither undo the quoting nor imitate another value.
    return "".join(
        c if c.isprintable() and c != "\\" else c.encode("unicode_escape").decode() for c in text
    )


def _quoted(value: object) -> str:
    text = _plain(value)
    if text and " " not in text and '"' not in text and "=" not in text:
        return text
    return '"' + text.replace('"', '\\"') + '"'
