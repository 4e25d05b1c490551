"""The list of partitions on the board."""

from __future__ import annotations

from energyws.control.children.status import Records, partitions_of, records_of
from energyws.process.board import MAX_PARTITIONS, Board
from workers.consumer.progress import Progress

STREAMS = ["energy", "power"]


def counted(board: Board) -> dict[str, Records]:
    sums = dict.fromkeys(STREAMS, Records())
    for stream, records in records_of(board.row(0), STREAMS):
        sums[stream] += records
    return sums


def test_skipped_and_lost_records_are_counted_by_stream() -> None:
    board = Board.create()
    progress = Progress(board.row(0), STREAMS)
    progress.published("energy", 1, 10, 1_000)
    for _ in range(3):
        progress.skipped("energy", 0)
    progress.skipped("energy", 1)
    progress.lost("power", 5, 40)
    progress.lost("power", 5, 2)
    progress.published("energy", 0, 7, None)
    assert counted(board) == {"energy": Records(bad=4), "power": Records(lost=42)}
    # Nothing else was written.
    assert [each.next_offset for each in partitions_of(board.row(0), STREAMS)] == [10, 7, 0]
    assert not list(records_of(board.row(1), STREAMS))


def test_partitions_that_are_not_listed_count_for_their_stream() -> None:
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
