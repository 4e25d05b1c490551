"""A Status is read from the board; metrics of it: tests/control/admin."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import psutil
import pytest

from energyws.control.children.status import (
    PartitionStatus,
    Records,
    keys_fetched,
    partitions_of,
    records_of,
    stalls_of,
    usage_of,
)
from energyws.process.board import Board, Field, PartitionField, Row, issuer_id
from energyws.process.io_uring import IoUring
from energyws.process.stalls import WHOLE, Stall
from energyws.settings import Issuer
from tests.control.documents import Child, document

STREAMS = ["energy", "water"]


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board.create()
    yield made
    made.close()


@pytest.fixture
def row(board: Board) -> Row:
    """A consumer's row with two partitions and an entry about a whole stream."""
    row = board.row(0)
    entries = [
        {"STREAM": 1, "PARTITION": 4, "NEXT": 10, "END": 25, "RECORD_MS": 990_000, "BAD": 2},
        {"STREAM": 0, "PARTITION": 0, "NEXT": 7, "END": 7, "STALL": Stall.NO_LEADER},
        {"STREAM": 0, "PARTITION": WHOLE, "STALL": Stall.NO_TOPIC, "LOST": 3},
    ]
    for entry, cells in enumerate(entries):
        for name, value in cells.items():
            row.set_partition(entry, PartitionField[name], value)
    row[Field.PARTITIONS] = len(entries)
    return row


def test_partitions_are_those_with_offsets(row: Row) -> None:
    assert list(partitions_of(row, STREAMS)) == [
        PartitionStatus("water", 4, 10, 25, 990_000),
        PartitionStatus("energy", 0, 7, 7, 0),
    ]


def test_records_and_stalls_are_also_of_whole_streams(row: Row) -> None:
    assert list(records_of(row, STREAMS)) == [
        ("water", Records(bad=2)),
        ("energy", Records()),
        ("energy", Records(lost=3)),
    ]
    assert stalls_of(row, STREAMS) == [
        ("energy", 0, Stall.NO_LEADER),
        ("energy", WHOLE, Stall.NO_TOPIC),
    ]


def test_empty_row_lists_nothing(board: Board) -> None:
    empty = board.row(1)
    assert (list(partitions_of(empty, STREAMS)), stalls_of(empty, STREAMS)) == ([], [])


def test_a_script_can_read_whether_a_worker_uses_io_uring() -> None:
    worker = Child("worker-0", fields={Field.IO_URING: IoUring.FORBIDDEN})
    shown = document(1.0, [Child("consumer"), worker])["processes"]
    assert [each.get("io_uring") for each in shown] == [None, None, "forbidden"]


def test_lag_is_an_upper_bound_and_never_negative() -> None:
    def lag(next_: int, record_ms: int) -> tuple[int, float | None]:
        status = PartitionStatus("energy", 0, next_, 25, record_ms)
        return status.lag_records, status.lag_seconds(1000.0)

    assert lag(25, 990_000) == (0, 0.0)
    assert lag(10, 990_000) == (15, 10.0)
    assert lag(10, 0) == (15, None)
    assert lag(30, 1_990_000) == (0, 0.0)


def test_keys_are_as_old_as_those_of_the_worker_with_the_oldest(board: Board) -> None:
    issuers = [
        Issuer(name=name, issuer=f"https://{name}.example", jwks_url="https://i.example/")
        for name in ("home", "new")
    ]
    home, new = (issuer_id(each.issuer) for each in issuers)
    board.row(0).set_issuers([(home, 5_000), (new, 0)])
    board.row(1).set_issuers([(home, 4_500)])
    assert keys_fetched(issuers, [board.row(0), board.row(1)]) == {"home": 4.5, "new": 0.0}
    assert keys_fetched(issuers, []) == {"home": 0.0, "new": 0.0}


def test_usage_is_of_a_process_that_runs() -> None:
    usage = usage_of(psutil.Process())
    assert usage.resident_bytes > 1 << 20
    assert 0 < usage.open_files <= usage.max_files
    ended = psutil.Popen(["/bin/true"], stdout=subprocess.DEVNULL)
    process = psutil.Process(ended.pid)
    ended.wait(10)
    with pytest.raises(psutil.Error):
        usage_of(process)
