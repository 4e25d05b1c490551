"""`energyws top`: a view as a screen of exactly the terminal's size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Group
from rich.text import Text

from energyws.control.status.figures import duration, freshness, history, readiness, totals
from energyws.control.status.keys import HELP
from energyws.control.status.model import EventView, ServiceView
from energyws.control.status.table import PARTITIONS, PROCESSES, Column, Row, table

_LEGEND: Final = f"{HELP}   loop, fan-out, age: p99"
# The rows that partitions and events keep, however many processes there are.
_LEAST: Final = 3
_LEVELS: Final = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
# The time of day in 2026-01-31T12:00:00.000Z.
_CLOCK: Final = slice(11, 19)


@dataclass(frozen=True, slots=True)
class Picture:
    """The contents of the screen. where: the service's host and port. outcome: of the last command.

    failure: why the view is `age_seconds` old. question: what the operator has to confirm.
    """

    view: ServiceView
    where: str
    outcome: str = ""
    question: str | None = None
    failure: str | None = None
    age_seconds: float = 0.0


def screen(picture: Picture, width: int, height: int) -> Group:
    """`height` lines of at most `width` characters."""
    head, foot = _head(picture), _foot(picture)
    lines = [*head, *_body(picture.view, width, height - len(head) - len(foot))]
    # The keys stay, even in a terminal of a few lines.
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
        (f"energyws {view.version}", "bold"), f" at {picture.where}  ", _readiness(picture)
    )
    return [title, *map(Text, [*totals(view), freshness(view), history(view)])]


def _readiness(picture: Picture) -> tuple[str, str]:
    if picture.failure is not None:
        return f"no answer for {duration(round(picture.age_seconds))}, trying again", "bold red"
    return readiness(picture.view), "green" if picture.view.ready else "bold yellow"


def _foot(picture: Picture) -> list[Text]:
    if picture.question is not None:
        first = Text(picture.question, "reverse")
    elif picture.failure is not None:
        first = Text(picture.failure, "red")
    else:
        first = Text(picture.outcome)
    return [first, Text(_LEGEND, "dim")]


def _body(view: ServiceView, width: int, height: int) -> list[Text]:
    """Three blocks, each with an empty line and a title above it."""
    rows = _allot(height - 6, len(view.processes), len(view.partitions), len(view.events))
    processes = _worst(view.processes, rows[0], lambda each: each.cpu or 0.0)
    partitions = _worst(view.partitions, rows[1], lambda each: each.lag_records)
    blocks = [
        _table(PROCESSES, processes, len(view.processes), width),
        _table(PARTITIONS, partitions, len(view.partitions), width),
        [Text("events", "bold"), *map(_event, view.events[len(view.events) - rows[2] :])],
    ]
    return [line for block in blocks for line in (Text(), *block)]


def _allot(room: int, processes: int, partitions: int, events: int) -> tuple[int, int, int]:
    """How many rows each block gets."""
    kept = min(partitions, _LEAST), min(events, _LEAST)
    first = max(0, min(processes, room - sum(kept)))
    second = max(0, min(partitions, room - first - kept[1]))
    return first, second, max(0, min(events, room - first - second))


def _worst(rows: Sequence[Row], count: int, bad: Callable[[Row], float]) -> list[Row]:
    """All rows; or the worst `count` - 1 in their order, and one line is left for the others."""
    if len(rows) <= count:
        return list(rows)
    worst = sorted(range(len(rows)), key=lambda at: bad(rows[at]), reverse=True)
    return [rows[at] for at in sorted(worst[: max(0, count - 1)])]


def _table(
    columns: Sequence[Column[Row]], rows: Sequence[Row], total: int, width: int
) -> list[Text]:
    lines = [Text.assemble(*cells) for cells in table(columns, rows, width, cut=True)]
    if len(rows) < total:
        lines.append(Text(f"… and {total - len(rows)} more", "dim"))
    return lines


def _event(event: EventView) -> Text:
    level = event.level, _LEVELS.get(event.level, "")
    return Text.assemble((event.time[_CLOCK], "dim"), " ", level, " ", event.text)
