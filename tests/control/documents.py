"""Documents of GET /status, made as the service makes them, and the view of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from energyws.control.children.status import PartitionStatus, ProcessStatus, Status, Usage
from energyws.control.status.model import ServiceView, view
from energyws.process import counters
from energyws.process.board import COLUMNS, Field, State
from energyws.process.io_uring import IoUring

MIB = 1 << 20


@dataclass
class Child:
    """One child. observed: the values in seconds, by histogram."""

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
    """The answer to GET /status at that time."""
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


def sample_view(workers: int = 2, partitions: int = 3, events: int = 4) -> ServiceView:
    """The view of a service with a value in every column."""

    def at(time: float, times: int) -> dict[str, Any]:
        counted = {
            Field.CONNECTIONS: 1234,
            Field.LAGGING: 3,
            Field.FRAMES: 50 * times,
            Field.DELIVERIES: 61_000 * times,
            Field.WRITES: 30_500 * times,
            Field.BYTES: 70_000_000 * times,
            Field.RING_FRAMES: 4096,
            Field.RING_BYTES: 4_660_000,
            Field.IO_URING: IoUring.IN_USE,
            Field.RING_OLDEST_MS: int((time - 82) * 1000),
        }
        observed = {counters.FANOUT: [0.002] * times, counters.LOOP_DELAY: [0.0007] * times}
        return document(
            time,
            [
                Child("consumer", 9, times, fields={**counted, Field.CONNECTIONS: 0}),
                *(
                    Child(
                        f"worker-{slot}", 10 + slot, 0.5 * times, 74, 1000.0, 0, counted, observed
                    )
                    for slot in range(workers)
                ),
            ],
            partitions=[
                PartitionStatus(
                    "energy",
                    number,
                    7000 + 100 * times + number,
                    7300 + 2 * number,
                    int((time - 12 - number) * 1000),
                )
                for number in range(partitions)
            ],
            events=[
                {
                    "time": f"2026-11-24T01:02:{number:02d}.000Z",
                    "level": "INFO",
                    "event": f"event-{number} " + "with many words " * 20,
                }
                for number in range(events)
            ],
            wanted=workers,
        )

    return view(at(1_800_000_001.0, 2), at(1_800_000_000.0, 1))
