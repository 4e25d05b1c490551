"""The accounts of all clients that get some keys, over all reports of a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from bench.faults.audit import Audit, Case
from bench.faults.judge import shorten
from bench.faults.producer import Producer
from bench.faults.rated_audit import RatedAudit
from bench.faults.verdict import Losses, Verdict
from energyws.protocol.position import epoch_of


class Audits:
    def __init__(self) -> None:
        self._clients: dict[int, Audit] = {}
        # The logs by their epochs, which clients tell.
        self._epochs: dict[str, int] = {}

    def judge(
        self,
        verdict: Verdict,
        journals: Mapping[int, Sequence[Sequence[Any]]],
        producer: Producer,
        removed: Sequence[Collection[int]],
        losses: Losses,
        *,
        settled: bool = False,
    ) -> None:
        """Add to the verdict what is wrong in these journals, by the clients' numbers.

        removed: by partition, the numbers no longer in the broker's log. settled: no client will
        get anything more.
        """
        log = producer.written_log(self._epochs)
        for entries in journals.values():
            for kind, *values in entries:
                if kind == "data":
                    partition, number, _, position = values
                    log.seen(partition, number, epoch_of(position))
        case = Case(log, removed, losses, verdict)
        for number, entries in journals.items():
            if number not in self._clients:
                self._clients[number] = _audit(str(number), entries)
            self._clients[number].take(entries, case)
            if settled:
                self._clients[number].settled()
        shorten(verdict)


def _audit(name: str, entries: Sequence[Sequence[Any]]) -> Audit:
    """That of a client whose journal begins with these entries."""
    kind = RatedAudit if any(entry[0] == "connect" and entry[3] for entry in entries) else Audit
    return kind(name)
