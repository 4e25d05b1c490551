"""The results for each number of workers: as a Trial for the rule, as a table, and as a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.kit.plot import line_chart, stacked
from bench.tune.advice import Trial

Row = Mapping[str, Any]


def cores(row: Row, kind: str) -> list[float]:
    """The cores that each process of a kind uses, such as "worker-"."""
    return [used for name, used in row["cores"].items() if name.startswith(kind)]


def trial(row: Row) -> Trial:
    """The figures that the rule needs."""
    clients = [*cores(row, "generator-"), *cores(row, "observer")]
    return Trial(
        workers=row["workers"],
        busiest_share=max(cores(row, "worker-"), default=0.0),
        generator_share=max(clients, default=0.0),
        machine_share=row["machine_share"],
        p99_ms=row["delay_ms"]["p99"],
        exact=row["exact"],
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text."""
    lines = [_cells(row) for row in rows]
    widths = {title: max(len(title), *(len(line[title]) for line in lines)) for title in lines[0]}
    titles = {title: title for title in widths}
    return "\n".join(
        "  ".join(line[title].rjust(width) for title, width in widths.items())
        for line in (titles, *lines)
    )


def _cells(row: Row) -> dict[str, str]:
    busiest = trial(row).busiest_share
    clients = sum(cores(row, "generator-")) + sum(cores(row, "observer"))
    return {
        "workers": str(row["workers"]),
        "deliveries/s": f"{row['deliveries_per_second']:,.0f}",
        "busiest worker": f"{busiest:.0%}",
        "workers' CPU": f"{sum(cores(row, 'worker-')):.2f}",
        "consumer": f"{row['cores']['consumer']:.2f}",
        "clients": f"{clients:.2f}",
        "machine": f"{row['machine_share']:.0%}",
        "p50 ms": f"{row['delay_ms']['p50']:.1f}",
        "p99 ms": f"{row['delay_ms']['p99']:.1f}",
        "headroom": f"{1 / busiest:.1f} ×" if busiest else "",
    }


def picture(rows: Sequence[Row]) -> str:
    """Delay and CPU by the number of workers, as SVG."""
    delays = {
        name: [(row["workers"], row["delay_ms"][name]) for row in rows] for name in ("p50", "p99")
    }
    shares = {
        "busiest worker": [(row["workers"], trial(row).busiest_share) for row in rows],
        "all workers": [(row["workers"], sum(cores(row, "worker-"))) for row in rows],
        "consumer": [(row["workers"], row["cores"]["consumer"]) for row in rows],
    }
    return stacked(
        [
            line_chart("Delay by the number of workers", "workers", "milliseconds", delays),
            line_chart("CPU by the number of workers", "workers", "cores", shares),
        ]
    )
