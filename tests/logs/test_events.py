from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.logs.events import Log, Recent, adjust, configure
from energyws.settings import Logging as LogSettings

log = Log("test")

LIBRARIES = ("picows", "aiofastnet", "asyncio")
BEGINNING = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) worker-0 "
)
# A field is a name, and a value that is bare or quoted with backslashes inside.
FIELD = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|[^ "=]+)')
FORGED = "2026-11-23T14:30:20.123Z ERROR worker-0 forged"

# Surrogates too: that is what undecodable bytes of a header become.
strings = st.text(st.characters(exclude_categories=()), max_size=30)
values = (
    strings
    | st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.binary(max_size=20)
    | st.lists(strings, max_size=3)
)
fields = st.dictionaries(st.sampled_from(["client", "subject", "detail"]), values)

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
    """A log; whoever looks at it sees all that was logged before."""

    def getvalue(self) -> str:
        for handler in logging.getLogger().handlers:
            handler.flush()
        return super().getvalue()


@contextmanager
def logging_as(
    kind: Literal["text", "json"], level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
) -> Iterator[io.StringIO]:
    """What a process called worker-0 logs; afterwards everything is as it was."""
    loggers = [logging.getLogger(name) for name in ("", *LIBRARIES)]
    levels = [each.level for each in loggers]
    handlers = loggers[0].handlers[:]
    with redirect_stderr(Written()) as output:
        configure(LogSettings(level=level, format=kind), "worker-0")
        try:
            yield output
        finally:
            output.getvalue()
            loggers[0].handlers[0].close()
            loggers[0].handlers[:] = handlers
            for each, before in zip(loggers, levels, strict=True):
                each.setLevel(before)


def only_line(output: io.StringIO) -> str:
    """The one line; what ends lines elsewhere counts, too."""
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


def test_notice_is_written_whatever_the_level() -> None:
    with logging_as("json", "ERROR") as output:
        log.info("hidden")
        log.notice("log level changed", now="ERROR")

    decoded = json.loads(only_line(output))
    assert (decoded["level"], decoded["event"]) == ("INFO", "log level changed")


@pytest.mark.parametrize("kind", ["text", "json"])
def test_level_and_form_change_in_mid_run(kind: Literal["text", "json"]) -> None:
    other: Literal["text", "json"] = "json" if kind == "text" else "text"
    with logging_as(kind) as output:
        log.debug("hidden")
        adjust(LogSettings(level="DEBUG", format=other), "worker-0")
        log.debug("shown")

    line = only_line(output)
    assert line.startswith("{") == (other == "json")
    assert "shown" in line


def fail(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("something failed", client=12)


def test_text_is_time_level_process_event_and_fields() -> None:
    line = as_text(client=12, subject="me", detail="two words", ratio=0.5, known=True, token=None)

    assert BEGINNING.match(line)
    assert line.endswith(
        " INFO worker-0 something happened"
        ' client=12 subject=me detail="two words" ratio=0.5 known=True token=None'
    )


def test_json_has_time_level_process_logger_event_and_fields() -> None:
    decoded = as_json(client=12, subject="me", ratio=0.5, known=True, detail=None)

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", decoded.pop("time"))
    assert list(decoded.items()) == [
        ("level", "INFO"),
        ("process", "worker-0"),
        ("logger", "test"),
        ("event", "something happened"),
        ("client", 12),
        ("subject", "me"),
        ("ratio", 0.5),
        ("known", True),
        ("detail", None),
    ]


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_value_makes_one_short_line_of_text(value: str) -> None:
    line = as_text(subject=value, client=12)

    begin = line.index(" subject=")
    assert line.isprintable()
    assert line.isascii()
    assert len(line) < 6000
    assert [name for name, _ in FIELD.findall(line, begin)] == ["subject", "client"]
    assert "".join(match.group() for match in FIELD.finditer(line, begin)) == line[begin:]


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_value_makes_one_short_line_of_json(value: str) -> None:
    with logging_as("json") as output:
        log.info("something happened", subject=value)

    assert only_line(output).isprintable()
    decoded = json.loads(output.getvalue())
    assert decoded["event"] == "something happened"
    assert decoded["subject"] == value[:500].replace("\udc80", "\\udc80")


@given(fields)
def test_whatever_the_values_one_event_is_one_line_of_text(given: dict[str, object]) -> None:
    line = as_text(**given)

    rest = line[BEGINNING.match(line).end() :]  # type: ignore[union-attr]
    assert line.isprintable()
    assert [match.group(1) for match in FIELD.finditer(rest)] == list(given)
    assert rest == "something happened" + "".join(m.group() for m in FIELD.finditer(rest))


@given(fields)
def test_whatever_the_values_one_event_is_one_line_of_json(given: dict[str, object]) -> None:
    decoded = as_json(**given)

    assert list(decoded) == ["time", "level", "process", "logger", "event", *given]


@given(strings)
def test_quoted_text_can_be_read_back(value: str) -> None:
    ((_, text),) = FIELD.findall(as_text(detail=value), 40)
    bare = text[1:-1].replace('\\"', '"') if text.startswith('"') else text

    # Every backslash begins an escape; what is printable stands for itself.
    assert value == re.sub(
        r"\\(?:x..|u....|U........|.)",
        lambda match: match.group().encode().decode("unicode_escape"),
        bare,
    )


@pytest.mark.parametrize(
    "number", [0, -1, 2**53 + 1, 2**63, 2**64 - 1, -(2**63), 1.1, True], ids=str
)
def test_numbers_stay_numbers_in_json(number: float) -> None:
    value = as_json(amount=number)["amount"]

    assert (type(value), value) == (type(number), number)


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**30], ids=str)
def test_number_that_json_could_not_carry_is_text(number: int) -> None:
    assert as_json(amount=number)["amount"] == str(number)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")], ids=str)
def test_number_that_json_has_not_is_null(number: float) -> None:
    assert as_json(amount=number)["amount"] is None


def test_percent_signs_are_no_placeholders() -> None:
    with logging_as("text") as output:
        log.info("100%s done %(x)d", rate="5%d")

    assert only_line(output).endswith("100%s done %(x)d rate=5%d")


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        ("DEBUG", ["DEBUG", "INFO", "WARNING", "ERROR"]),
        ("INFO", ["INFO", "WARNING", "ERROR"]),
        ("WARNING", ["WARNING", "ERROR"]),
        ("ERROR", ["ERROR"]),
    ],
)
def test_level_is_the_least_that_is_shown(
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"], shown: list[str]
) -> None:
    with logging_as("json", level) as output:
        log.debug("one")
        log.info("two")
        log.warning("three")
        log.error("four")

    assert [json.loads(line)["level"] for line in output.getvalue().splitlines()] == shown


@pytest.mark.parametrize("library", ["aiofastnet", "asyncio"])
def test_library_is_heard_only_when_something_fails(library: str) -> None:
    with logging_as("text", "DEBUG") as output:
        logging.getLogger(library).warning("slow")
        logging.getLogger(library).error("failed")

    line = only_line(output)
    assert line.endswith(f" ERROR worker-0 library reports library={library} says=failed")


def test_library_that_repeats_what_clients_send_is_not_heard() -> None:
    with logging_as("text", "DEBUG") as output:
        logging.getLogger("picows.server").error("GET /ws/energy?token=canary")

    assert output.getvalue() == ""


@pytest.mark.parametrize("kind", ["text", "json"])
def test_message_of_a_library_is_one_line_too(kind: Literal["text", "json"]) -> None:
    with logging_as(kind) as output:
        logging.getLogger("library").warning("lost %s", f"a\n{FORGED}\x1b\udc80" + "x" * 1_000_000)

    assert len(only_line(output)) < 1000


def test_traceback_is_a_field_in_json() -> None:
    with logging_as("json") as output:
        fail(f"a\n{FORGED}")

    decoded = json.loads(only_line(output))
    assert (decoded["level"], decoded["event"], decoded["client"]) == (
        "ERROR",
        "something failed",
        12,
    )
    assert decoded["traceback"].startswith("Traceback (most recent call last):\n")
    assert decoded["traceback"].endswith(f"\nValueError: a\n{FORGED}")


def test_traceback_is_indented_in_text() -> None:
    with logging_as("text") as output:
        fail("broken")

    event, *traceback = output.getvalue().splitlines()
    assert event.endswith(" ERROR worker-0 something failed client=12")
    assert traceback[0] == "  Traceback (most recent call last):"
    assert traceback[-1] == "  ValueError: broken"


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_no_exception_can_forge_an_event_in_text(text: str) -> None:
    with logging_as("text") as output:
        fail(text)

    _, *traceback = output.getvalue().splitlines()
    assert all(line.startswith("  ") and line.isprintable() for line in traceback)


@pytest.mark.parametrize("kind", ["text", "json"])
@pytest.mark.parametrize("text", ["x" * 1_000_000, "\n" * 1_000_000], ids=["one line", "lines"])
def test_traceback_is_bounded(kind: Literal["text", "json"], text: str) -> None:
    with logging_as(kind) as output:
        fail(text)

    assert len(output.getvalue()) < 100_000


def test_a_log_that_nobody_reads_blocks_nobody() -> None:
    reading, writing = os.pipe()
    received: list[str] = []
    with os.fdopen(reading) as pipe, open(writing, "w") as blocked, redirect_stderr(blocked):
        before = logging.getLogger().handlers[:]
        configure(LogSettings(), "worker-0")
        (handler,) = logging.getLogger().handlers
        try:
            # Far more than a pipe and the queue hold; this returns, or the test never ends.
            for number in range(3000):
                log.info("event", number=number, **{f"filling{i}": "x" * 400 for i in range(10)})
            while not received or "count=" not in received[-1]:
                received.append(pipe.readline())
        finally:
            logging.getLogger().handlers[:] = before
            handler.close()
    kept = [line for line in received if "number=" in line]
    dropped = int(received[-1].rpartition("count=")[2])
    assert dropped > 0
    assert len(kept) + dropped == 3000


def test_a_crowd_that_leaves_at_once_loses_no_line() -> None:
    reading, writing = os.pipe()
    received: list[str] = []
    with os.fdopen(reading) as pipe, open(writing, "w") as read, redirect_stderr(read):
        reader = threading.Thread(target=lambda: received.extend(pipe))
        reader.start()
        before = logging.getLogger().handlers[:]
        configure(LogSettings(), "worker-0")
        (handler,) = logging.getLogger().handlers
        try:
            for number in range(10_000):
                log.info("WebSocket client disconnected", client=number, subject="me")
            deadline = time.monotonic() + 20
            while len(received) < 10_000 and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            logging.getLogger().handlers[:] = before
            handler.flush()
            handler.close()
            read.close()
            reader.join()
    assert len(received) == 10_000
    assert all(" WebSocket client disconnected " in line for line in received)


class Full(Written):
    """A disk that is full at first, or a stream with another trouble."""

    def __init__(self, trouble: Exception) -> None:
        super().__init__()
        self.refusals = 3
        self._trouble = trouble

    def write(self, text: str) -> int:
        if self.refusals:
            self.refusals -= 1
            raise self._trouble
        return super().write(text)


@pytest.mark.parametrize(
    "trouble",
    [OSError(errno.ENOSPC, "No space left on device"), MemoryError(), RuntimeError("of its own")],
    ids=["full disk", "no memory", "anything"],
)
def test_a_log_that_cannot_be_written_goes_on_when_it_can(trouble: Exception) -> None:
    before = logging.getLogger().handlers[:]
    with redirect_stderr(Full(trouble)) as output:
        configure(LogSettings(), "worker-0")
        (handler,) = logging.getLogger().handlers
        try:
            for number in range(5):
                log.info("event", number=number)
                # Lines of the same moment share a write, and its fate.
                handler.flush()
            lines = output.getvalue().splitlines()
        finally:
            logging.getLogger().handlers[:] = before
            handler.close()
    assert [line.rpartition(" ")[2] for line in lines] == ["number=3", "number=4"]


def test_newest_events_are_kept_for_so_long() -> None:
    recent = Recent("supervisor", 2)
    logger = logging.getLogger("energyws.test")
    before = logger.level
    logger.setLevel(logging.INFO)
    try:
        with recent.kept():
            for number in range(3):
                log.info("child started", child=f"worker-{number}\n", pid=number)
        log.info("not kept")
    finally:
        logger.setLevel(before)
    events = recent.events()
    assert [event.pop("time") for event in events] == sorted(
        event["time"] for event in recent.events()
    )
    assert events == [
        {
            "level": "INFO",
            "process": "supervisor",
            "logger": "test",
            "event": "child started",
            "child": f"worker-{number}\n",
            "pid": number,
        }
        for number in (1, 2)
    ]
