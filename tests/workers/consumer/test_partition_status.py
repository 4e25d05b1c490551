"""The list of partitions on the board: progress, stalls, and when a stream is served."""

from __future__ import annotations

import pytest

from energyws.control.children.status import Records, partitions_of, records_of, stalls_of
from energyws.process.board import MAX_PARTITIONS, Board, Field, Row
from energyws.process.stalls import WHOLE, Stall
from workers.consumer.partition_status import SILENCE_SECONDS, Progress, StallTracker

STREAMS = ["energy", "power"]


def counted(board: Board) -> dict[str, Records]:
    sums = dict.fromkeys(STREAMS, Records())
    for stream, records in records_of(board.row(0), STREAMS):
        sums[stream] += records
    return sums


def test_records_that_went_wrong_are_counted_by_stream() -> None:
    board = Board.create()
    progress = Progress(board.row(0), STREAMS)
    progress.published("energy", 1, 10, 1_000)
    for _ in range(3):
        progress.skipped("energy", 0)
    progress.skipped("energy", 1)
    progress.lost("power", 5, 40)
    progress.lost("power", 5, 2)
    progress.unkeyed("power", 5)
    progress.published("energy", 0, 7, None)
    assert counted(board) == {"energy": Records(bad=4), "power": Records(lost=42, unkeyed=1)}
    # Nothing else was written.
    assert [each.next_offset for each in partitions_of(board.row(0), STREAMS)] == [10, 7, 0]
    assert not list(records_of(board.row(1), STREAMS))


def test_unlisted_partitions_count_for_their_stream() -> None:
    board = Board.create()
    progress = Progress(board.row(0), STREAMS)
    for number in range(MAX_PARTITIONS):
        progress.published("energy", number, 1, None)
    listed = list(partitions_of(board.row(0), STREAMS))
    progress.lost("power", 9, 3)
    progress.skipped("energy", MAX_PARTITIONS + 7)
    progress.skipped("energy", 0)
    assert counted(board) == {"energy": Records(bad=2), "power": Records(lost=3)}
    assert list(partitions_of(board.row(0), STREAMS)) == listed


class Stage:
    def __init__(self) -> None:
        self.now = 100.0
        self.row: Row = Board.create().row(0)
        self.progress = Progress(self.row, ["a", "b"])
        self.tracker = StallTracker(self.progress, 30.0, lambda: self.now)

    def listed(self, seconds: float = 0.0) -> list[tuple[str, int, Stall]]:
        """The stalls on the board, `seconds` later."""
        self.now += seconds
        self.tracker.update_board()
        return sorted(stalls_of(self.row, ["a", "b"]))


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_stream_is_served_once_every_partition_has_reported(stage: Stage) -> None:
    tracker = stage.tracker
    assert not tracker.serves("a")
    tracker.restart("a", 2)
    tracker.heard([("a", 0)])
    assert (stage.listed(), tracker.serves("a")) == ([], False)
    tracker.heard([("a", 1)])
    assert (stage.listed(), tracker.serves("a")) == ([], True)


def test_partition_with_a_known_stall_does_not_delay_the_others(stage: Stage) -> None:
    tracker = stage.tracker
    tracker.replace_metadata("a", {1: Stall.NO_LEADER})
    tracker.restart("a", 3)
    tracker.heard([("a", 0)])
    assert not tracker.serves("a")
    tracker.fetch_failed("a", 2, Stall.NOT_ALLOWED)
    assert tracker.serves("a")
    assert stage.listed() == [("a", 1, Stall.NO_LEADER), ("a", 2, Stall.NOT_ALLOWED)]
    tracker.replace_metadata("a", {})
    tracker.heard([("a", 1), ("a", 2)])
    assert (stage.listed(), tracker.serves("a")) == ([], True)


def test_stream_without_any_readable_partition_is_not_served(stage: Stage) -> None:
    stage.tracker.restart("a", 2)
    for partition in range(2):
        stage.tracker.fetch_failed("a", partition, Stall.NOT_ALLOWED)
    assert not stage.tracker.serves("a")


def test_silence_becomes_a_stall_after_a_while(stage: Stage) -> None:
    stage.tracker.restart("a", 2)
    stage.tracker.heard([("a", 0)])
    assert stage.listed(SILENCE_SECONDS / 2) == []
    assert stage.listed(SILENCE_SECONDS) == [("a", 1, Stall.NO_ANSWER)]
    assert stage.tracker.serves("a")
    # The metadata give a more precise reason.
    stage.tracker.replace_metadata("a", {1: Stall.NO_LEADER})
    assert stage.listed() == [("a", 1, Stall.NO_LEADER)]
    stage.tracker.replace_metadata("a", {})
    stage.tracker.heard([("a", 1)])
    assert stage.listed() == []


def test_stream_waits_for_an_added_partition(stage: Stage) -> None:
    stage.tracker.restart("a", 1)
    stage.tracker.heard([("a", 0)])
    stage.tracker.add_partition("a")
    assert not stage.tracker.serves("a")
    stage.tracker.heard([("a", 1)])
    assert stage.tracker.serves("a")


def test_restarted_stream_waits_for_every_partition_again(stage: Stage) -> None:
    stage.tracker.restart("a", 2)
    stage.tracker.fetch_failed("a", 1, Stall.FAILS)
    stage.tracker.heard([("a", 0)])
    stage.tracker.restart("a", 1)
    assert (stage.listed(), stage.tracker.serves("a")) == ([], False)


def test_stalls_of_one_stream_do_not_affect_the_others(stage: Stage) -> None:
    stage.tracker.replace_metadata("a", {WHOLE: Stall.NO_TOPIC})
    stage.tracker.replace_metadata("b", {0: Stall.NO_LEADER})
    assert stage.listed() == [("a", WHOLE, Stall.NO_TOPIC), ("b", 0, Stall.NO_LEADER)]
    stage.tracker.replace_metadata("a", {})
    assert stage.listed() == [("b", 0, Stall.NO_LEADER)]
    # The entry of a stream as a whole is not one of its partitions.
    assert [(each.stream, each.partition) for each in partitions_of(stage.row, ["a", "b"])] == [
        ("b", 0)
    ]


def test_stall_of_a_stream_as_a_whole_is_always_listed(stage: Stage) -> None:
    for partition in range(MAX_PARTITIONS):
        stage.progress.published("a", partition, 1, None)
    stage.tracker.replace_metadata("a", {WHOLE: Stall.TOO_MANY_PARTITIONS})
    stage.tracker.replace_metadata("b", {WHOLE: Stall.NO_TOPIC})
    assert stage.listed() == [
        ("a", WHOLE, Stall.TOO_MANY_PARTITIONS),
        ("b", WHOLE, Stall.NO_TOPIC),
    ]
    assert stage.row[Field.UNLISTED_WAITS] == 0


def test_stalls_that_do_not_fit_on_the_board_are_counted(stage: Stage) -> None:
    for partition in range(MAX_PARTITIONS):
        stage.progress.published("a", partition, 1, None)
    stage.tracker.replace_metadata("b", {0: Stall.NO_LEADER, 1: Stall.NO_LEADER})
    stage.tracker.replace_metadata("a", {0: Stall.NO_LEADER})
    assert stage.listed() == [("a", 0, Stall.NO_LEADER)]
    assert stage.row[Field.UNLISTED_WAITS] == 2
    stage.tracker.replace_metadata("b", {})
    stage.listed()
    assert stage.row[Field.UNLISTED_WAITS] == 0


def test_wait_for_a_schema_becomes_a_stall_after_its_time(stage: Stage) -> None:
    stage.tracker.restart("a", 2)
    stage.tracker.heard([("a", 0)])
    stage.tracker.schema_awaited("a", 1)
    # Its broker has answered, and some seconds are usual.
    assert stage.listed(SILENCE_SECONDS + 1) == []
    assert (stage.row[Field.SCHEMA_WAITS], stage.tracker.serves("a")) == (1, False)
    stage.tracker.schema_awaited("a", 1)
    assert stage.listed(30.0) == [("a", 1, Stall.NO_SCHEMA)]
    assert stage.tracker.serves("a")
    assert stage.tracker.heard([("a", 1)])
    assert (stage.listed(), stage.row[Field.SCHEMA_WAITS]) == ([], 0)


def test_other_news_end_a_wait_for_a_schema(stage: Stage) -> None:
    stage.tracker.restart("a", 1)
    stage.tracker.schema_awaited("a", 0)
    stage.tracker.fetch_failed("a", 0, Stall.FAILS)
    assert (stage.listed(60), stage.row[Field.SCHEMA_WAITS]) == ([("a", 0, Stall.FAILS)], 0)
    stage.tracker.schema_awaited("a", 0)
    stage.tracker.restart("a", 1)
    assert stage.row[Field.SCHEMA_WAITS] == 0
