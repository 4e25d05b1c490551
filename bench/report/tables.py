"""Markdown tables of figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Results = Mapping[str, Any]
# A title, and a row's cell under it: the name of a figure, or a function of the row.
Column = tuple[str, str | Callable[[Any], str]]
SUMMARY: Final = (("mean, ms", "mean"), ("p50", "p50"), ("p99", "p99"), ("max", "max"))


@dataclass(frozen=True)
class Section:
    """Markdown, and the plots that follow it: by name, a description and the SVG."""

    markdown: str
    plots: dict[str, tuple[str, str]] = field(default_factory=dict)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    head = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*head, *body]) + "\n"


def table_of(rows: Iterable[Any], *columns: Column) -> str:
    """A table with one line per row."""

    def cell(row: Any, shown: str | Callable[[Any], str]) -> str:
        return figure(row[shown]) if isinstance(shown, str) else shown(row)

    return table(
        [title for title, _ in columns],
        [[cell(row, shown) for _, shown in columns] for row in rows],
    )


def figure(value: float | None) -> str:
    """Three significant digits: 1,234,567 as it is, 12.3, 0.0123; nothing for None."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    places = 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3
    return f"{value:.{places}f}"


def kind(row: Results) -> str:
    """The kind of connection in a row of bench.fanout, and whether io_uring served it."""
    if row["tls"]:
        return "TLS"
    # Older results do not say.
    state = row.get("io_uring")
    return "plain" if state is None else f"plain, io_uring {state.replace('_', ' ')}"


def count(name: str) -> Callable[[Results], str]:
    return lambda row: f"{row[name]:,}"


def text(name: str) -> Callable[[Results], str]:
    return lambda row: str(row[name])


def inner(name: str, *columns: tuple[str, str]) -> list[Column]:
    """Columns from a mapping within the row: title and key of each figure."""
    return [(title, lambda row, key=key: figure(row[name][key])) for title, key in columns]  # type: ignore[misc]


def cores_of(cores: Mapping[str, float], kind: str) -> float:
    """The sum over the processes of a kind, such as "worker-"."""
    return sum(share for name, share in cores.items() if name.startswith(kind))
