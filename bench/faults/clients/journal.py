"""What one keyed client receives, for bench.faults.audit, which has the log to compare it with."""

from __future__ import annotations

from typing import Any

from bench.faults.ledger import Ledger
from bench.faults.record import check
from energyws.protocol.position import Position, parse


class Journal:
    """Entries: lists of a kind and its values, as Audit takes them.

    In the client's ledger, it counts frames and notes the next number of each partition.
    covered: before this position, it gets nothing more than it has: that of its snapshot, or, where
    newer records supersede others, the last that it was told.
    """

    def __init__(self) -> None:
        self.covered: Position | None = None
        self._rated = False
        self._in_snapshot = False
        self._entries: list[list[Any]] = []

    def drain(self) -> list[list[Any]]:
        """The entries since the last call."""
        entries, self._entries = self._entries, []
        return entries

    def anew(self) -> None:
        """From here on, another client writes."""
        self.covered = None
        self._entries.append(["anew"])

    def connect(self, keys: list[str], resume: str | None, *, rated: bool = False) -> None:
        """It connects, with a right to these keys, to go on from this position.

        rated: it takes them at most so often.
        """
        self._rated = rated
        self._entries.append(["connect", keys, resume, rated])

    def position(self, position: str, conflated: int = 0) -> None:
        """It has been told where it is, and how many records newer ones have superseded."""
        if self._in_snapshot or self._rated:
            self._in_snapshot, self.covered = False, parse(position)
        self._entries.append(["position", position, conflated])

    def corrupt(self, text: str) -> None:
        """It has received what it must not."""
        self._entries.append(["corrupt", text])

    def message(self, message: dict[str, Any], ledger: Ledger) -> None:
        """It has received a message of its stream."""
        match message["type"]:
            case "data":
                if (place := self._checked(message)) is not None:
                    partition, number, _ = place
                    told = message["id"]
                    ledger.frames += 1
                    ledger.next[partition] = number + 1
                    if self._rated and not self._in_snapshot:
                        self.covered = parse(told)
                    self._entries.append(["data", *place, told])
            case "snapshot":
                if (place := self._checked(message)) is not None:
                    self._entries.append(["snapshot", *place])
            case "subscribed":
                (state,) = message["positions"].values()
                names = ("position", "recovered", "reason", "missing")
                # One stream per connection here, too.
                complete = [one["complete"] for one in message.get("snapshots", {}).values()]
                self._in_snapshot = bool(complete)
                self._entries.append(["subscribed", *map(state.get, names), *complete])
            case "position":
                self.position(message["id"], message.get("conflated", 0))
            case "lagged":
                told = message["to"]
                if self._rated:
                    self.covered = parse(told)
                self._entries.append(["lagged", message["reason"], message["missed"], told])

    def _checked(self, message: dict[str, Any]) -> tuple[int, int, str] | None:
        """Partition, number and key of the record in a message; None if it was altered."""
        record = message["data"]
        try:
            partition, number = check(record)
        except ValueError as error:
            self.corrupt(str(error))
            return None
        if message.get("key") != record["k"]:
            self.corrupt(f"partition {partition}, {number}: another key than its record's")
        return partition, number, record["k"]
