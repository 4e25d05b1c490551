"""Levels, rates and quantiles, from two documents of GET /status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from energyws.process.counters import quantile
from energyws.process.io_uring import IoUring

Document = Mapping[str, Any]
# Tells a process from its successor.
_Key = tuple[str, int | None]
_P99: Final = 0.99
# The keys of every event; all others are its fields.
_EVENT: Final = frozenset({"time", "level", "process", "logger", "event"})


@dataclass(frozen=True, slots=True)
class UpperBound:
    """At most `seconds`; beyond: more than that, above the histogram's last bound."""

    seconds: float
    beyond: bool = False


@dataclass(frozen=True, slots=True)
class Traffic:
    """Rates per second between two documents; None where they are unknown.

    joined: the mean number of frames per write to a client. fanout, age, loop_delay: p99.
    """

    frames: float | None = None
    deliveries: float | None = None
    bytes: float | None = None
    joined: float | None = None
    fanout: UpperBound | None = None
    age: UpperBound | None = None
    loop_delay: UpperBound | None = None


@dataclass(frozen=True, slots=True)
class Depth:
    """The depth of a process's rings; seconds: the age of the oldest record, if there is one."""

    frames: int
    bytes: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A running process. cpu: cores in use; None: not known yet.

    The supervisor has no traffic and no depth; the consumer's frames are the published ones.
    """

    name: str
    state: str
    cpu: float | None
    resident_bytes: int
    open_files: int
    is_worker: bool = False
    pid: int | None = None
    restarts: int = 0
    uptime_seconds: float | None = None
    connections: int = 0
    lagging: int = 0
    skipped: int = 0
    io_uring: IoUring = IoUring.UNKNOWN
    traffic: Traffic = Traffic()
    depth: Depth | None = None


@dataclass(frozen=True, slots=True)
class PartitionView:
    """The consumer's progress in one partition. records: published per second.

    newest_seconds: the age of the newest published record, by its timestamp; None: there is none.
    """

    stream: str
    partition: int
    next_offset: int
    records: float | None
    lag_records: int
    lag_seconds: float | None
    newest_seconds: float | None


@dataclass(frozen=True, slots=True)
class EventView:
    """A line of the supervisor's log; `time` in the log's format."""

    time: str
    level: str
    text: str


@dataclass(frozen=True, slots=True)
class ServiceView:
    """The service at `time`, in Unix seconds. fanout, age: p99 over all workers."""

    time: float
    version: str
    ready: bool
    reasons: Sequence[str]
    draining: bool
    workers_wanted: int
    workers_ready: int
    connections: int
    max_connections: int
    published: float | None
    deliveries: float | None
    bytes: float | None
    lagging: int
    fanout: UpperBound | None
    age: UpperBound | None
    processes: Sequence[ProcessView]
    partitions: Sequence[PartitionView]
    events: Sequence[EventView]

    def newest(self) -> dict[str, float | None]:
        """The age of each stream's newest record, the largest first; None, last: no record yet."""
        ages: dict[str, list[float]] = {each.stream: [] for each in self.partitions}
        for each in self.partitions:
            if each.newest_seconds is not None:
                ages[each.stream].append(each.newest_seconds)
        newest = {stream: min(found, default=None) for stream, found in ages.items()}
        return dict(
            sorted(
                newest.items(), key=lambda item: -1 if item[1] is None else item[1], reverse=True
            )
        )


def view(now: Document, before: Document | None = None) -> ServiceView:
    """The view of `now`, with rates and quantiles since `before`.

    A process that is not in `before`, or whose counters are lower now, counts from its start.
    """
    seconds = now["time"] - before["time"] if before is not None else 0.0
    if seconds <= 0:
        # None, the same document, or the clock was set back.
        before = None
    known = {} if before is None else {_key(each): each for each in before["processes"]}
    changes = [_Change(each, known.get(_key(each)), seconds) for each in now["processes"]]
    processes = [_process(change, now["time"], compared=before is not None) for change in changes]
    workers = [each for each in processes if each.is_worker]
    serving = [change for change in changes if change.is_worker and before is not None]
    consumers = [each for each in processes if each.depth is not None and not each.is_worker]
    return ServiceView(
        time=now["time"],
        version=now["version"],
        ready=now["ready"],
        reasons=[printable(reason) for reason in now["reasons"]],
        draining=now["draining"],
        workers_wanted=now["workers_wanted"],
        workers_ready=sum(each.state == "ready" for each in workers),
        connections=sum(each.connections for each in workers),
        max_connections=now["max_connections"],
        published=_sum([each.traffic.frames for each in consumers]),
        deliveries=_sum([each.traffic.deliveries for each in workers]),
        bytes=_sum([each.traffic.bytes for each in workers]),
        lagging=sum(each.lagging for each in workers),
        fanout=_quantile(serving, "fanout"),
        age=_quantile(serving, "age"),
        processes=processes,
        partitions=_partitions(now, before, seconds),
        events=[_event(each) for each in now["events"]],
    )


def printable(value: object) -> str:
    """The value as text, without control characters."""
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


class _Change:
    """The counts of one process between two documents."""

    def __init__(self, now: Document, before: Document | None, seconds: float) -> None:
        self.now = now
        self.before = before
        self.seconds = seconds
        if before is None or _restarted(now, before):
            self.before = None
            # It counts from its own start, which is after the other document.
            self.seconds = min(seconds, now.get("uptime_seconds", seconds)) or seconds

    @property
    def is_worker(self) -> bool:
        return self.now.get("slot") is not None

    def counted(self, field: str) -> float:
        before = self.before["board"][field] if self.before is not None else 0
        return float(self.now["board"][field] - before)

    def rate(self, field: str) -> float:
        return self.counted(field) / self.seconds

    def cpu(self) -> float:
        before = self.before["cpu_seconds"] if self.before is not None else 0.0
        return float(self.now["cpu_seconds"] - before) / self.seconds

    def counts(self, histogram: str) -> list[int]:
        counts: list[int] = list(self.now["histograms"][histogram]["counts"])
        if self.before is None:
            return counts
        before = self.before["histograms"][histogram]["counts"]
        return [count - less for count, less in zip(counts, before, strict=True)]


def _key(process: Document) -> _Key:
    return process["name"], process.get("pid")


def _restarted(now: Document, before: Document) -> bool:
    # Another process may have the same process id.
    return bool(now["cpu_seconds"] < before["cpu_seconds"]) or (
        "board" in now and now["board"]["beat"] < before["board"]["beat"]
    )


def _process(change: _Change, time: float, *, compared: bool) -> ProcessView:
    document = change.now
    # A new child counts from its start; the supervisor, which has no pid here, from `before` only.
    cpu = change.cpu() if compared and (change.before is not None or "pid" in document) else None
    common = {
        "name": printable(document["name"]),
        "cpu": cpu,
        "resident_bytes": document["resident_bytes"],
        "open_files": document["open_files"],
    }
    if "board" not in document:
        return ProcessView(**common, state="")
    board = document["board"]
    oldest_ms = board["ring_oldest_ms"]
    return ProcessView(
        **common,
        state=document["state"],
        is_worker=change.is_worker,
        pid=document["pid"],
        restarts=document["restarts"],
        uptime_seconds=document["uptime_seconds"],
        connections=board["connections"],
        lagging=board["lagging"],
        skipped=board["skipped"],
        # A service that is older than this command does not say.
        io_uring=IoUring(board.get("io_uring", IoUring.UNKNOWN)),
        traffic=_traffic(change) if compared else Traffic(),
        depth=Depth(
            board["ring_frames"],
            board["ring_bytes"],
            max(0.0, time - oldest_ms / 1000) if oldest_ms else None,
        ),
    )


def _traffic(change: _Change) -> Traffic:
    writes = change.counted("writes")
    return Traffic(
        frames=change.rate("frames"),
        deliveries=change.rate("deliveries"),
        bytes=change.rate("bytes"),
        joined=change.counted("deliveries") / writes if writes else None,
        fanout=_quantile([change], "fanout"),
        age=_quantile([change], "age"),
        loop_delay=_quantile([change], "loop_delay"),
    )


def _quantile(changes: Sequence[_Change], histogram: str) -> UpperBound | None:
    if not changes:
        return None
    bounds = changes[0].now["histograms"][histogram]["bounds"]
    sums = [
        sum(column) for column in zip(*(each.counts(histogram) for each in changes), strict=True)
    ]
    found = quantile(bounds, sums, _P99)
    if found is None:
        return None
    return UpperBound(found) if found <= bounds[-1] else UpperBound(bounds[-1], beyond=True)


def _sum(rates: Sequence[float | None]) -> float | None:
    known = [rate for rate in rates if rate is not None]
    return sum(known) if known else None


def _partitions(now: Document, before: Document | None, seconds: float) -> list[PartitionView]:
    known = {}
    if before is not None:
        known = {
            (each["stream"], each["partition"]): each["next_offset"]
            for each in before["partitions"]
        }
    found = []
    for each in now["partitions"]:
        since = known.get((each["stream"], each["partition"]))
        records = None
        # The offsets of a re-created topic begin again.
        if since is not None and each["next_offset"] >= since:
            records = (each["next_offset"] - since) / seconds
        found.append(
            PartitionView(
                stream=each["stream"],
                partition=each["partition"],
                next_offset=each["next_offset"],
                records=records,
                lag_records=each["lag_records"],
                lag_seconds=each["lag_seconds"],
                newest_seconds=_age(now["time"], each.get("newest_record")),
            )
        )
    return sorted(found, key=lambda each: (each.stream, each.partition))


def _age(now: float, then: float | None) -> float | None:
    # A producer's clock may be ahead of this one.
    return None if then is None else max(0.0, now - then)


def _event(event: Document) -> EventView:
    fields = [f"{name}={value}" for name, value in event.items() if name not in _EVENT]
    return EventView(
        time=printable(event.get("time", "")),
        level=printable(event.get("level", "")),
        text=printable(" ".join([str(event.get("event", "")), *fields])),
    )
