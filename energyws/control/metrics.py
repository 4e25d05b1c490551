"""The metrics of docs/metrics.md, made from a Status when somebody scrapes.

Counters of processes are told by the child's name and include those of its predecessors, so that a
restart takes nothing away from them. How many series there are is bounded by the configuration:
nothing that clients send is a label.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Literal

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from energyws import tally
from energyws.board import Field
from energyws.control.fleet import CONSUMER
from energyws.control.status import Status

Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[str, ...]
# The cumulative buckets and the sum.
Buckets = tuple[Sequence[tuple[str, float]], float]
_SUPERVISOR: Final = "supervisor"


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric: what it is called, what it means, and how it is read from a Totals."""

    name: str
    kind: Kind
    labels: Labels
    help: str
    read: Callable[[Totals], Iterable[tuple[Labels, float | Buckets]]]

    def family(self, totals: Totals) -> Metric:
        """With its samples."""
        if self.kind == "histogram":
            histogram = HistogramMetricFamily(self.name, self.help, labels=self.labels)
            for labels, value in self.read(totals):
                assert isinstance(value, tuple)
                histogram.add_metric(labels, *value)
            return histogram
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = make(self.name, self.help, labels=self.labels)
        for labels, value in self.read(totals):
            assert not isinstance(value, tuple)
            family.add_metric(labels, value)
        return family


class Totals:
    """A Status added up by the name of the child. columns: counters; levels: of those that run."""

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
        """Those of workers."""
        yield from ((name, values) for name, values in columns.items() if name != CONSUMER)


def _add(sums: dict[str, list[int]], name: str, columns: Sequence[int]) -> None:
    known = sums.get(name)
    sums[name] = list(columns) if known is None else list(map(int.__add__, known, columns))


Read = Callable[[Totals], Iterable[tuple[Labels, float | Buckets]]]


def _one(value: Callable[[Status], float]) -> Read:
    return lambda totals: [((), value(totals.status))]


def _named(values: Callable[[Totals], Mapping[str, float]]) -> Read:
    return lambda totals: [((name,), value) for name, value in values(totals).items()]


def _workers(field: Field) -> Read:
    return lambda totals: [
        ((name,), columns[field]) for name, columns in totals.workers(totals.columns)
    ]


def _worker_levels(field: Field) -> Read:
    return lambda totals: [
        ((name,), columns[field]) for name, columns in totals.workers(totals.levels)
    ]


def _consumer(field: Field) -> Read:
    return lambda totals: [
        ((), columns[field]) for name, columns in totals.columns.items() if name == CONSUMER
    ]


def _broker_up(totals: Totals) -> Iterable[tuple[Labels, float]]:
    up = totals.levels.get(CONSUMER)
    # Two consumers while one replaces the other.
    return [((), float(bool(up and up[Field.BROKER_UP])))]


def _levels(value: Callable[[Sequence[int], Status], float | None]) -> Read:
    def read(totals: Totals) -> Iterable[tuple[Labels, float]]:
        # Where one process replaces another, the newer one's.
        found = {
            (process.name,): value(process.columns, totals.status)
            for process in totals.status.processes
        }
        return [(name, told) for name, told in found.items() if told is not None]

    return read


def _family(family: tally.Family) -> Read:
    def read(totals: Totals) -> Iterable[tuple[Labels, float]]:
        sums = dict.fromkeys(family.labels, 0)
        for columns in totals.columns.values():
            for labels, count in family.read(columns).items():
                sums[labels] += count
        return sums.items()

    return read


def _histogram(histogram: tally.Histogram, *, workers: bool = True) -> Read:
    bounds = [*(str(bound) for bound in histogram.bounds), "+Inf"]

    def read(totals: Totals) -> Iterable[tuple[Labels, Buckets]]:
        named = totals.workers(totals.columns) if workers else totals.columns.items()
        for name, columns in named:
            counts, total = histogram.read(columns)
            yield (name,), (list(zip(bounds, accumulate(counts), strict=True)), total)

    return read


def _reloads(totals: Totals) -> Iterable[tuple[Labels, float]]:
    for name, columns in (
        (_SUPERVISOR, totals.status.supervisor_columns),
        *totals.columns.items(),
    ):
        yield (name, "taken"), columns[Field.RELOADS]
        yield (name, "refused"), columns[Field.RELOADS_REFUSED]


def _lag_records(totals: Totals) -> Iterable[tuple[Labels, float]]:
    for each in totals.status.partitions:
        yield (each.stream, str(each.partition)), each.lag_records


def _lag_seconds(totals: Totals) -> Iterable[tuple[Labels, float]]:
    for each in totals.status.partitions:
        seconds = each.lag_seconds(totals.status.wall)
        if seconds is not None:
            yield (each.stream, str(each.partition)), seconds


def _oldest(columns: Sequence[int], status: Status) -> float | None:
    oldest_ms = columns[Field.RING_OLDEST_MS]
    return max(0.0, status.wall - oldest_ms / 1000) if oldest_ms else None


WORKER: Final = ("worker",)
PROCESS: Final = ("process",)
DEFINITIONS: Final = (
    Definition(
        "energyws_ready",
        "gauge",
        (),
        "1 while /ready answers 200.",
        _one(lambda status: not status.reasons),
    ),
    Definition(
        "energyws_draining",
        "gauge",
        (),
        "1 while the service is on its way out.",
        _one(lambda status: status.draining),
    ),
    Definition(
        "energyws_build_info",
        "gauge",
        ("version",),
        "1; the version is a label.",
        lambda totals: [((totals.status.version,), 1)],
    ),
    Definition(
        "energyws_workers_wanted",
        "gauge",
        (),
        "How many workers there should be.",
        _one(lambda status: status.workers_wanted),
    ),
    Definition(
        "energyws_workers_ready",
        "gauge",
        (),
        "How many workers are ready.",
        _one(
            lambda status: sum(
                each.slot is not None and each.state == "ready" for each in status.processes
            )
        ),
    ),
    Definition(
        "energyws_max_connections",
        "gauge",
        (),
        "server.max_connections.",
        _one(lambda status: status.max_connections),
    ),
    Definition(
        "energyws_connections",
        "gauge",
        WORKER,
        "Clients that are connected.",
        _worker_levels(Field.CONNECTIONS),
    ),
    Definition(
        "energyws_handshakes",
        "counter",
        ("result",),
        "Requests to connect: accepted, or the error code that refused them.",
        _family(tally.HANDSHAKES),
    ),
    Definition(
        "energyws_token_refusals",
        "counter",
        ("reason",),
        "Tokens that let nobody in, at a handshake or a renewal.",
        _family(tally.TOKEN_REFUSALS),
    ),
    Definition(
        "energyws_closes",
        "counter",
        ("by", "code"),
        "Connections that ended: who closed them, and the close code.",
        _family(tally.CLOSED),
    ),
    Definition(
        "energyws_resumes",
        "counter",
        ("depth", "result"),
        "Subscriptions that asked something back: where it was found, and whether all of it was.",
        _family(tally.RESUMES),
    ),
    Definition(
        "energyws_frames_published",
        "counter",
        (),
        "Frames that the consumer made of records.",
        _consumer(Field.FRAMES),
    ),
    Definition(
        "energyws_frames_received",
        "counter",
        WORKER,
        "Frames that a worker had from the bus.",
        _workers(Field.FRAMES),
    ),
    Definition(
        "energyws_deliveries",
        "counter",
        WORKER,
        "Frames handed to clients' sockets, each client counted.",
        _workers(Field.DELIVERIES),
    ),
    Definition(
        "energyws_writes",
        "counter",
        WORKER,
        "Writes to clients' sockets; frames that wait share one.",
        _workers(Field.WRITES),
    ),
    Definition(
        "energyws_sent_bytes",
        "counter",
        WORKER,
        "Bytes of frames handed to clients' sockets, before TLS.",
        _workers(Field.BYTES),
    ),
    Definition(
        "energyws_fanout_seconds",
        "histogram",
        WORKER,
        "From the first client's write of a batch of frames to the last one's.",
        _histogram(tally.FANOUT),
    ),
    Definition(
        "energyws_delivery_age_seconds",
        "histogram",
        WORKER,
        "Age of a batch's oldest record, by its timestamp, at the last client's write.",
        _histogram(tally.AGE),
    ),
    Definition(
        "energyws_lagging_clients",
        "gauge",
        WORKER,
        "Subscriptions that are not live: behind, or being replayed.",
        _worker_levels(Field.LAGGING),
    ),
    Definition(
        "energyws_skipped_frames",
        "counter",
        WORKER,
        "Frames that clients were told they missed, since they were too slow.",
        _workers(Field.SKIPPED),
    ),
    Definition(
        "energyws_bus_resyncs",
        "counter",
        WORKER,
        "Times that a worker missed something on the bus, and fetched it.",
        _workers(Field.RESYNCS),
    ),
    Definition(
        "energyws_loop_delay_seconds",
        "histogram",
        PROCESS,
        "How late the event loop comes to a heartbeat, four times a second.",
        _histogram(tally.LOOP_DELAY, workers=False),
    ),
    Definition(
        "energyws_process_cpu_seconds",
        "counter",
        PROCESS,
        "CPU time, user and system.",
        _named(lambda totals: totals.cpu),
    ),
    Definition(
        "energyws_process_resident_memory_bytes",
        "gauge",
        PROCESS,
        "Resident memory.",
        _named(lambda totals: totals.resident),
    ),
    Definition(
        "energyws_process_open_fds",
        "gauge",
        PROCESS,
        "Open file descriptors.",
        _named(lambda totals: totals.files),
    ),
    Definition(
        "energyws_process_max_fds",
        "gauge",
        PROCESS,
        "File descriptors that may be open.",
        _named(lambda totals: totals.max_files),
    ),
    Definition(
        "energyws_process_starts",
        "counter",
        PROCESS,
        "Starts of a child; all but the first are restarts.",
        _named(lambda totals: totals.status.starts),
    ),
    Definition(
        "energyws_process_exits",
        "counter",
        ("process", "reason"),
        "Ends of a child: told, failed, killed, hung or overdue.",
        lambda totals: totals.status.exits.items(),
    ),
    Definition(
        "energyws_broker_up",
        "gauge",
        (),
        "1 while the broker is reachable.",
        _broker_up,
    ),
    Definition(
        "energyws_consumer_lag_records",
        "gauge",
        ("stream", "partition"),
        "Records of a partition that were not handed on yet.",
        _lag_records,
    ),
    Definition(
        "energyws_consumer_lag_seconds",
        "gauge",
        ("stream", "partition"),
        "Age of the newest record handed on while others wait; 0 while none does.",
        _lag_seconds,
    ),
    Definition(
        "energyws_bad_records",
        "counter",
        (),
        "Records that are no JSON object or too large, and were left out.",
        _consumer(Field.BAD_RECORDS),
    ),
    Definition(
        "energyws_lost_records",
        "counter",
        (),
        "Records that retention took before they were read.",
        _consumer(Field.LOST_RECORDS),
    ),
    Definition(
        "energyws_read_back_records",
        "counter",
        (),
        "Records read once more for clients that asked back.",
        _consumer(Field.READ_BACK),
    ),
    Definition(
        "energyws_history_frames",
        "gauge",
        PROCESS,
        "Frames in a process's memory.",
        _levels(lambda columns, _: columns[Field.RING_FRAMES]),
    ),
    Definition(
        "energyws_history_bytes",
        "gauge",
        PROCESS,
        "Bytes of the frames in a process's memory.",
        _levels(lambda columns, _: columns[Field.RING_BYTES]),
    ),
    Definition(
        "energyws_history_seconds",
        "gauge",
        PROCESS,
        "Age of the oldest record in a process's memory.",
        _levels(_oldest),
    ),
    Definition(
        "energyws_config_reloads",
        "counter",
        ("process", "result"),
        "Configurations that a process was given while it ran: taken or refused.",
        _reloads,
    ),
)


class _Scrape(Collector):
    def __init__(self, status: Status) -> None:
        self._totals = Totals(status)

    def collect(self) -> Iterable[Metric]:
        return [definition.family(self._totals) for definition in DEFINITIONS]


def exposition(status: Status, accept: str) -> tuple[str, bytes]:
    """The content type and the text that an Accept header asks for (Prometheus or OpenMetrics)."""
    encoder, content_type = choose_encoder(accept)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Scrape(status))
    return content_type, encoder(registry)
