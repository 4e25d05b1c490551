"""`energyws status`: a view as plain text, for people and their pipes."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten
from typing import Final, TypeVar

from energyws.control.status.figures import (
    PARTITIONS,
    PROCESSES,
    Column,
    fitting,
    freshness,
    history,
    standing,
    totals,
)
from energyws.control.status.model import ServiceView

# A line has room in any terminal and any ticket.
WIDTH: Final = 100
_GAP: Final = "  "

Row = TypeVar("Row")


def summary(view: ServiceView) -> str:
    """The service, its processes and its partitions; lines of `WIDTH` characters at most."""
    blocks = [
        "\n".join(
            [
                f"energyws {view.version}: {standing(view)}",
                *totals(view),
                shorten(freshness(view), WIDTH, placeholder=" …"),
                history(view),
            ]
        ),
        _table(PROCESSES, view.processes),
    ]
    if view.partitions:
        blocks.append(_table(PARTITIONS, view.partitions))
    return "\n\n".join(blocks)


def _table(columns: Sequence[Column[Row]], rows: Sequence[Row]) -> str:
    kept = fitting(columns, WIDTH, len(_GAP))
    lines = [[column.title for column in kept]]
    lines += [[column.text(row) for column in kept] for row in rows]
    return "\n".join(
        _GAP.join(
            f"{cell:<{column.width}}" if column.left else f"{cell:>{column.width}}"
            for column, cell in zip(kept, line, strict=True)
        ).rstrip()
        for line in lines
    )
