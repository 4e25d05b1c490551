"""The demo's view as a screen of exactly the terminal's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from rich.console import Group
from rich.text import Text

from energyws.control.status.figures import count, duration, percent, readiness
from energyws.control.status.model import ProcessView
from energyws.control.status.table import Column, table
from energyws.demo.screen.kills import Kill
from energyws.demo.screen.links import Links
from energyws.demo.screen.model import DemoView, MeterView
from energyws.demo.screen.overlays import help_lines, link_lines, wrapped
from energyws.demo.screen.sparkline import sparkline

Overlay = Literal["help", "links"]
KEYS: Final = "p kill a worker   u links, QR code   ? help   q quit"
_SHORT_KEYS: Final = "p kill  u links  ? help  q quit"
# The longest line of figures, and of keys, needs about this many characters.
_WIDE: Final = 76
_LABEL: Final = 7
# The serial number, the watts, and the spaces around them.
_METER: Final = 22
# The lines that kills and workers keep, however many meters there are.
_LEAST_KILLS: Final = 3
_LEAST_WORKERS: Final = 3
# A title, one row, and the number of the others.
_LEAST_FEWER: Final = 3
_STATES: Final = {"ready": "green", "starting": "yellow", "draining": "yellow"}
_WORKERS: Final[Sequence[Column[ProcessView]]] = (
    Column("worker", 10, 0, lambda each: each.name, left=True),
    Column("pid", 8, 1, lambda each: str(each.pid or "")),
    Column(
        "state", 8, 2, lambda each: each.state, left=True, style=lambda e: _STATES.get(e.state, "")
    ),
    Column("clients", 7, 3, lambda each: count(each.connections)),
    Column("CPU", 5, 4, lambda each: percent(each.cpu)),
    Column("restarts", 8, 5, lambda each: count(each.restarts)),
)


@dataclass(frozen=True, slots=True)
class Picture:
    """The contents of the screen. log: where the service's log is. remarks: about the start.

    overlay: what covers the figures. outcome: of the last key.
    """

    view: DemoView
    links: Links
    log: str
    remarks: Sequence[str] = ()
    overlay: Overlay | None = None
    outcome: str = ""


def screen(picture: Picture, width: int, height: int) -> Group:
    """`height` lines of at most `width` characters; the keys are always the last one."""
    foot = [
        Text(picture.outcome, "yellow"),
        Text(KEYS if len(KEYS) <= width else _SHORT_KEYS, "dim"),
    ]
    if height < 12:
        foot = foot[1:]
    room = height - len(foot)
    if picture.overlay == "help":
        lines = help_lines(width)
    elif picture.overlay == "links":
        lines = link_lines(picture.links, width, room)
    else:
        lines = _figures(picture, width, room)
    lines = [*lines[:room], *(Text() for _ in range(room - len(lines))), *foot]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        line.no_wrap = True
    return Group(*lines[-height:])


def _figures(picture: Picture, width: int, room: int) -> list[Text]:
    view = picture.view
    head = _head(picture, width, room)
    proof = [_clients(view, width), _readings(view, width)]
    workers = _workers(view, width)
    meters = [_meter(each, width) for each in view.meters] or [Text("waiting for a reading …")]
    # The proof stays; the others get what is left, and the newest kill is the last to go.
    left = room - len(head) - len(proof)
    kills = [line for each in view.kills for line in _kill(each, width)]
    least = min(len(kills), _LEAST_KILLS)
    gap = [Text()] if left >= len(meters) + len(workers) + least + 4 else []
    left -= 4 * len(gap) + least
    meters = _fewer(meters, left - min(len(workers), _LEAST_WORKERS), "meters")
    workers = _fewer(workers, left - len(meters), "workers")
    left += least - len(meters) - len(workers)
    kills = kills[max(0, len(kills) - max(0, left)) :]
    return [*head, *gap, *meters, *gap, *workers, *gap, *proof, *gap, *kills]


def _head(picture: Picture, width: int, room: int) -> list[Text]:
    view, links = picture.view, picture.links
    state = ("starting", "bold yellow")
    if view.service is not None:
        state = readiness(view.service), "green" if view.service.ready else "bold yellow"
    title = Text.assemble(("energyws demo", "bold"), "  ", state)
    title.append(f"  {duration(float(int(view.up_seconds)))}", "dim")
    page = _line("page", links.page, f"bold cyan link {links.page_with_token}")
    if width >= _WIDE:
        page.append("  click it, or press u", "dim")
    head = [title, page]
    commands = [("wscat", links.wscat), ("tail", links.tail), ("top", [links.top])]
    wide = max(len(line) for _, lines in commands for line in lines) + _LABEL <= width
    # A command that is cut could not be copied: the key u shows all of them at any width.
    if wide and room >= 20:
        for label, lines in commands:
            head += [_line(label if n == 0 else "", line) for n, line in enumerate(lines)]
    if room >= 14:
        head.append(_line("log", picture.log))
        head += [Text(remark, "yellow") for remark in picture.remarks]
    return head


def _line(label: str, text: str, style: str = "") -> Text:
    return Text.assemble((f"{label:<{_LABEL}}", "dim"), (text, style))


def _meter(meter: MeterView, width: int) -> Text:
    return Text.assemble(
        (f"{meter.serial:<10}", ""),
        (f"{meter.watts:>7,.0f} W", "bold"),
        "  ",
        (sparkline(meter.trace, max(0, width - _METER)), "green"),
    )


def _workers(view: DemoView, width: int) -> list[Text]:
    if view.service is None:
        return []
    workers = [each for each in view.service.processes if each.is_worker]
    # The service lists the newest last; here each keeps its place.
    workers.sort(key=lambda each: (len(each.name), each.name))
    return [Text.assemble(*cells) for cells in table(_WORKERS, workers, width, cut=True)]


def _clients(view: DemoView, width: int) -> Text:
    text = Text.assemble(
        "clients ",
        (f"{view.live} of {view.clients}", "green" if view.live == view.clients else "bold yellow"),
    )
    if width >= _WIDE:
        text.append(f" live, {view.reconnects} reconnected")
    delays = ["–"] if view.delays is None else map(duration, view.delays)
    return text.append(f" · delay{' p50 / p99' if width >= _WIDE else ''} {' / '.join(delays)}")


def _readings(view: DemoView, width: int) -> Text:
    good = not (view.lost or view.repeated)
    return Text.assemble(
        f"{'received ' if width >= _WIDE else ''}{view.received:,} readings · ",
        (f"{view.lost:,} lost, {view.repeated:,} repeated", "bold green" if good else "bold red"),
    )


def _kill(kill: Kill, width: int) -> list[Text]:
    lines = wrapped(kill.text(), max(10, width - len(kill.clock) - 1))
    for number, line in enumerate(lines):
        line.stylize("" if kill.is_over else "yellow")
        lines[number] = Text.assemble((f"{'' if number else kill.clock:<9}", "dim"), line)
    return lines


def _fewer(lines: list[Text], most: int, what: str) -> list[Text]:
    if len(lines) <= most:
        return lines
    if most < _LEAST_FEWER:
        return []
    return [*lines[: most - 1], Text(f"… and {len(lines) - most + 1} more {what}", "dim")]
