"""Figures as short text, and the columns of the tables that show them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from energyws.control.status.model import PartitionView, ProcessView, ServiceView, UpperBound

UNKNOWN: Final = "–"
# From here on thousands are counted.
_LONG: Final = 99_999
_UNITS: Final = ("", "k", "M", "G", "T", "P")
_SPANS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"))


def count(value: float | None) -> str:
    """1,234; from 100,000 on with three digits and a unit: 123k, 1.23M."""
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if round(value) <= _LONG else _scaled(value, 1000, "")


def rate(value: float | None) -> str:
    """As a count, with a decimal below 10."""
    if value is None:
        return UNKNOWN
    # 9.96 is 10, not 10.0.
    return f"{value:.1f}" if 0 < value < 9.95 else count(value)


def size(value: float | None) -> str:
    """Bytes with three digits: 512 B, 1.50 KiB, 74.2 MiB."""
    if value is None:
        return UNKNOWN
    return f"{value:.0f} B" if value < 1000 else f"{_scaled(value, 1024, ' ')}iB".replace("k", "K")


def duration(seconds: float | None) -> str:
    """250 µs, 2.5 ms, 1.5 s, 4 m 10 s, 3 h 7 m, 12 d 3 h."""
    if seconds is None:
        return UNKNOWN
    # What rounds to 1,000 of a unit is one of the next, and no less than one.
    if round(seconds * 1e6) < 1000:
        return f"{seconds * 1e6:.0f} µs" if seconds else "0 s"
    if round(seconds * 1e3) < 1000:
        return f"{max(1.0, seconds * 1e3):.3g} ms"
    if seconds < 60:
        return f"{max(1.0, seconds):.3g} s"
    for number, (span, unit) in enumerate(_SPANS):
        if seconds >= span:
            less, name = _SPANS[number + 1] if number + 1 < len(_SPANS) else (1, "s")
            whole, rest = divmod(int(seconds), span)
            return f"{whole} {unit} {rest // less} {name}"
    raise AssertionError(seconds)


def bound(value: UpperBound | None) -> str:
    """A duration; >1 s where it is beyond what is told apart."""
    if value is None:
        return UNKNOWN
    return f">{duration(value.seconds)}" if value.beyond else duration(value.seconds)


def percent(cores: float | None) -> str:
    """Of one core, as top has it."""
    return UNKNOWN if cores is None else f"{cores * 100:.0f}%"


def _scaled(value: float, base: int, gap: str) -> str:
    power = 0
    while value >= 999.5 and power < len(_UNITS) - 1:
        value /= base
        power += 1
    digits = max(0, 2 - len(f"{value:.0f}") + 1)
    return f"{value:.{digits}f}{gap}{_UNITS[power]}"


Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A column. width: in characters; rank: the higher ones go first where room is short."""

    title: str
    width: int
    rank: int
    text: Callable[[Row], str]
    left: bool = False


def fitting(columns: Sequence[Column[Row]], width: int, gap: int) -> list[Column[Row]]:
    """Those that have room side by side, in their order; the first rank always has."""
    left = width
    kept = set()
    for column in sorted(columns, key=lambda column: column.rank):
        left -= column.width + gap
        if left + gap < 0:
            break
        kept.add(column.title)
    return [column for column in columns if column.title in kept]


def _worker(text: Callable[[ProcessView], str]) -> Callable[[ProcessView], str]:
    return lambda process: text(process) if process.is_worker else ""


def _child(text: Callable[[ProcessView], str]) -> Callable[[ProcessView], str]:
    return lambda process: text(process) if process.pid is not None else ""


# Nine of them have room in 80 characters. loop, fan-out and age are 99th percentiles.
PROCESSES: Final[Sequence[Column[ProcessView]]] = (
    Column("process", 10, 0, lambda each: each.name, left=True),
    Column("state", 8, 1, lambda each: each.state, left=True),
    Column("conns", 6, 2, _worker(lambda each: count(each.connections))),
    Column("deliv/s", 7, 3, _worker(lambda each: rate(each.traffic.deliveries))),
    Column("CPU", 4, 4, lambda each: percent(each.cpu)),
    Column("RSS", 8, 5, lambda each: size(each.resident_bytes)),
    Column("loop", 7, 6, _child(lambda each: bound(each.traffic.loop_delay))),
    Column("lagging", 7, 7, _worker(lambda each: count(each.lagging))),
    Column("fan-out", 7, 8, _worker(lambda each: bound(each.traffic.fanout))),
    Column("age", 7, 9, _worker(lambda each: bound(each.traffic.age))),
    Column("frames/s", 8, 11, _child(lambda each: rate(each.traffic.frames))),
    Column("joined", 6, 13, _worker(lambda each: rate(each.traffic.joined))),
    Column("bytes/s", 8, 12, _worker(lambda each: size(each.traffic.bytes))),
    Column("skipped", 7, 14, _worker(lambda each: count(each.skipped))),
    Column("fds", 6, 15, lambda each: count(each.open_files)),
    Column("restarts", 8, 10, _child(lambda each: count(each.restarts))),
    Column("up", 10, 16, _child(lambda each: duration(each.uptime_seconds))),
)
PARTITIONS: Final[Sequence[Column[PartitionView]]] = (
    Column("partition", 16, 0, lambda each: f"{each.stream}/{each.partition}", left=True),
    Column("next offset", 16, 1, lambda each: f"{each.next_offset:,}"),
    Column("records/s", 9, 4, lambda each: rate(each.records)),
    Column("lag", 8, 2, lambda each: count(each.lag_records)),
    Column("lag time", 10, 3, lambda each: duration(each.lag_seconds)),
    Column("newest", 8, 5, lambda each: duration(_whole(each.newest_seconds))),
)


def totals(view: ServiceView) -> list[str]:
    """The whole service in two lines."""
    return [
        f"workers {view.workers_ready} of {view.workers_wanted} ready · "
        f"clients {count(view.connections)} of {count(view.max_connections)} · "
        f"lagging {count(view.lagging)}",
        f"in {rate(view.published)}/s · out {rate(view.deliveries)}/s, {size(view.bytes)}/s · "
        f"fan-out p99 {bound(view.fanout)} · age p99 {bound(view.age)}",
    ]


def history(view: ServiceView) -> str:
    """What is held of the past: by the consumer, and by the worker that has the least."""
    told = [
        f"{count(held.frames)} frames, {duration(held.seconds)}, {size(held.bytes)}"
        for process in view.processes
        if (held := process.depth) is not None and not process.is_worker
    ]
    workers = [each.depth for each in view.processes if each.is_worker and each.depth is not None]
    if workers:
        least = min(workers, key=lambda held: held.frames)
        told.append(f"in workers ≥ {count(least.frames)}, {duration(least.seconds)}")
    return f"history {' · '.join(told) or UNKNOWN}"


def freshness(view: ServiceView) -> str:
    """How long ago each stream had its newest record; the most silent one first."""
    ages = view.newest()
    told = ["none yet" if age is None else f"{duration(_whole(age))} ago" for age in ages.values()]
    if len(told) > 1:
        told = [f"{stream} {each}" for stream, each in zip(ages, told, strict=True)]
    return f"newest record {' · '.join(told) or UNKNOWN}"


def _whole(seconds: float | None) -> float | None:
    # Milliseconds of it say nothing: they change with each look.
    return None if seconds is None else float(int(seconds))


def standing(view: ServiceView) -> str:
    """Ready or not, and why."""
    if view.ready:
        return "ready"
    return f"not ready: {'; '.join(view.reasons)}"
