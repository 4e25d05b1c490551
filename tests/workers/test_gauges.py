"""Gauges of rings and of tables of last values."""

from __future__ import annotations

from energyws.process.board import Board, Field
from energyws.protocol.position import from_offsets
from energyws.settings import History
from energyws.stream.last_values import LastValues
from energyws.stream.ring import Entry, Ring
from workers.gauges import record_ring_depth, record_snapshots


def ring(*timestamps_ms: int) -> Ring:
    made = Ring(History(), from_offsets("aaaa0000", [0]))
    for offset, timestamp_ms in enumerate(timestamps_ms):
        made.append(Entry(0, offset, timestamp_ms, b"12345"), 0.0)
    return made


def test_gauges_are_totals_and_the_oldest_frame_over_all_rings() -> None:
    row = Board.create().row(0)
    record_ring_depth(row, [ring(300, 400), ring(), ring(200)])
    written = row[Field.RING_FRAMES], row[Field.RING_BYTES], row[Field.RING_OLDEST_MS]
    assert written == (3, 15, 200)


def test_empty_rings_have_no_oldest_frame() -> None:
    row = Board.create().row(0)
    record_ring_depth(row, [ring(300)])
    record_ring_depth(row, [ring()])
    written = row[Field.RING_FRAMES], row[Field.RING_BYTES], row[Field.RING_OLDEST_MS]
    assert written == (0, 0, 0)


def test_gauges_of_snapshots_are_totals_and_complete_where_all_are() -> None:
    row = Board.create().row(0)
    record_snapshots(row, [])
    assert row[Field.SNAPSHOT_STATE] == 0
    tables = [LastValues(10, 1 << 20), LastValues(10, 1 << 20)]
    tables[0].warmed(None)
    tables[0].put(b"a", 1, b"{}")
    tables[1].put(b"b", 1, b"{}")
    record_snapshots(row, tables)
    assert (row[Field.SNAPSHOT_KEYS], row[Field.SNAPSHOT_STATE]) == (2, 1)
    assert row[Field.SNAPSHOT_BYTES] == 2 * tables[0].bytes
    tables[1].warmed(None)
    record_snapshots(row, tables)
    assert row[Field.SNAPSHOT_STATE] == 2
