"""Gauges on the board: how much rings and tables of last values hold."""

from __future__ import annotations

from collections.abc import Collection

from energyws.process.board import Field, Row
from energyws.stream.last_values import LastValues
from energyws.stream.ring import Ring


def record_ring_depth(row: Row, rings: Collection[Ring]) -> None:
    """Write how much these rings hold together, and the timestamp of their oldest frame."""
    row[Field.RING_FRAMES] = sum(map(len, rings))
    row[Field.RING_BYTES] = sum(ring.bytes for ring in rings)
    oldest = [ring.oldest_ms for ring in rings if ring.oldest_ms]
    row[Field.RING_OLDEST_MS] = min(oldest, default=0)


def record_snapshots(row: Row, tables: Collection[LastValues]) -> None:
    """Write what the tables of last values hold together, and whether all are complete."""
    row[Field.SNAPSHOT_KEYS] = sum(map(len, tables))
    row[Field.SNAPSHOT_BYTES] = sum(table.bytes for table in tables)
    complete = all(table.complete for table in tables)
    row[Field.SNAPSHOT_STATE] = 1 + complete if tables else 0
