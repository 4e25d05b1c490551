"""The tables of processes and partitions, for `energyws status` and `energyws top`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from energyws.control.status.figures import bound, count, duration, percent, rate, size, whole
from energyws.control.status.model import PartitionView, ProcessView

_GAP: Final = 2
_BUSY_CORES: Final = 0.9
_STATES: Final = {"ready": "green", "starting": "yellow", "draining": "yellow"}

Row = TypeVar("Row")
# A piece of a line, and its style in a terminal.
Cell = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Column(Generic[Row]):
    """A column. width: in characters. rank: the columns of the highest rank are left out first."""

    title: str
    width: int
    rank: int
    text: Callable[[Row], str]
    left: bool = False
    style: Callable[[Row], str] = lambda _: ""


def table(
    columns: Sequence[Column[Row]], rows: Sequence[Row], width: int, *, cut: bool = False
) -> list[list[Cell]]:
    """A line of titles and a line per row, of those columns that fit into `width`.

    cut: texts wider than their column end with an ellipsis; else they make the line longer.
    """
    kept = fitting(columns, width)
    lines = [[(column.title, "bold") for column in kept]]
    lines += [[(column.text(row), column.style(row)) for column in kept] for row in rows]
    return [_padded(kept, line, cut) for line in lines]


def fitting(columns: Sequence[Column[Row]], width: int) -> list[Column[Row]]:
    """The columns that fit side by side, in their order."""
    left = width
    kept = set()
    for column in sorted(columns, key=lambda column: column.rank):
        left -= column.width + _GAP
        if left + _GAP < 0:
            break
        kept.add(column.title)
    return [column for column in columns if column.title in kept]


def _padded(columns: Sequence[Column[Row]], line: Sequence[Cell], cut: bool) -> list[Cell]:
    cells: list[Cell] = []
    for column, (text, style) in zip(columns, line, strict=True):
        if cut and len(text) > column.width:
            text = f"{text[: column.width - 1]}…"
        padded = f"{text:<{column.width}}" if column.left else f"{text:>{column.width}}"
        cells.append((" " * _GAP + padded if cells else padded, style))
    return cells


def _worker(text: Callable[[ProcessView], str]) -> Callable[[ProcessView], str]:
    return lambda process: text(process) if process.is_worker else ""


def _child(text: Callable[[ProcessView], str]) -> Callable[[ProcessView], str]:
    return lambda process: text(process) if process.pid is not None else ""


def _state(process: ProcessView) -> str:
    return _STATES.get(process.state, "")


def _busy(process: ProcessView) -> str:
    return "red" if (process.cpu or 0.0) >= _BUSY_CORES else ""


def _lagging(process: ProcessView) -> str:
    return "yellow" if process.lagging else ""


def _behind(partition: PartitionView) -> str:
    return "yellow" if partition.lag_records else ""


# Nine of them fit into 80 characters. loop, fan-out and age are 99th percentiles.
PROCESSES: Final[Sequence[Column[ProcessView]]] = (
    Column("process", 10, 0, lambda each: each.name, left=True),
    Column("state", 8, 1, lambda each: each.state, left=True, style=_state),
    Column("conns", 6, 2, _worker(lambda each: count(each.connections))),
    Column("deliv/s", 7, 3, _worker(lambda each: rate(each.traffic.deliveries))),
    Column("CPU", 4, 4, lambda each: percent(each.cpu), style=_busy),
    Column("RSS", 8, 5, lambda each: size(each.resident_bytes)),
    Column("loop", 7, 6, _child(lambda each: bound(each.traffic.loop_delay))),
    Column("lagging", 7, 7, _worker(lambda each: count(each.lagging)), style=_lagging),
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
    Column("lag", 8, 2, lambda each: count(each.lag_records), style=_behind),
    Column("lag time", 10, 3, lambda each: duration(each.lag_seconds)),
    Column("newest", 8, 5, lambda each: duration(whole(each.newest_seconds))),
)
