"""No value, exception or library message makes more than one line, or forges one."""

from __future__ import annotations

import json
import logging
import re
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.logs.captured import FORGED, HOSTILE, as_json, as_text, fail, log, logging_as, only_line

BEGINNING = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR) worker-0 "
)

# name=value; the value is bare, or quoted with backslash escapes.
FIELD = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|[^ "=]+)')

# With surrogates: undecodable bytes of a header are decoded to them.
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
def test_one_event_is_one_line_of_text(given: dict[str, object]) -> None:
    line = as_text(**given)

    rest = line[BEGINNING.match(line).end() :]  # type: ignore[union-attr]
    assert line.isprintable()
    assert [match.group(1) for match in FIELD.finditer(rest)] == list(given)
    assert rest == "something happened" + "".join(m.group() for m in FIELD.finditer(rest))


@given(fields)
def test_one_event_is_one_line_of_json(given: dict[str, object]) -> None:
    decoded = as_json(**given)

    assert list(decoded) == ["time", "level", "process", "logger", "event", *given]


@given(strings)
def test_quoted_text_can_be_read_back(value: str) -> None:
    ((_, text),) = FIELD.findall(as_text(detail=value), 40)
    bare = text[1:-1].replace('\\"', '"') if text.startswith('"') else text

    # Every backslash begins an escape; printable characters are unchanged.
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
def test_integer_of_more_than_64_bits_is_a_string_in_json(number: int) -> None:
    assert as_json(amount=number)["amount"] == str(number)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")], ids=str)
def test_number_that_json_cannot_represent_is_null(number: float) -> None:
    assert as_json(amount=number)["amount"] is None


@pytest.mark.parametrize("kind", ["text", "json"])
def test_message_of_a_library_is_one_line(kind: Literal["text", "json"]) -> None:
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
