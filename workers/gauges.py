"""Gauges on the board that consumer and workers share: how much their rings hold."""

from __future__ import annotations

from collections.abc import Collection

from energyws.process.board import Field, Row
from energyws.stream.ring import Ring


def record_ring_depth(row: Row, rings: Collection[Ring]) -> None:
    """Write how much these rings hold together, and the timestamp of their oldest frame."""
    row[Field.RING_FRAMES] = sum(map(len, rings))
    row[Field.RING_BYTES] = sum(ring.bytes for ring in rings)
    oldest = [ring.oldest_ms for ring in rings if ring.oldest_ms]
    row[Field.RING_OLDEST_MS] = min(oldest, default=0)
