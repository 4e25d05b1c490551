"""Figures as short text, and the lines about the whole service that are made of them."""

from __future__ import annotations

from typing import Final

from energyws.control.status.model import ServiceView, UpperBound
from energyws.process.io_uring import IoUring

UNKNOWN: Final = "–"
# Larger numbers get a unit.
_LONG: Final = 99_999
_UNITS: Final = ("", "k", "M", "G", "T", "P")
_SPANS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"))


def count(value: float | None) -> str:
    """1,234; above 99,999 three digits and a unit: 123k, 1.23M."""
    if value is None:
        return UNKNOWN
    return f"{value:,.0f}" if round(value) <= _LONG else _scaled(value, 1000, "")


def rate(value: float | None) -> str:
    """As a count, with a decimal below 10."""
    if value is None:
        return UNKNOWN
    # 9.96 is 10, not 10.0.
    return f"{value:.1f}" if 0 < value < 9.95 else count(value)


def size(value: float | None) -> str:
    """Bytes with three digits: 512 B, 1.50 KiB, 74.2 MiB."""
    if value is None:
        return UNKNOWN
    return f"{value:.0f} B" if value < 1000 else f"{_scaled(value, 1024, ' ')}iB".replace("k", "K")


def duration(seconds: float | None) -> str:
    """250 µs, 2.5 ms, 1.5 s, 4 m 10 s, 3 h 7 m, 12 d 3 h."""
    if seconds is None:
        return UNKNOWN
    # 1,000 of a unit, after rounding, are 1 of the next.
    if round(seconds * 1e6) < 1000:
        return f"{seconds * 1e6:.0f} µs" if seconds else "0 s"
    if round(seconds * 1e3) < 1000:
        return f"{max(1.0, seconds * 1e3):.3g} ms"
    if seconds < 60:
        return f"{max(1.0, seconds):.3g} s"
    for number, (span, unit) in enumerate(_SPANS):
        if seconds >= span:
            less, name = _SPANS[number + 1] if number + 1 < len(_SPANS) else (1, "s")
            whole, rest = divmod(int(seconds), span)
            return f"{whole} {unit} {rest // less} {name}"
    raise AssertionError(seconds)


def bound(value: UpperBound | None) -> str:
    """A duration; >1 s where it is above the histogram's last bound."""
    if value is None:
        return UNKNOWN
    return f">{duration(value.seconds)}" if value.beyond else duration(value.seconds)


def percent(cores: float | None) -> str:
    """100% is one core, as in top(1)."""
    return UNKNOWN if cores is None else f"{cores * 100:.0f}%"


def whole(seconds: float | None) -> float | None:
    """The seconds without a fraction: it would change with each look, and mean nothing."""
    return None if seconds is None else float(int(seconds))


def _scaled(value: float, base: int, gap: str) -> str:
    power = 0
    while value >= 999.5 and power < len(_UNITS) - 1:
        value /= base
        power += 1
    digits = max(0, 2 - len(f"{value:.0f}") + 1)
    return f"{value:.{digits}f}{gap}{_UNITS[power]}"


def totals(view: ServiceView) -> list[str]:
    """The whole service in two lines."""
    return [
        f"workers {view.workers_ready} of {view.workers_wanted} ready · "
        f"clients {count(view.connections)} of {count(view.max_connections)} · "
        f"lagging {count(view.lagging)}",
        f"in {rate(view.published)}/s · out {rate(view.deliveries)}/s, {size(view.bytes)}/s · "
        f"fan-out p99 {bound(view.fanout)} · age p99 {bound(view.age)}",
    ]


def history(view: ServiceView) -> str:
    """The history in memory: of the consumer, and of the worker that has the fewest frames."""
    parts = [
        f"{count(ring.frames)} frames, {duration(ring.seconds)}, {size(ring.bytes)}"
        for process in view.processes
        if (ring := process.depth) is not None and not process.is_worker
    ]
    workers = [each.depth for each in view.processes if each.is_worker and each.depth is not None]
    if workers:
        least = min(workers, key=lambda ring: ring.frames)
        parts.append(f"in workers ≥ {count(least.frames)}, {duration(least.seconds)}")
    return f"history {' · '.join(parts) or UNKNOWN}"


def freshness(view: ServiceView) -> str:
    """How long ago each stream had its newest record, the longest first."""
    ages = view.newest()
    parts = ["none yet" if age is None else f"{duration(whole(age))} ago" for age in ages.values()]
    if len(parts) > 1:
        parts = [f"{stream} {each}" for stream, each in zip(ages, parts, strict=True)]
    return f"newest record {' · '.join(parts) or UNKNOWN}"


def io_uring(view: ServiceView) -> str:
    """Whether workers send live frames by io_uring, or why not; by worker where they differ."""
    said: dict[IoUring, list[str]] = {}
    for each in view.processes:
        if each.is_worker and each.io_uring is not IoUring.UNKNOWN:
            said.setdefault(each.io_uring, []).append(each.name)
    if len(said) > 1:
        parts = [f"{state.text} ({', '.join(names)})" for state, names in sorted(said.items())]
    else:
        parts = [state.text for state in said or [IoUring.UNKNOWN]]
    return f"io_uring {' · '.join(parts)}"


def readiness(view: ServiceView) -> str:
    """Ready, or why not."""
    if view.ready:
        return "ready"
    return f"not ready: {'; '.join(view.reasons)}"
