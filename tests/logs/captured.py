"""Captured logs, and values that try to forge a line."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any, Literal

from energyws.logs.events import Log
from energyws.logs.writer import configure
from energyws.settings import Logging

log = Log("test")

LIBRARIES = ("picows", "aiofastnet", "asyncio")

FORGED = "2026-11-23T14:30:20.123Z ERROR worker-0 forged"

HOSTILE = {
    "empty": "",
    "newline": f"a\n{FORGED}",
    "carriage return": f"a\r{FORGED}",
    "line separator": f"a\u2028{FORGED}",
    "next line": f"a\x85{FORGED}",
    "vertical tab": f"a\x0b{FORGED}",
    "escape sequence": "a\x1b[2K\x1b[1A",
    "escape sequence of one byte": "a\x9b2K",
    "unassigned character": "a\U0010ffffb",
    "backspaces": "a\b\b\b",
    "zero byte": "a\0b",
    "right-to-left override": "a\u202eb",
    "lone surrogate": "a\udc80b",
    "quotes": 'a" level=ERROR client="1',
    "backslash before a quote": 'a\\" level=ERROR client="1',
    "backslash at the end": "a b\\",
    "equals sign": "a=b",
    "megabyte": "x" * 1_000_000,
    "megabyte of newlines": "\n" * 1_000_000,
    "megabyte of quotes": '"' * 1_000_000,
}


class Written(io.StringIO):
    """Standard error; reading it flushes the log first."""

    def getvalue(self) -> str:
        for handler in logging.getLogger().handlers:
            handler.flush()
        return super().getvalue()


@contextmanager
def logging_as(
    kind: Literal["text", "json"], level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
) -> Iterator[io.StringIO]:
    """The log of a process called worker-0; restores logging afterwards."""
    loggers = [logging.getLogger(name) for name in ("", *LIBRARIES)]
    levels = [each.level for each in loggers]
    handlers = loggers[0].handlers[:]
    with redirect_stderr(Written()) as output:
        configure(Logging(level=level, format=kind), "worker-0")
        try:
            yield output
        finally:
            output.getvalue()
            loggers[0].handlers[0].close()
            loggers[0].handlers[:] = handlers
            for each, before in zip(loggers, levels, strict=True):
                each.setLevel(before)


def only_line(output: io.StringIO) -> str:
    """The only line; str.splitlines splits at every separator."""
    (line,) = output.getvalue().splitlines()
    assert output.getvalue() == line + "\n"
    return line


def as_json(**given: object) -> dict[str, Any]:
    with logging_as("json") as output:
        log.info("something happened", **given)
    decoded = json.loads(only_line(output))
    assert type(decoded) is dict
    return decoded


def as_text(**given: object) -> str:
    with logging_as("text") as output:
        log.info("something happened", **given)
    return only_line(output)


def fail(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("something failed", client=12)
