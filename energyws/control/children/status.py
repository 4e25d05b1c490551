"""The state of the service at one moment, for metrics, scripts and `energyws top`.

All of it is read from the board and from /proc; no child has to answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import psutil

from energyws.process import counters
from energyws.process.board import MAX_PARTITIONS, Field, PartitionField, Row, State, issuer_id
from energyws.process.io_uring import IoUring
from energyws.process.stalls import WHOLE, Stall
from energyws.settings import Issuer

# Why a child ended: we asked it to; it failed; another process killed it; we killed it because it
# hung, or because it missed a deadline.
Ending = Literal["told", "failed", "killed", "hung", "overdue"]

_HISTOGRAMS = {"fanout": counters.FANOUT, "age": counters.AGE, "loop_delay": counters.LOOP_DELAY}


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process uses, from /proc."""

    cpu_seconds: float
    resident_bytes: int
    open_files: int
    max_files: int


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A running child; columns: a copy of its row of the board."""

    name: str
    slot: int | None
    pid: int
    restarts: int
    uptime_seconds: float
    usage: Usage
    columns: Sequence[int]

    @property
    def state(self) -> str:
        """The name of its State, in lower case."""
        return State(self.columns[Field.STATE]).name.lower()

    @property
    def io_uring(self) -> IoUring:
        """What a worker has said; UNKNOWN of the consumer."""
        return IoUring(self.columns[Field.IO_URING])


@dataclass(frozen=True, slots=True)
class Ended:
    """The sums over all processes of one name that have ended."""

    cpu_seconds: float
    columns: Sequence[int]


@dataclass(frozen=True, slots=True)
class Records:
    """Records of a stream that no client got: bad ones, and those that retention deleted first.

    unkeyed: those without a key, where the stream has keys.
    """

    bad: int = 0
    lost: int = 0
    unkeyed: int = 0

    def __add__(self, other: Records) -> Records:
        return Records(self.bad + other.bad, self.lost + other.lost, self.unkeyed + other.unkeyed)


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """How far one partition is read. next_offset: the next record's; end_offset: the log's end.

    record_ms: the timestamp of the newest record published, in Unix milliseconds; 0: none yet.
    """

    stream: str
    partition: int
    next_offset: int
    end_offset: int
    record_ms: int

    @property
    def lag_records(self) -> int:
        """How many records of the log are not read yet."""
        return max(0, self.end_offset - self.next_offset)

    @property
    def newest_record(self) -> float | None:
        """The timestamp of the newest record published, in Unix seconds; None: none yet."""
        return self.record_ms / 1000 if self.record_ms else None

    def lag_seconds(self, wall: float) -> float | None:
        """The age of the newest record published, or 0 if no record waits; None: unknown.

        An upper bound: the records that wait are younger.
        """
        if not self.lag_records:
            return 0.0
        return max(0.0, wall - self.record_ms / 1000) if self.record_ms else None


@dataclass(frozen=True, slots=True)
class Status:
    """The service at `wall`, in Unix seconds. events: the supervisor's newest log lines.

    ended, starts: by the child's name; exits: by its name and the reason. issuers: by the issuer's
    name, when its keys were last fetched, in Unix seconds; 0: never. records: by stream, counted by
    all consumers since the start.
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
        """For scripts; docs/operations.md documents the fields."""
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
    """What a process uses; raises psutil.Error if it has ended."""
    # Without oneshot(): the supervisor's loop uses the same object from another thread.
    times = process.cpu_times()
    max_files, _ = process.rlimit(psutil.RLIMIT_NOFILE)
    return Usage(times.user + times.system, process.memory_info().rss, process.num_fds(), max_files)


def partitions_of(row: Row, streams: Sequence[str]) -> Iterable[PartitionStatus]:
    """The partitions that a consumer's row lists; streams: sorted by name."""
    for entry in range(min(row[Field.PARTITIONS], MAX_PARTITIONS)):
        if row.partition(entry, PartitionField.PARTITION) == WHOLE:
            continue
        yield PartitionStatus(
            streams[row.partition(entry, PartitionField.STREAM)],
            row.partition(entry, PartitionField.PARTITION),
            row.partition(entry, PartitionField.NEXT),
            row.partition(entry, PartitionField.END),
            row.partition(entry, PartitionField.RECORD_MS),
        )


def records_of(row: Row, streams: Sequence[str]) -> Iterable[tuple[str, Records]]:
    """The records that a consumer's row has counted, by stream; the caller adds them up."""
    for entry in range(min(row[Field.PARTITIONS], MAX_PARTITIONS)):
        counted = Records(
            row.partition(entry, PartitionField.BAD),
            row.partition(entry, PartitionField.LOST),
            row.partition(entry, PartitionField.UNKEYED),
        )
        yield streams[row.partition(entry, PartitionField.STREAM)], counted


def stalls_of(row: Row, streams: Sequence[str]) -> list[tuple[str, int, Stall]]:
    """What a consumer's row says is not readable: (stream, partition or WHOLE, why)."""
    return [
        (
            streams[row.partition(entry, PartitionField.STREAM)],
            row.partition(entry, PartitionField.PARTITION),
            Stall(row.partition(entry, PartitionField.STALL)),
        )
        for entry in range(min(row[Field.PARTITIONS], MAX_PARTITIONS))
        if row.partition(entry, PartitionField.STALL)
    ]


def keys_fetched(issuers: Iterable[Issuer], workers: Iterable[Row]) -> dict[str, float]:
    """By the issuer's name, when the worker with the oldest keys fetched them, in Unix seconds.

    0: some worker has none yet, or there is no worker.
    """
    fetched = [row.issuers() for row in workers]
    oldest: dict[str, float] = {}
    for each in issuers:
        number = issuer_id(each.issuer)
        at = min((known[number] for known in fetched if number in known), default=0) / 1000
        # Two issuers may have the same name.
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
        "io_uring": process.io_uring.label if process.slot is not None else None,
        "board": {field.name.lower(): process.columns[field] for field in Field},
        "histograms": histograms,
    }
