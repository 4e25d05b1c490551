"""The consumer's table of last values, and the part of SnapshotClient that asks it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from energyws.protocol.frame import DataFrames
from energyws.protocol.keys import KeyFilter
from energyws.protocol.position import Position
from energyws.stream.history import Stored
from energyws.stream.last_values import LastValues
from energyws.stream.snapshot_messages import TableState
from workers.websocket.snapshots.client import OnStep, Scan, Snapshot, Step
from workers.websocket.snapshots.feed import Feed

FRAMES = DataFrames("energy")


class Table:
    """values: of all records so far, of `max_keys` keys at most. slots: of a step of a scan.

    at_once: whether a step of a scan is there at once; otherwise once a test calls `answer`.
    """

    def __init__(self, slots: int, at_once: Callable[[], bool], max_keys: int = 1_000) -> None:
        self.slots = slots
        self._max_keys = max_keys
        self._at_once = at_once
        self._number = 0
        self._deferred: list[tuple[Scan, OnStep]] = []
        self.values = self._empty()

    def _empty(self) -> LastValues:
        table = LastValues(self._max_keys, 1 << 30)
        table.warmed(None)
        return table

    @property
    def waits(self) -> bool:
        """Whether there is something to answer."""
        return bool(self._deferred)

    def begin_anew(self, records: Iterable[Stored]) -> None:
        """Another consumer has read all of the log."""
        self.values = self._empty()
        self._number += 1
        for record in sorted(records, key=lambda each: each.timestamp_ms):
            if record.key is not None:
                self.values.put(record.key, record.timestamp_ms, record.data)

    def feed(self, keys: KeyFilter | None, position: Position, subject: str) -> Feed:
        """A snapshot of this position."""
        source: Any = self
        return Feed(source, self.snapshot(keys, position), subject, lambda: None)

    def snapshot(self, keys: KeyFilter | None, position: Position) -> Snapshot:
        values, state = self.values, self._state(position)
        if keys is not None and not keys.prefixes:
            found = [value for key in keys.exact if (value := values.find(key)) is not None]
            frames = [FRAMES.snapshot(*value) for value in found]
            return Snapshot(state, len(frames), b"".join(frames), len(frames))
        step = self._scan(Scan("energy", keys, state, 0))
        assert step is not None
        return Snapshot(state, step.frames, step.data, None, step.scan)

    def _state(self, position: Position) -> TableState:
        values = self.values
        known = values.complete, values.since_ms, len(values)
        return TableState(position, *known, str(self._number), values.changes)

    def step(self, scan: Scan, subject: str, done: OnStep) -> Step | None:
        if scan.state.table == str(self._number) and self._at_once():
            return self._scan(scan)
        self._deferred.append((scan, done))
        return None

    def answer(self) -> None:
        """Answer the oldest request for a step."""
        if self._deferred:
            scan, done = self._deferred.pop(0)
            done(self._scan(scan))

    def _scan(self, scan: Scan) -> Step | None:
        if scan.state.table != str(self._number):
            return None
        values, left = self.values.scan(
            scan.slot, scan.state.changes, scan.keys, self.slots, 1 << 20
        )
        data = b"".join(FRAMES.snapshot(*value) for value in values)
        rest = None if left is None else Scan("energy", scan.keys, scan.state, left)
        return Step(len(values), data, rest, self._state(scan.state.position))
