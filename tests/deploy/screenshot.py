"""The dashboard's panels with data of a running service, for docs/operations/dashboard.md.

python -m tests.deploy.screenshot        takes two minutes; needs Debian's prometheus
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench.kit.plot import HEIGHT, WIDTH, Point, line_chart, number
from tests.deploy.files import ROOT, panels
from tests.deploy.live import CLIENTS, Prometheus, line_name, running

PICTURE: Final = ROOT / "docs" / "operations" / "dashboard.svg"
PAGE: Final = PICTURE.with_suffix(".md")
SECONDS: Final = 120
_STEP_SECONDS: Final = 5
_COLUMNS: Final = 3
_SCALE: Final = 0.5
# The number of colours.
_LINES: Final = 7
_UNITS: Final = {
    "none": "",
    "s": " (seconds)",
    "bytes": " (bytes)",
    "Bps": " (bytes/s)",
    "percentunit": " (share)",
}
_HEAD: Final = f"""\
# The dashboard with data

`python -m tests.deploy.screenshot` generates this page: a real Prometheus scrapes a real service for two minutes (every second, rates over 10 s) and runs the queries of [the dashboard](../../config/grafana/energyws.json).
The service has two workers, {CLIENTS} clients that stay, one that comes and goes and resumes, and one with a bad token; at the beginning it reloads, and one worker is killed.
The page shows that each panel has data, and what it looks like; it does not measure speed.

![All panels](dashboard.svg)

| panel | line | newest value |
|---|---|---|
"""  # noqa: E501

Lines = Mapping[str, Sequence[Point]]


def lines(prometheus: Prometheus, panel: Mapping[str, Any], start: float, end: float) -> Lines:
    """A panel's lines by name: seconds since `start`, and the value."""
    found: dict[str, list[Point]] = {}
    for target in panel["targets"]:
        for series in prometheus.between(target["expr"], start, end, _STEP_SECONDS):
            points = [(at - start, float(value)) for at, value in series["values"]]
            name = line_name(target["legendFormat"], series["metric"])
            # Without observations, a quantile is NaN.
            found[name] = [(x, y) for x, y in points if math.isfinite(y)]
    return {name: points for name, points in found.items() if points}


def chart(panel: Mapping[str, Any], shown: Lines) -> str:
    """A panel as a line chart: the first lines that are not always 0, or else the first lines."""
    alive = {name: points for name, points in shown.items() if any(y for _, y in points)} or shown
    unit = panel["fieldConfig"]["defaults"]["unit"]
    first = dict(list(alive.items())[:_LINES])
    title = f"{panel['title']}{_UNITS.get(unit, ' (1/s)')}"
    return line_chart(title, "seconds", "", first)


def tiled(charts: Sequence[str]) -> str:
    """All charts as one picture."""
    width, height = WIDTH * _SCALE, HEIGHT * _SCALE
    parts = [
        f'<g transform="translate({index % _COLUMNS * width:g} {index // _COLUMNS * height:g}) '
        f'scale({_SCALE})">\n{each}</g>'
        for index, each in enumerate(charts)
    ]
    across, down = width * _COLUMNS, height * math.ceil(len(charts) / _COLUMNS)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {across:g} {down:g}" '
    return "\n".join([f'{head}width="{across:g}" height="{down:g}">', *parts, "</svg>"]) + "\n"


def _rounded(value: float) -> str:
    return number(float(f"{value:.3g}"))


def main() -> None:
    """Run the service, and write both files."""
    charts, rows = [], []
    with tempfile.TemporaryDirectory() as directory, running(Path(directory)) as (_, prometheus):
        start = time.time()
        time.sleep(SECONDS)
        for panel in panels():
            shown = lines(prometheus, panel, start, start + SECONDS)
            charts.append(chart(panel, shown))
            rows += [
                f"| {panel['title']} | {name} | {_rounded(points[-1][1])} |\n"
                for name, points in shown.items()
            ]
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(tiled(charts))
    PAGE.write_text(_HEAD + "".join(rows))


if __name__ == "__main__":
    main()
