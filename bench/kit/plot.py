"""Line charts as SVG: small, deterministic, without dependencies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

Point = tuple[float, float]

WIDTH: Final = 760
HEIGHT: Final = 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 66, 52
# Okabe and Ito's palette, which colour-blind readers can distinguish.
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_GREY: Final = "#6b6b6b"


def nice_ticks(top: float, about: int = 5) -> list[float]:
    """About `about` round values from 0 to at least `top`, in steps of 1, 2 or 5 × 10^n."""
    if top <= 0:
        return [0.0, 1.0]
    rough = top / about
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= rough * (1 - 1e-9))
    count = math.ceil(top / step - 1e-9)
    return [step * number for number in range(count + 1)]


def decades(least: float, most: float) -> list[float]:
    """Two or more powers of ten that enclose `least` and `most`, which are above 0."""
    low = math.floor(math.log10(least))
    high = max(math.ceil(math.log10(most)), low + 1)
    return [10.0**exponent for exponent in range(low, high + 1)]


def number(value: float) -> str:
    """A number as written in prose: 50,000, 0.25."""
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def line_chart(
    title: str,
    x_label: str,
    y_label: str,
    series: Mapping[str, Sequence[Point]],
    *,
    logarithmic: bool = False,
) -> str:
    """A chart of named lines; x starts at 0, and so does y unless it is logarithmic.

    A logarithmic chart omits points that are not above 0. Raises ValueError if no point is left.
    """
    shown = {
        name: [(x, y) for x, y in points if math.isfinite(y) and (y > 0 or not logarithmic)]
        for name, points in series.items()
    }
    shown = {name: points for name, points in shown.items() if points}
    if not shown:
        raise ValueError(f"chart {title!r}: no points")
    xs = [x for points in shown.values() for x, _ in points]
    ys = [y for points in shown.values() for _, y in points]
    x_ticks = nice_ticks(max(xs))
    y_ticks = decades(min(ys), max(ys)) if logarithmic else nice_ticks(max(ys))
    across = _scale(x_ticks[0], x_ticks[-1], _LEFT, WIDTH - _RIGHT)
    up = _scale(y_ticks[0], y_ticks[-1], HEIGHT - _BOTTOM, _TOP, logarithmic=logarithmic)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
        # The text is dark, and the page may be dark too.
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="22" font-size="15" font-weight="bold">{escape(title)}</text>',
        *_grid(x_ticks, y_ticks, across, up),
        f'<text x="{(_LEFT + WIDTH - _RIGHT) / 2:g}" y="{HEIGHT - 12}" text-anchor="middle">'
        f"{escape(x_label)}</text>",
        f'<text transform="translate(16 {(_TOP + HEIGHT - _BOTTOM) / 2:g}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>',
    ]
    legend = float(_LEFT)
    for index, (name, points) in enumerate(shown.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        places = [(across(x), up(y)) for x, y in sorted(points)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        parts.append(
            f'<rect x="{legend:.0f}" y="38" width="10" height="10" fill="{colour}"/>'
            f'<text x="{legend + 15:.0f}" y="47">{escape(name)}</text>'
        )
        # Wide enough for 12 px text in most fonts.
        legend += 36 + 6.6 * len(name)
    return "\n".join([*parts, "</svg>"]) + "\n"


def stacked(charts: Sequence[str]) -> str:
    """Several charts, one below the other, as one SVG."""
    height = HEIGHT * len(charts)
    parts = [
        f'<g transform="translate(0 {HEIGHT * index})">\n{chart}</g>'
        for index, chart in enumerate(charts)
    ]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
    return "\n".join([f'{head}width="{WIDTH}" height="{height}">', *parts, "</svg>"]) + "\n"


def _grid(
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    across: Callable[[float], float],
    up: Callable[[float], float],
) -> list[str]:
    parts = []
    for value in y_ticks:
        y = up(value)
        parts.append(
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>'
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{_GREY}">'
            f"{number(value)}</text>"
        )
    for value in x_ticks:
        x = across(value)
        parts.append(
            f'<line x1="{x:.1f}" y1="{HEIGHT - _BOTTOM}" x2="{x:.1f}" y2="{HEIGHT - _BOTTOM + 5}" '
            f'stroke="{_GREY}"/>'
            f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 19}" text-anchor="middle" fill="{_GREY}">'
            f"{number(value)}</text>"
        )
    return parts


def _scale(
    low: float, high: float, start: float, end: float, *, logarithmic: bool = False
) -> Callable[[float], float]:
    if logarithmic:
        low, high = math.log10(low), math.log10(high)

    def place(value: float) -> float:
        at = math.log10(value) if logarithmic else value
        return start + (at - low) / (high - low) * (end - start)

    return place
