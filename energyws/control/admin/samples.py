"""The sums of a Status by child name, and readers of one metric's samples.

A child's counters include those of its predecessors of the same name, so a restart does not reset
them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, get_args

from energyws.control.children.status import Ending, Records, Status
from energyws.control.policy.slots import CONSUMER
from energyws.process import counters
from energyws.process.board import Field
from energyws.process.io_uring import IoUring

Labels = tuple[str, ...]
# Of a histogram: the cumulative buckets, and the sum.
Buckets = tuple[Sequence[tuple[str, float]], float]
_SUPERVISOR: Final = "supervisor"


class Totals:
    """Sums by child name. columns: also of ended processes, for counters; levels: without them."""

    def __init__(self, status: Status) -> None:
        self.status = status
        self.columns: dict[str, list[int]] = {
            name: list(ended.columns) for name, ended in status.ended.items()
        }
        self.cpu: dict[str, float] = defaultdict(float)
        self.cpu |= {name: ended.cpu_seconds for name, ended in status.ended.items()}
        self.cpu[_SUPERVISOR] += status.supervisor.cpu_seconds
        self.levels: dict[str, list[int]] = {}
        self.resident: dict[str, int] = {_SUPERVISOR: status.supervisor.resident_bytes}
        self.files: dict[str, int] = {_SUPERVISOR: status.supervisor.open_files}
        self.max_files: dict[str, int] = {_SUPERVISOR: status.supervisor.max_files}
        for process in status.processes:
            name, usage = process.name, process.usage
            _add(self.columns, name, process.columns)
            _add(self.levels, name, process.columns)
            self.cpu[name] += usage.cpu_seconds
            self.resident[name] = self.resident.get(name, 0) + usage.resident_bytes
            self.files[name] = self.files.get(name, 0) + usage.open_files
            self.max_files[name] = self.max_files.get(name, 0) + usage.max_files

    def workers(self, columns: Mapping[str, list[int]]) -> Iterator[tuple[str, list[int]]]:
        """Those of `columns` that are workers'."""
        yield from ((name, values) for name, values in columns.items() if name != CONSUMER)


def _add(sums: dict[str, list[int]], name: str, columns: Sequence[int]) -> None:
    known = sums.get(name)
    sums[name] = list(columns) if known is None else list(map(int.__add__, known, columns))


Read = Callable[[Totals], Iterable[tuple[Labels, float | Buckets]]]


def single(value: Callable[[Status], float]) -> Read:
    """One sample without labels."""
    return lambda totals: [((), value(totals.status))]


def by_name(values: Callable[[Totals], Mapping[str, float]]) -> Read:
    """A sample for each name."""
    return lambda totals: [((name,), value) for name, value in values(totals).items()]


def of_workers(field: Field) -> Read:
    """A counter of each worker."""
    return lambda totals: [
        ((name,), columns[field]) for name, columns in totals.workers(totals.columns)
    ]


def levels_of_workers(field: Field) -> Read:
    """A level of each running worker."""
    return lambda totals: [
        ((name,), columns[field]) for name, columns in totals.workers(totals.levels)
    ]


def of_consumer(field: Field) -> Read:
    """A counter of the consumer."""
    return lambda totals: [
        ((), columns[field]) for name, columns in totals.columns.items() if name == CONSUMER
    ]


def broker_up(totals: Totals) -> Iterable[tuple[Labels, float]]:
    """1 while a consumer reaches the broker."""
    up = totals.levels.get(CONSUMER)
    # The sum of two consumers while one replaces the other.
    return [((), float(bool(up and up[Field.BROKER_UP])))]


def snapshots(field: Field, parts: int = 1) -> Read:
    """A level of the newer consumer, in so many parts of the unit; none without snapshots."""

    def read(totals: Totals) -> Iterable[tuple[Labels, float]]:
        columns = _newest_consumer(totals)
        if columns is not None and columns[Field.SNAPSHOT_STATE]:
            yield (), columns[field] / parts

    return read


def snapshots_complete(totals: Totals) -> Iterable[tuple[Labels, float]]:
    """Whether all tables of last values are complete; no sample without any."""
    columns = _newest_consumer(totals)
    if columns is not None and columns[Field.SNAPSHOT_STATE]:
        yield (), float(columns[Field.SNAPSHOT_STATE] > 1)


def _newest_consumer(totals: Totals) -> Sequence[int] | None:
    found = [each.columns for each in totals.status.processes if each.name == CONSUMER]
    return found[-1] if found else None


def of_each(value: Callable[[Sequence[int], Status], float | None]) -> Read:
    """A sample for each running process whose value is not None."""

    def read(totals: Totals) -> Iterable[tuple[Labels, float]]:
        # While one process replaces another, that of the newer one.
        found = {
            (process.name,): value(process.columns, totals.status)
            for process in totals.status.processes
        }
        return [(name, known) for name, known in found.items() if known is not None]

    return read


def labelled(family: counters.Family) -> Read:
    """Counters with labels of their own, summed over all processes."""

    def read(totals: Totals) -> Iterable[tuple[Labels, float]]:
        sums = dict.fromkeys(family.labels, 0)
        for columns in (totals.status.supervisor_columns, *totals.columns.values()):
            for labels, count in family.read(columns).items():
                sums[labels] += count
        return sums.items()

    return read


def buckets(histogram: counters.Histogram, *, workers: bool = True) -> Read:
    """One histogram for each worker, or for each child."""
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]

    def read(totals: Totals) -> Iterable[tuple[Labels, Buckets]]:
        named = totals.workers(totals.columns) if workers else totals.columns.items()
        for name, columns in named:
            counts, total = histogram.read(columns)
            yield (name,), (list(zip(bounds, accumulate(counts), strict=True)), total)

    return read


def reloads(totals: Totals) -> Iterable[tuple[Labels, float]]:
    """Reloads by process and result."""
    for name, columns in (
        (_SUPERVISOR, totals.status.supervisor_columns),
        *totals.columns.items(),
    ):
        yield (name, "taken"), columns[Field.RELOADS]
        yield (name, "refused"), columns[Field.RELOADS_REFUSED]


def lag_records(totals: Totals) -> Iterable[tuple[Labels, float]]:
    """Lag by stream and partition."""
    for each in totals.status.partitions:
        yield (each.stream, str(each.partition)), each.lag_records


def lag_seconds(totals: Totals) -> Iterable[tuple[Labels, float]]:
    """Lag by stream and partition, where it is known."""
    for each in totals.status.partitions:
        seconds = each.lag_seconds(totals.status.wall)
        if seconds is not None:
            yield (each.stream, str(each.partition)), seconds


def oldest_seconds(columns: Sequence[int], status: Status) -> float | None:
    """The age of the oldest record in a process's ring; None: the ring is empty."""
    oldest_ms = columns[Field.RING_OLDEST_MS]
    return max(0.0, status.wall - oldest_ms / 1000) if oldest_ms else None


def certificate_expires(columns: Sequence[int], status: Status) -> float | None:
    """When a worker's certificate expires, in Unix seconds; None: it has none."""
    return columns[Field.CERTIFICATE_EXPIRES] or None


def io_uring(totals: Totals) -> Iterable[tuple[Labels, float]]:
    """By worker and state, 1 if it uses io_uring; no sample until it has said so."""
    # While one worker replaces another, what the newer one says, once it has.
    said = {
        each.name: each.io_uring
        for each in totals.status.processes
        if each.io_uring is not IoUring.UNKNOWN
    }
    return [((name, state.label), float(state is IoUring.IN_USE)) for name, state in said.items()]


def of_streams(value: Callable[[Records], float]) -> Read:
    """A counter of each stream."""
    return lambda totals: [
        ((stream,), value(records)) for stream, records in totals.status.records.items()
    ]


def newest_records(totals: Totals) -> Iterable[tuple[Labels, float]]:
    """By stream, in Unix seconds; no sample before the first record."""
    newest: dict[str, int] = {}
    for each in totals.status.partitions:
        newest[each.stream] = max(newest.get(each.stream, 0), each.record_ms)
    return [((stream,), ms / 1000) for stream, ms in newest.items() if ms]


def exits(totals: Totals) -> Iterable[tuple[Labels, float]]:
    """By child name and reason; 0 from the start, which a rate() needs."""
    for name in totals.status.starts:
        for why in get_args(Ending):
            yield (name, why), totals.status.exits.get((name, why), 0)
