"""The table of a session's life: complete, documented, and strict."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.websocket.clients.session_state import TRANSITIONS, Event, IllegalEvent, State, after

DOCS: Final = Path(__file__).parents[4] / "docs" / "architecture.md"


def test_every_state_can_be_reached_and_only_closed_is_final() -> None:
    assert set(TRANSITIONS) == set(State)
    reached, new = {State.NEW}, [State.NEW]
    while new:
        found = set(TRANSITIONS[new.pop()].values()) - reached
        reached |= found
        new += found
    assert reached == set(State)
    final = [state for state, row in TRANSITIONS.items() if set(row.values()) <= {state}]
    assert final == [State.CLOSED]


@given(st.lists(st.sampled_from(Event), max_size=20))
def test_no_event_leads_back_from_closing(events: list[Event]) -> None:
    state, closing = State.NEW, False
    for event in events:
        try:
            state = after(state, event)
        except IllegalEvent:
            continue
        closing = closing or event in (Event.CLOSE, Event.LOST)
        assert closing == (state in (State.CLOSING, State.CLOSED))


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (State.NEW, Event.CLOSE),
        (State.OPEN, Event.RESUME),
        (State.PAUSED, Event.PAUSE),
        (State.PAUSED, Event.UPGRADED),
        (State.CLOSED, Event.LOST),
    ],
)
def test_impossible_event_is_an_error(state: State, event: Event) -> None:
    with pytest.raises(IllegalEvent, match=f"{event.value} while {state.value}"):
        after(state, event)


def test_documented_table_matches_the_code() -> None:
    section = DOCS.read_text().partition("## A session's life\n")[2].partition("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    head, _, *body = rows
    documented = {
        (row[0], event): cell
        for row in body
        for event, cell in zip(head[1:], row[1:], strict=True)
        if cell
    }
    assert documented == {
        (state.value, event.value): after.value
        for state, events in TRANSITIONS.items()
        for event, after in events.items()
    }
    assert set(re.findall(r"^\* `(\w+)`", section, re.MULTILINE)) == {s.value for s in State}
