"""The table of a process's life: complete, intended, and as documented."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.control.policy.lifecycle import (
    ASKED_TO,
    CONDEMNED,
    CURRENT,
    SUCCESSOR,
    TABLE,
    Event,
    Stage,
    after,
)
from energyws.process.control_messages import ShutdownMode
from tests.test_docs import table

ARCHITECTURE: Final = Path(__file__).parent.parent.parent.parent / "docs" / "architecture.md"
FIRST: Final = (Stage.STARTING, Stage.WARMING)
RUNNING: Final = frozenset(Stage) - {Stage.ENDED}
IN_PLACE: Final = CURRENT | SUCCESSOR
# The stages in which each event can happen; in any other it is a fault of the fleet.
LEGAL: Final = {
    Event.READY: RUNNING,
    Event.DRAINS: RUNNING,
    Event.EXIT: RUNNING,
    Event.PROMOTE: SUCCESSOR,
    Event.SET_ASIDE: {Stage.QUITTING},
    Event.RETIRE: IN_PLACE,
    Event.HAND_OVER: {
        *(Stage.STARTING, Stage.SERVING, Stage.KILLED),
        *(Stage.LEAVING, Stage.RETIRING),
    },
    Event.STOP: RUNNING - {Stage.STOPPING, Stage.OVERDUE},
    Event.KILL: RUNNING - CONDEMNED,
}


@pytest.mark.parametrize("event", Event, ids=lambda event: event.value)
@pytest.mark.parametrize("stage", Stage, ids=lambda stage: stage.value)
def test_each_event_leads_somewhere_or_is_illegal_on_purpose(stage: Stage, event: Event) -> None:
    if stage in LEGAL[event]:
        assert after(stage, event) in Stage
    else:
        with pytest.raises(ValueError, match=f"{stage.value} cannot {event.value}"):
            after(stage, event)


def test_each_stage_can_be_reached_and_left() -> None:
    reached = set(FIRST)
    while more := {after for stage in reached for after in TABLE[stage].values()} - reached:
        reached |= more
    assert reached == set(Stage) == TABLE.keys()
    assert TABLE[Stage.ENDED] == {}


def test_each_shutdown_mode_is_an_event() -> None:
    assert ASKED_TO.keys() == set(ShutdownMode)


@given(st.sampled_from(FIRST), st.lists(st.sampled_from(Event)))
def test_no_process_returns_to_an_earlier_role(stage: Stage, events: list[Event]) -> None:
    for event in events:
        before = stage
        if event not in TABLE[stage]:
            continue
        stage = after(stage, event)
        if before in CONDEMNED:
            assert stage in CONDEMNED | {Stage.ENDED}
        if before not in IN_PLACE:
            assert stage not in IN_PLACE
        if before in CURRENT:
            assert stage not in SUCCESSOR
        if event is Event.EXIT:
            assert stage is Stage.ENDED
        if event is Event.KILL:
            assert stage in CONDEMNED


def test_documented_table_is_that_of_the_code() -> None:
    def moves(stage: Stage) -> str:
        return ", ".join(
            f"{event.value} → {TABLE[stage][event].value}"
            for event in Event
            if event is not Event.EXIT and TABLE[stage].get(event, stage) is not stage
        )

    rows = table(ARCHITECTURE.read_text(), "## A child's life")
    assert [(stage, events) for stage, _, events in rows] == [
        (stage.value, moves(stage)) for stage in Stage if stage is not Stage.ENDED
    ]
