"""Checks what one keyed client received, message by message, against the broker's log. No I/O.

A position promises: every record before it with a key of this client has been sent, or was reported
as missing. So no position that a client is told, in whatever message, may leave out a record; that
finds gaps, duplicates and disorder as well.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.faults.judge import EPOCH_CHANGED
from bench.faults.keys import allowed
from bench.faults.log import Log
from bench.faults.verdict import Losses, Verdict
from energyws.protocol.position import BadPosition, Position, parse

# The client's position is in another log, or beyond the end of this one.
_ELSEWHERE: Final = frozenset({EPOCH_CHANGED, "POSITION_AHEAD"})


@dataclass(frozen=True, slots=True)
class Case:
    """What the journals of one report are compared with, and where the problems go.

    removed: by partition, the numbers no longer in the broker's log.
    """

    log: Log
    removed: Sequence[Collection[int]]
    losses: Losses
    verdict: Verdict


class Audit:
    """One client's account, over any number of connections. name: in problems."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._anew()

    def take(self, entries: Sequence[Sequence[Any]], case: Case) -> None:
        """Check the next entries of the client's journal (bench.faults.clients.journal)."""
        self._case = case
        for kind, *values in entries:
            try:
                getattr(self, f"_{kind}")(*values)
            except BadPosition as error:
                self._problem(f"{kind} {values}: {error}")

    def settled(self) -> None:
        """Nothing more will come."""

    def _anew(self) -> None:
        """Another client takes this one's place."""
        self._keys: frozenset[str] = frozenset()
        # By partition: it has, or has been told that it lacks, all that it wants below this number.
        self._due: list[int] | None = None
        self._told: Position | None = None
        # Of a snapshot on its way: the record of each key, and whether it has all keys.
        self._snapshots: dict[str, tuple[int, int]] | None = None
        self._complete = False

    def _connect(self, keys: list[str], resume: str | None, rated: bool = False) -> None:
        self._keys = allowed(keys)
        self._snapshots = None
        position = None if resume is None else parse(resume)
        if self._due is None and position is not None:
            self._due, self._told = self._case.log.past(position), position
        elif position != self._told:
            self._problem(f"it resumes from {resume}, but its last position is {self._told}")

    def _subscribed(
        self,
        text: str,
        recovered: bool | None,
        reason: str | None,
        missing: list[int] | None,
        complete: bool | None = None,
    ) -> None:
        """complete: of the snapshot that follows, in place of what was missed; None: none does."""
        if complete is not None:
            if reason is not None and reason not in self._case.losses.reasons:
                self._problem(f"a snapshot for {reason}, which this class does not allow")
            # Until its end, the client has no position.
            self._due = self._told = None
            self._snapshots, self._complete = {}, complete
            return
        if recovered is False:
            assert reason is not None
            self._lagged(reason, None if missing is None else sum(missing), text)
            return
        position = parse(text)
        if self._due is None:
            self._due, self._told = self._case.log.past(position), position
        self._advance("`subscribed`", position)

    def _snapshot(self, partition: int, number: int, key: str) -> None:
        what = f"snapshot: partition {partition}, {number}"
        if key not in self._keys:
            self._case.verdict.foreign += 1
            self._problem(f"{what}: it may not have this key")
        if self._snapshots is None or key in self._snapshots:
            self._case.verdict.duplicates += 1
            self._problem(f"{what}: it has one of this key, or there is no snapshot")
        else:
            self._snapshots[key] = partition, number

    def _position(self, text: str, conflated: int = 0) -> None:
        position = parse(text)
        if conflated:
            self._problem(f"`position` with {conflated} superseded, though it wants them all")
        if self._snapshots is None:
            self._advance("`position`", position)
            return
        self._end_snapshot(position)

    def _end_snapshot(self, position: Position) -> None:
        assert self._snapshots is not None
        self._due, self._told = self._case.log.past(position), position
        for key in self._keys:
            self._fold(key, self._snapshots.get(key), self._due)
        self._snapshots = None

    def _fold(self, key: str, found: tuple[int, int] | None, past: list[int]) -> None:
        """Whether a snapshot has the newest record of a key before its position."""
        newest = self._case.log.newest(key, past)
        if found is not None and found not in newest:
            self._problem(f"a snapshot has {found}, but the newest is {sorted(newest)}")
        # A table that was made anew cannot have what the log had no more.
        there = [one for one in newest if one[1] not in self._case.removed[one[0]]]
        if found is None and self._complete and there:
            self._case.verdict.gaps += 1
            self._problem(f"a complete snapshot lacks {there[0]}")

    def _data(self, partition: int, number: int, key: str, text: str) -> None:
        what = f"partition {partition}, {number}"
        if self._due is None:
            self._problem(f"{what}: it came before the position of the snapshot")
            return
        if key not in self._keys:
            self._case.verdict.foreign += 1
            self._problem(f"{what}: it may not have this key")
        elif number < self._due[partition]:
            self._again(what)
        self._record(what, (partition, number), key, parse(text))

    def _record(self, what: str, place: tuple[int, int], key: str, position: Position) -> None:
        left_out = self._left_out(position)
        self._gaps(f"`data` ({what})", [one for one in left_out if one != place])
        self._move(position)
        self._expect_covered(what, place, position)

    def _again(self, what: str) -> None:
        self._case.verdict.duplicates += 1
        self._problem(f"{what}: it came again, or after a later position")

    def _expect_covered(self, what: str, place: tuple[int, int], position: Position) -> None:
        partition, number = place
        if self._case.log.past(position)[partition] <= number:
            self._problem(f"{what}: its position {position} does not cover it")

    def _lagged(self, reason: str, missed: int | None, text: str) -> None:
        verdict, losses = self._case.verdict, self._case.losses
        position = parse(text)
        told = f"a Gap {reason} (missed {missed})"
        verdict.reported += 1
        if self._due is None:
            self._problem(f"{told} before the position of the snapshot")
            return
        if reason not in losses.reasons:
            self._problem(f"{told}, which this class does not allow")
        if reason in _ELSEWHERE:
            self._told = None
        left_out = self._left_out(position)
        if there := [one for one in left_out if one[1] not in self._case.removed[one[0]]]:
            verdict.gaps += len(there)
            self._problem(f"{told}, but the log still has {there[0]}")
        # Never what others have missed.
        if losses.counted and missed not in (None, len(left_out)):
            self._problem(f"{told}, but of its keys {len(left_out)} records are missing")
        self._move(position)

    def _corrupt(self, text: str) -> None:
        self._case.verdict.corrupt += 1
        self._problem(text)

    def _ended(self, text: str) -> None:
        self._problem(f"it ended: {text}")

    def _advance(self, what: str, position: Position) -> None:
        """A message with this position has come."""
        self._gaps(what, self._left_out(position))
        self._move(position)

    def _gaps(self, what: str, left_out: list[tuple[int, int]]) -> None:
        if left_out:
            self._case.verdict.gaps += len(left_out)
            self._problem(f"{what} is beyond {len(left_out)} records not sent: {left_out[0]}")

    def _left_out(self, position: Position) -> list[tuple[int, int]]:
        """Partition and number of all that it wants and does not have, before this position."""
        assert self._due is not None
        return [
            (partition, number)
            for partition, past in enumerate(self._case.log.past(position))
            for number in self._case.log.wanted(self._keys, partition, self._due[partition], past)
        ]

    def _move(self, position: Position) -> None:
        self._tell(position)
        self._due = self._case.log.past(position)

    def _tell(self, position: Position) -> None:
        if self._told is not None and (
            position.epoch != self._told.epoch or self._told.beyond(position)
        ):
            self._problem(f"its position goes back, from {self._told} to {position}")
        self._told = position

    def _problem(self, text: str) -> None:
        self._case.verdict.problems.append(f"keyed client {self._name}: {text}")
