"""`energyws status`: a view as plain text."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten
from typing import Final

from energyws.control.status.figures import freshness, history, io_uring, readiness, totals
from energyws.control.status.model import ServiceView
from energyws.control.status.table import PARTITIONS, PROCESSES, Cell, table

# Short enough for most terminals and tickets.
WIDTH: Final = 100


def summary(view: ServiceView) -> str:
    """The service, its processes and its partitions, in lines of at most `WIDTH` characters.

    Long names of streams make a line longer: they are not cut.
    """
    head = [
        f"energyws {view.version}: {readiness(view)}",
        *totals(view),
        shorten(freshness(view), WIDTH, placeholder=" …"),
        history(view),
        shorten(io_uring(view), WIDTH, placeholder=" …"),
    ]
    lines = [*head, "", *_plain(table(PROCESSES, view.processes, WIDTH))]
    if view.partitions:
        lines += ["", *_plain(table(PARTITIONS, view.partitions, WIDTH))]
    return "\n".join(lines)


def _plain(lines: Sequence[Sequence[Cell]]) -> list[str]:
    return ["".join(text for text, _ in cells).rstrip() for cells in lines]
