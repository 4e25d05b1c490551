"""What the service shows of itself at one moment: for metrics, for scripts and for `energyws top`.

Children are not asked: all of it is read from the board and from /proc.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import psutil

from energyws.process import counters
from energyws.process.board import MAX_PARTITIONS, Field, PartitionField, Row, State, issuer_id
from energyws.process.stalls import WHOLE, Stall
from energyws.settings import Issuer

# Why a child ended: as it was told, by itself, by a signal, or killed since it hung or was overdue.
Ending = Literal["told", "failed", "killed", "hung", "overdue"]

_HISTOGRAMS = {"fanout": counters.FANOUT, "age": counters.AGE, "loop_delay": counters.LOOP_DELAY}


@dataclass(frozen=True, slots=True)
class Usage:
    """What the kernel says of a process."""

    cpu_seconds: float
    resident_bytes: int
    open_files: int
    max_files: int


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A running child; `columns` is a copy of its row on the board."""

    name: str
    slot: int | None
    pid: int
    restarts: int
    uptime_seconds: float
    usage: Usage
    columns: Sequence[int]

    @property
    def state(self) -> str:
        """Where it is in its life."""
        return State(self.columns[Field.STATE]).name.lower()


@dataclass(frozen=True, slots=True)
class Ended:
    """What the processes of one name that have ended had counted."""

    cpu_seconds: float
    columns: Sequence[int]


@dataclass(frozen=True, slots=True)
class Records:
    """What became of a stream's records; bad: skipped; lost: retention took them first."""

    bad: int = 0
    lost: int = 0

    def __add__(self, other: Records) -> Records:
        return Records(self.bad + other.bad, self.lost + other.lost)


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """How far one partition is. next_offset: the next record's; end_offset: the log's end.

    record_ms: the timestamp of the newest record handed on, in Unix milliseconds; 0: there is none.
    """

    stream: str
    partition: int
    next_offset: int
    end_offset: int
    record_ms: int

    @property
    def lag_records(self) -> int:
        """How many records wait to be read."""
        return max(0, self.end_offset - self.next_offset)

    @property
    def newest_record(self) -> float | None:
        """The timestamp of the newest record handed on, in Unix seconds; None: there is none."""
        return self.record_ms / 1000 if self.record_ms else None

    def lag_seconds(self, wall: float) -> float | None:
        """How old the newest record handed on is while others wait, else 0; None: unknown.

        What waits is younger than that: it is an upper bound.
        """
        if not self.lag_records:
            return 0.0
        return max(0.0, wall - self.record_ms / 1000) if self.record_ms else None


@dataclass(frozen=True, slots=True)
class Status:
    """The service at `wall`, in Unix seconds. `events` are the supervisor's newest log lines.

    ended, starts: by the name of the child; exits: by its name and the reason. issuers: by the
    issuer's name, when its keys were last fetched, in Unix seconds; 0: never. records: by stream,
    of all consumers that have been.
    """

    wall: float
    version: str
    reasons: Sequence[str]
    draining: bool
    workers_wanted: int
    max_connections: int
    supervisor: Usage
    supervisor_columns: Sequence[int]
    processes: Sequence[ProcessStatus]
    ended: Mapping[str, Ended]
    starts: Mapping[str, int]
    exits: Mapping[tuple[str, Ending], int]
    partitions: Sequence[PartitionStatus]
    events: Sequence[Mapping[str, object]]
    issuers: Mapping[str, float] = field(default_factory=dict)
    records: Mapping[str, Records] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For scripts; what is documented of it stays."""
        return {
            "time": self.wall,
            "version": self.version,
            "ready": not self.reasons,
            "reasons": list(self.reasons),
            "draining": self.draining,
            "workers_wanted": self.workers_wanted,
            "max_connections": self.max_connections,
            "processes": [
                _usage("supervisor", self.supervisor),
                *(_process(each) for each in self.processes),
            ],
            "partitions": [
                {
                    "stream": each.stream,
                    "partition": each.partition,
                    "next_offset": each.next_offset,
                    "end_offset": each.end_offset,
                    "lag_records": each.lag_records,
                    "lag_seconds": each.lag_seconds(self.wall),
                    "newest_record": each.newest_record,
                }
                for each in self.partitions
            ],
            "events": list(self.events),
        }


def usage_of(process: psutil.Process) -> Usage:
    """Asks the kernel; raises psutil.Error for a process that has ended."""
    # Without oneshot(): the fleet's policy looks at the same object from another thread.
    times = process.cpu_times()
    max_files, _ = process.rlimit(psutil.RLIMIT_NOFILE)
    return Usage(times.user + times.system, process.memory_info().rss, process.num_fds(), max_files)


def partitions_of(row: Row, streams: Sequence[str]) -> Iterable[PartitionStatus]:
    """What a consumer's row says; `streams` in the order of their names."""
    for entry in range(min(row[Field.PARTITIONS], MAX_PARTITIONS)):
        if row.place(entry, PartitionField.PARTITION) == WHOLE:
            continue
        yield PartitionStatus(
            streams[row.place(entry, PartitionField.STREAM)],
            row.place(entry, PartitionField.PARTITION),
            row.place(entry, PartitionField.NEXT),
            row.place(entry, PartitionField.END),
            row.place(entry, PartitionField.RECORD_MS),
        )


def records_of(row: Row, streams: Sequence[str]) -> Iterable[tuple[str, Records]]:
    """What a consumer's row has counted, by stream; several for one are to be added."""
    for entry in range(min(row[Field.PARTITIONS], MAX_PARTITIONS)):
        counted = Records(
            row.place(entry, PartitionField.BAD), row.place(entry, PartitionField.LOST)
        )
        yield streams[row.place(entry, PartitionField.STREAM)], counted


def stalls_of(row: Row, streams: Sequence[str]) -> list[tuple[str, int, Stall]]:
    """The stalls that a consumer's row lists: (stream, partition or WHOLE, stall)."""
    return [
        (
            streams[row.place(entry, PartitionField.STREAM)],
            row.place(entry, PartitionField.PARTITION),
            Stall(row.place(entry, PartitionField.STALL)),
        )
        for entry in range(min(row[Field.PARTITIONS], MAX_PARTITIONS))
        if row.place(entry, PartitionField.STALL)
    ]


def keys_fetched(issuers: Iterable[Issuer], workers: Iterable[Row]) -> dict[str, float]:
    """By the issuer's name, when the worker whose keys are oldest fetched them, in Unix seconds.

    0: some worker has none yet, or there is no worker.
    """
    told = [row.issuers() for row in workers]
    oldest: dict[str, float] = {}
    for each in issuers:
        number = issuer_id(each.issuer)
        at = min((known[number] for known in told if number in known), default=0) / 1000
        # Names need not be different.
        oldest[each.name] = min(at, oldest.get(each.name, at))
    return oldest


def _usage(name: str, usage: Usage) -> dict[str, Any]:
    return {
        "name": name,
        "cpu_seconds": usage.cpu_seconds,
        "resident_bytes": usage.resident_bytes,
        "open_files": usage.open_files,
    }


def _process(process: ProcessStatus) -> dict[str, Any]:
    histograms = {}
    for name, histogram in _HISTOGRAMS.items():
        counts, total = histogram.read(process.columns)
        histograms[name] = {"bounds": histogram.bounds, "counts": counts, "sum_seconds": total}
    return {
        **_usage(process.name, process.usage),
        "pid": process.pid,
        "slot": process.slot,
        "state": process.state,
        "restarts": process.restarts,
        "uptime_seconds": round(process.uptime_seconds, 1),
        "board": {field.name.lower(): process.columns[field] for field in Field},
        "histograms": histograms,
    }
