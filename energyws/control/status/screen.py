"""A view as a screen of any size: nothing on it is wider or higher than the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from rich.console import Group
from rich.text import Text

from energyws.control.status.figures import (
    PARTITIONS,
    PROCESSES,
    Column,
    duration,
    fitting,
    freshness,
    history,
    standing,
    totals,
)
from energyws.control.status.keys import HELP
from energyws.control.status.model import EventView, PartitionView, ProcessView, ServiceView

_GAP: Final = 2
_LEGEND: Final = f"{HELP}   loop, fan-out, age: p99"
# Rows of partitions and of events that stay even if there are many processes.
_LEAST: Final = 3
_BUSY_CORES: Final = 0.9
_STATES: Final = {"ready": "green", "starting": "yellow", "draining": "yellow"}
_LEVELS: Final = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
_PROCESS_STYLES: Final[dict[str, Callable[[ProcessView], str]]] = {
    "state": lambda each: _STATES.get(each.state, ""),
    "CPU": lambda each: "red" if (each.cpu or 0.0) >= _BUSY_CORES else "",
    "lagging": lambda each: "yellow" if each.lagging else "",
}
_PARTITION_STYLES: Final[dict[str, Callable[[PartitionView], str]]] = {
    "lag": lambda each: "yellow" if each.lag_records else "",
}
# The time of day in 2026-01-31T12:00:00.000Z.
_CLOCK: Final = slice(11, 19)

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Picture:
    """What is to be seen. where: the service's host and port; said: how the last command went.

    trouble: why there is nothing newer than `age_seconds`; question: what the operator is asked.
    """

    view: ServiceView
    where: str
    said: str = ""
    question: str | None = None
    trouble: str | None = None
    age_seconds: float = 0.0


def screen(picture: Picture, width: int, height: int) -> Group:
    """`height` lines of at most `width` characters."""
    head, foot = _head(picture), _foot(picture)
    lines = [*head, *_body(picture.view, width, height - len(head) - len(foot))]
    # In a terminal of a few lines only, the keys are what must not be missing.
    lines = lines[: max(0, height - len(foot))]
    lines += [Text() for _ in range(height - len(foot) - len(lines))]
    lines = [*lines, *foot][-height:]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        line.no_wrap = True
    return Group(*lines)


def _head(picture: Picture) -> list[Text]:
    view = picture.view
    title = Text.assemble(
        (f"energyws {view.version}", "bold"), f" at {picture.where}  ", _standing(picture)
    )
    return [title, *map(Text, [*totals(view), freshness(view), history(view)])]


def _standing(picture: Picture) -> tuple[str, str]:
    if picture.trouble is not None:
        return f"no answer for {duration(round(picture.age_seconds))}, trying again", "bold red"
    return standing(picture.view), "green" if picture.view.ready else "bold yellow"


def _foot(picture: Picture) -> list[Text]:
    if picture.question is not None:
        first = Text(picture.question, "reverse")
    elif picture.trouble is not None:
        first = Text(picture.trouble, "red")
    else:
        first = Text(picture.said)
    return [first, Text(_LEGEND, "dim")]


def _body(view: ServiceView, width: int, height: int) -> list[Text]:
    """Three blocks, each with an empty line above and a title."""
    rows = _allot(height - 6, len(view.processes), len(view.partitions), len(view.events))
    blocks = [
        _table(
            _worst(view.processes, rows[0], lambda each: each.cpu or 0.0),
            len(view.processes),
            PROCESSES,
            _PROCESS_STYLES,
            width,
        ),
        _table(
            _worst(view.partitions, rows[1], lambda each: each.lag_records),
            len(view.partitions),
            PARTITIONS,
            _PARTITION_STYLES,
            width,
        ),
        [Text("events", "bold"), *map(_event, view.events[len(view.events) - rows[2] :])],
    ]
    return [line for block in blocks for line in (Text(), *block)]


def _allot(room: int, processes: int, partitions: int, events: int) -> tuple[int, int, int]:
    """How many rows each block gets of those that it wants."""
    kept = min(partitions, _LEAST), min(events, _LEAST)
    first = max(0, min(processes, room - sum(kept)))
    second = max(0, min(partitions, room - first - kept[1]))
    return first, second, max(0, min(events, room - first - second))


def _worst(rows: Sequence[Row], count: int, bad: Callable[[Row], float]) -> list[Row]:
    """All of them; or, in their order, one less than `count`: a line tells of the others."""
    if len(rows) <= count:
        return list(rows)
    worst = sorted(range(len(rows)), key=lambda at: bad(rows[at]), reverse=True)
    return [rows[at] for at in sorted(worst[: max(0, count - 1)])]


def _table(
    rows: Sequence[Row],
    total: int,
    columns: Sequence[Column[Row]],
    styles: dict[str, Callable[[Row], str]],
    width: int,
) -> list[Text]:
    kept = fitting(columns, width, _GAP)
    lines = [_line(kept, ((column.title, "bold") for column in kept))]
    for row in rows:
        cells = (
            (column.text(row), styles[column.title](row) if column.title in styles else "")
            for column in kept
        )
        lines.append(_line(kept, cells))
    if len(rows) < total:
        lines.append(Text(f"… and {total - len(rows)} more", "dim"))
    return lines


def _line(columns: Sequence[Column[Row]], cells: Iterable[tuple[str, str]]) -> Text:
    line = Text()
    for number, (column, (text, style)) in enumerate(zip(columns, cells, strict=True)):
        cell = Text(text, style)
        cell.truncate(column.width, overflow="ellipsis")
        # Before the cell, so that it is not in its style.
        padding = " " * (column.width - cell.cell_len)
        line.append(" " * _GAP if number else "")
        line.append_text(cell if column.left else Text(padding))
        line.append_text(Text(padding) if column.left else cell)
    return line


def _event(event: EventView) -> Text:
    level = event.level, _LEVELS.get(event.level, "")
    return Text.assemble((event.time[_CLOCK], "dim"), " ", level, " ", event.text)
