"""What is waited for, and when what can be read is all that there is to serve."""

from __future__ import annotations

import pytest

from energyws.control.children.status import partitions_of, stalls_of
from energyws.process.board import MAX_PARTITIONS, Board, Field, Row
from energyws.process.stalls import WHOLE, Stall
from workers.consumer.progress import Progress
from workers.consumer.stall_tracker import STALLED_SECONDS, StallTracker


class Stage:
    def __init__(self) -> None:
        self.now = 100.0
        self.row: Row = Board.create().row(0)
        self.progress = Progress(self.row, ["a", "b"])
        self.waiting = StallTracker(self.progress, lambda: self.now)

    def told(self, seconds: float = 0.0) -> list[tuple[str, int, Stall]]:
        """What the board says, once so much time has passed."""
        self.now += seconds
        self.waiting.tell()
        return sorted(stalls_of(self.row, ["a", "b"]))


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_a_stream_is_served_once_every_partition_has_been_heard(stage: Stage) -> None:
    waiting = stage.waiting
    assert not waiting.serves("a")
    waiting.found("a", 2)
    waiting.heard([("a", 0)])
    assert (stage.told(), waiting.serves("a")) == ([], False)
    waiting.heard([("a", 1)])
    assert (stage.told(), waiting.serves("a")) == ([], True)


def test_a_partition_with_a_reason_holds_nobody_up(stage: Stage) -> None:
    waiting = stage.waiting
    waiting.looked("a", {1: Stall.NO_LEADER})
    waiting.found("a", 3)
    waiting.heard([("a", 0)])
    assert not waiting.serves("a")
    waiting.trouble("a", 2, Stall.NOT_ALLOWED)
    assert waiting.serves("a")
    assert stage.told() == [("a", 1, Stall.NO_LEADER), ("a", 2, Stall.NOT_ALLOWED)]
    waiting.looked("a", {})
    waiting.heard([("a", 1), ("a", 2)])
    assert (stage.told(), waiting.serves("a")) == ([], True)


def test_of_which_nothing_can_be_read_it_serves_nothing(stage: Stage) -> None:
    stage.waiting.found("a", 2)
    for partition in range(2):
        stage.waiting.trouble("a", partition, Stall.NOT_ALLOWED)
    assert not stage.waiting.serves("a")


def test_silence_is_a_reason_after_a_while(stage: Stage) -> None:
    stage.waiting.found("a", 2)
    stage.waiting.heard([("a", 0)])
    assert stage.told(STALLED_SECONDS / 2) == []
    assert stage.told(STALLED_SECONDS) == [("a", 1, Stall.NO_ANSWER)]
    assert stage.waiting.serves("a")
    # Metadata know better.
    stage.waiting.looked("a", {1: Stall.NO_LEADER})
    assert stage.told() == [("a", 1, Stall.NO_LEADER)]
    stage.waiting.looked("a", {})
    stage.waiting.heard([("a", 1)])
    assert stage.told() == []


def test_a_partition_that_is_added_is_waited_for(stage: Stage) -> None:
    stage.waiting.found("a", 1)
    stage.waiting.heard([("a", 0)])
    stage.waiting.grown("a")
    assert not stage.waiting.serves("a")
    stage.waiting.heard([("a", 1)])
    assert stage.waiting.serves("a")


def test_a_stream_that_starts_over_is_unheard_again(stage: Stage) -> None:
    stage.waiting.found("a", 2)
    stage.waiting.trouble("a", 1, Stall.FAILS)
    stage.waiting.heard([("a", 0)])
    stage.waiting.found("a", 1)
    assert (stage.told(), stage.waiting.serves("a")) == ([], False)


def test_what_is_said_of_a_stream_leaves_the_others_alone(stage: Stage) -> None:
    stage.waiting.looked("a", {WHOLE: Stall.NO_TOPIC})
    stage.waiting.looked("b", {0: Stall.NO_LEADER})
    assert stage.told() == [("a", WHOLE, Stall.NO_TOPIC), ("b", 0, Stall.NO_LEADER)]
    stage.waiting.looked("a", {})
    assert stage.told() == [("b", 0, Stall.NO_LEADER)]
    # An entry about a stream is no partition of it.
    assert [(each.stream, each.partition) for each in partitions_of(stage.row, ["a", "b"])] == [
        ("b", 0)
    ]


def test_what_a_stream_as_a_whole_waits_for_is_always_listed(stage: Stage) -> None:
    for partition in range(MAX_PARTITIONS):
        stage.progress.handed_on("a", partition, 1, None)
    stage.waiting.looked("a", {WHOLE: Stall.TOO_MANY_PARTITIONS})
    stage.waiting.looked("b", {WHOLE: Stall.NO_TOPIC})
    assert stage.told() == [
        ("a", WHOLE, Stall.TOO_MANY_PARTITIONS),
        ("b", WHOLE, Stall.NO_TOPIC),
    ]
    assert stage.row[Field.UNLISTED_WAITS] == 0


def test_waits_beyond_what_the_board_lists_are_counted(stage: Stage) -> None:
    for partition in range(MAX_PARTITIONS):
        stage.progress.handed_on("a", partition, 1, None)
    stage.waiting.looked("b", {0: Stall.NO_LEADER, 1: Stall.NO_LEADER})
    stage.waiting.looked("a", {0: Stall.NO_LEADER})
    assert stage.told() == [("a", 0, Stall.NO_LEADER)]
    assert stage.row[Field.UNLISTED_WAITS] == 2
    stage.waiting.looked("b", {})
    stage.told()
    assert stage.row[Field.UNLISTED_WAITS] == 0
