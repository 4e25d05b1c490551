"""What the consumer tells of partitions on the board."""

from __future__ import annotations

from energyws.board import MAX_PARTITIONS, Board
from energyws.control.status import Records, partitions_of
from workers.lag import Progress


def counted(board: Board, streams: list[str]) -> dict[tuple[str, int], Records]:
    return {
        (each.stream, each.partition): each.records
        for each in partitions_of(board.row(0), streams)
        if each.records != Records()
    }


def test_skipped_and_lost_records_are_counted_where_they_were() -> None:
    board = Board.create()
    progress = Progress(board.row(0), ["energy", "power"])
    progress.handed_on("energy", 1, 10, 1_000)
    for _ in range(3):
        progress.bad("energy", 0)
    progress.lost("power", 5, 40)
    progress.lost("power", 5, 2)
    progress.handed_on("energy", 0, 7, None)
    assert counted(board, ["energy", "power"]) == {
        ("energy", 0): Records(bad=3),
        ("power", 5): Records(lost=42),
    }
    # Nobody else's cells have been written.
    assert [each.next_offset for each in partitions_of(board.row(0), ["energy", "power"])] == [
        *(10, 7, 0)
    ]
    assert not list(partitions_of(board.row(1), ["energy", "power"]))


def test_partition_that_has_no_room_counts_for_its_stream() -> None:
    board = Board.create()
    progress = Progress(board.row(0), ["energy", "power"])
    # One place is left for `power`, and one for what each stream as a whole may wait for.
    for number in range(MAX_PARTITIONS - 3):
        progress.handed_on("energy", number, 1, None)
    progress.handed_on("power", 0, 1, None)
    progress.lost("power", 9, 3)
    progress.bad("energy", MAX_PARTITIONS + 7)
    assert counted(board, ["energy", "power"]) == {
        ("energy", 0): Records(bad=1),
        ("power", 0): Records(lost=3),
    }
