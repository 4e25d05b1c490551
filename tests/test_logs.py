"""docs/logs.md lists exactly the events that the code writes."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

import pytest

from energyws.logs.formats import LIBRARY_EVENT
from tests.log_calls import ROOT, Call, log_calls

PAGE = (ROOT / "docs" / "logs.md").read_text()
# The keys of every line in JSON, which a field must not replace.
KEYS = ("time", "level", "process", "logger", "event")
CALLS = log_calls()


@dataclass(frozen=True)
class Entry:
    """One row of the table."""

    levels: frozenset[str]
    fields: tuple[str, ...]
    meaning: str
    advice: str


def documented() -> dict[tuple[str, str], Entry]:
    entries: dict[tuple[str, str], Entry] = {}
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 6 or not cells[0].startswith("`"):
            continue
        event, levels, logger, fields, meaning, advice = cells
        key = logger, event.strip("`")
        assert key not in entries, f"duplicate: {key}"
        entries[key] = Entry(
            frozenset(levels.split(", ")), tuple(filter(None, fields.split(", "))), meaning, advice
        )
    return entries


DOCUMENTED = documented()


def called() -> dict[tuple[str, str], list[Call]]:
    calls = defaultdict(list)
    for call in CALLS:
        calls[call.logger, call.event].append(call)
    return calls


def test_documented_events_are_those_of_the_code() -> None:
    assert set(DOCUMENTED) == {*called(), ("any", LIBRARY_EVENT)}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.where)
def test_level_and_fields_are_as_documented(call: Call) -> None:
    entry = DOCUMENTED[call.logger, call.event]
    levels = {level for other in called()[call.logger, call.event] for level in other.levels}
    assert levels == entry.levels
    assert call.fields == entry.fields
    assert entry.meaning
    assert entry.advice


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.where)
def test_no_field_replaces_a_key(call: Call) -> None:
    assert not set(call.fields) & set(KEYS)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", field) for field in call.fields)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.where)
def test_event_is_plain_text(call: Call) -> None:
    # Neither format quotes it, and it is a literal in a shell and in a regular expression.
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9 ,:._'-]*[a-z]", call.event)


@pytest.mark.parametrize(
    "call", [call for call in CALLS if call.logger == "session"], ids=lambda call: call.where
)
def test_events_of_a_session_have_client_and_subject(call: Call) -> None:
    assert {"client", "subject"} <= set(call.fields)
