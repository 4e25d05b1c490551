"""Documents of GET /status, made as the service makes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from energyws.control.children.status import PartitionStatus, ProcessStatus, Status, Usage
from energyws.process import counters
from energyws.process.board import COLUMNS, Field, State

MIB = 1 << 20


@dataclass
class Child:
    """One child; histograms: by name, the seconds that were observed."""

    name: str
    pid: int = 100
    cpu_seconds: float = 1.0
    resident_mib: int = 60
    uptime_seconds: float = 1000.0
    restarts: int = 0
    fields: Mapping[Field, int] = field(default_factory=dict)
    observed: Mapping[counters.Histogram, Sequence[float]] = field(default_factory=dict)

    def process(self) -> ProcessStatus:
        columns = [0] * COLUMNS
        columns[Field.STATE] = State.READY
        for each, value in self.fields.items():
            columns[each] = value
        for histogram, seconds in self.observed.items():
            for value in seconds:
                at = next((i for i, top in enumerate(histogram.bounds) if value <= top), -1)
                columns[histogram.first + at if at >= 0 else histogram.end - 2] += 1
        slot = int(self.name.rpartition("-")[2]) if self.name.startswith("worker") else None
        usage = Usage(self.cpu_seconds, self.resident_mib * MIB, 20, 1024)
        return ProcessStatus(
            self.name, slot, self.pid, self.restarts, self.uptime_seconds, usage, columns
        )


def document(
    time: float,
    children: Sequence[Child],
    *,
    partitions: Sequence[PartitionStatus] = (),
    events: Sequence[Mapping[str, object]] = (),
    reasons: Sequence[str] = (),
    wanted: int = 2,
    supervisor_cpu_seconds: float = 1.0,
) -> dict[str, Any]:
    """What GET /status answers at that time."""
    return Status(
        wall=time,
        version="1.2.3",
        reasons=reasons,
        draining=False,
        workers_wanted=wanted,
        max_connections=10_000,
        supervisor=Usage(supervisor_cpu_seconds, 40 * MIB, 30, 1024),
        supervisor_columns=[0] * COLUMNS,
        processes=[child.process() for child in children],
        ended={},
        starts={},
        exits={},
        partitions=partitions,
        events=events,
    ).as_json()
