"""What one keyed client receives, for bench.faults.audit, which has the log to compare it with."""

from __future__ import annotations

from typing import Any

from bench.faults.ledger import Ledger
from bench.faults.record import check


class Journal:
    """Entries: lists of a kind and its values, as Audit takes them.

    In the client's ledger, it counts frames and notes the next number of each partition.
    told: the position in the last message that has one.
    """

    def __init__(self) -> None:
        self.told: str | None = None
        self._entries: list[list[Any]] = []

    def drain(self) -> list[list[Any]]:
        """The entries since the last call."""
        entries, self._entries = self._entries, []
        return entries

    def anew(self) -> None:
        """From here on, another client writes."""
        self._entries.append(["anew"])

    def connect(self, keys: list[str], resume: str | None) -> None:
        """It connects, with a right to these keys, to go on from this position."""
        self._entries.append(["connect", keys, resume])

    def position(self, position: str) -> None:
        """It has been told where it is."""
        self.told = position
        self._entries.append(["position", position])

    def corrupt(self, text: str) -> None:
        """It has received what it must not."""
        self._entries.append(["corrupt", text])

    def message(self, message: dict[str, Any], ledger: Ledger) -> None:
        """It has received a message of its stream."""
        match message["type"]:
            case "data":
                self._data(message, ledger)
            case "subscribed":
                (state,) = message["positions"].values()
                self.told = state["position"]
                names = ("position", "recovered", "reason", "missing")
                self._entries.append(["subscribed", *map(state.get, names)])
            case "position":
                self.position(message["id"])
            case "lagged":
                self.told = message["to"]
                self._entries.append(["lagged", message["reason"], message["missed"], self.told])

    def _data(self, message: dict[str, Any], ledger: Ledger) -> None:
        record, self.told = message["data"], message["id"]
        try:
            partition, number = check(record)
        except ValueError as error:
            self.corrupt(str(error))
            return
        if message.get("key") != record["k"]:
            self.corrupt(f"partition {partition}, {number}: another key than its record's")
        ledger.frames += 1
        ledger.next[partition] = number + 1
        self._entries.append(["data", partition, number, record["k"], message["id"]])
