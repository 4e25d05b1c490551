"""The places of a slot follow from the stages of its processes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.control.policy.heartbeat import Beat, Heartbeat
from energyws.control.policy.lifecycle import CURRENT, SUCCESSOR, Event, Stage
from energyws.control.policy.restarts import Restarts
from energyws.control.policy.slots import Slot, SlotProcess, worker_name
from energyws.process.board import State


def slot(*stages: Stage) -> Slot:
    made = Slot(worker_name(3), 3, Restarts("worker-3", lambda: 0.0))
    made.processes = [
        SlotProcess(number, stage, Heartbeat(0.0)) for number, stage in enumerate(stages)
    ]
    return made


@given(
    st.sampled_from(sorted(CURRENT, key=str)),
    st.sampled_from(sorted(SUCCESSOR, key=str)),
    st.lists(st.sampled_from(sorted(set(Stage) - CURRENT - SUCCESSOR, key=str)), max_size=3),
)
def test_each_process_has_one_place(current: Stage, successor: Stage, leaving: list[Stage]) -> None:
    made = slot(*leaving, current, successor)
    *former, own, next_ = made.processes
    assert made.current is own
    assert made.successor is next_
    assert made.leaving == former
    assert made.serving is (own if current is Stage.SERVING else None)


def test_empty_slot_has_no_process() -> None:
    made = slot()
    assert (made.current, made.serving, made.successor, made.leaving) == (None, None, None, [])


def test_process_takes_its_figures_from_the_beat() -> None:
    (process,) = slot(Stage.STARTING).processes
    process.see(Beat(State.STARTING, 1, 0.0, connections=3, full=True))
    assert (process.stage, process.connections, process.full) == (Stage.STARTING, 3, True)
    process.see(Beat(State.READY, 2, 0.0, connections=4))
    assert (process.stage, process.connections, process.full) == (Stage.SERVING, 4, False)
    process.see(Beat(State.DRAINING, 3, 0.0))
    assert process.stage is Stage.QUITTING


def test_only_a_killed_process_is_condemned() -> None:
    (process,) = slot(Stage.SERVING).processes
    assert not process.condemned
    process.on(Event.KILL)
    assert process.condemned
    with pytest.raises(ValueError, match="a process that is killed cannot kill"):
        process.on(Event.KILL)
