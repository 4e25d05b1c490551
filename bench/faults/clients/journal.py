"""What one keyed client receives, for bench.faults.audit, which has the log to compare it with."""

from __future__ import annotations

from typing import Any

from bench.faults.ledger import Ledger
from bench.faults.record import check
from energyws.protocol.position import Position, parse


class Journal:
    """Entries: lists of a kind and its values, as Audit takes them.

    In the client's ledger, it counts frames and notes the next number of each partition.
    told: the position in the last message that has one. covered: that of the last snapshot.
    """

    def __init__(self) -> None:
        self.told: str | None = None
        self.covered: Position | None = None
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

    def connect(self, keys: list[str], resume: str | None) -> None:
        """It connects, with a right to these keys, to go on from this position."""
        self._entries.append(["connect", keys, resume])

    def position(self, position: str) -> None:
        """It has been told where it is."""
        self.told = position
        if self._in_snapshot:
            self._in_snapshot, self.covered = False, parse(position)
        self._entries.append(["position", position])

    def corrupt(self, text: str) -> None:
        """It has received what it must not."""
        self._entries.append(["corrupt", text])

    def message(self, message: dict[str, Any], ledger: Ledger) -> None:
        """It has received a message of its stream."""
        match message["type"]:
            case "data":
                if (place := self._checked(message)) is not None:
                    partition, number, _ = place
                    self.told = message["id"]
                    ledger.frames += 1
                    ledger.next[partition] = number + 1
                    self._entries.append(["data", *place, self.told])
            case "snapshot":
                if (place := self._checked(message)) is not None:
                    self._entries.append(["snapshot", *place])
            case "subscribed":
                (state,) = message["positions"].values()
                self.told = state["position"]
                names = ("position", "recovered", "reason", "missing")
                # One stream per connection here, too.
                complete = [one["complete"] for one in message.get("snapshots", {}).values()]
                self._in_snapshot = bool(complete)
                self._entries.append(["subscribed", *map(state.get, names), *complete])
            case "position":
                self.position(message["id"])
            case "lagged":
                self.told = message["to"]
                self._entries.append(["lagged", message["reason"], message["missed"], self.told])

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
