"""CPU times of processes, and summaries of delays."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import psutil

# The kind of clock in the lower bits of a process's clock id (Linux, posix-timers.h).
_CPUCLOCK_SCHED: Final = 2


def cpu_seconds(process: psutil.Process) -> float:
    """The CPU time that a process has used so far, in all its threads.

    From its CPU clock (clock_getcpuclockid(3)), in nanoseconds: /proc has 10 ms at best, which an
    idle process uses in three seconds.
    """
    return time.clock_gettime(~process.pid << 3 | _CPUCLOCK_SCHED)


@contextlib.contextmanager
def measured(processes: Mapping[str, psutil.Process]) -> Iterator[dict[str, float]]:
    """Yields a dict with the CPU seconds of each process during the block, filled at its end."""
    before = {name: cpu_seconds(process) for name, process in processes.items()}
    used: dict[str, float] = {}
    yield used
    for name, process in processes.items():
        used[name] = cpu_seconds(process) - before[name]


@contextlib.contextmanager
def repeating(action: Callable[[], object], seconds: float) -> Iterator[None]:
    """Call `action` in a thread during the block, after each pause of `seconds`."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            action()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def percentile(values: Sequence[int], share: float) -> float:
    """The value with `share` of all values below it; NaN if there are none."""
    if not values:
        return float("nan")
    return float(sorted(values)[min(len(values) - 1, int(len(values) * share))])


def percentiles(micros: Sequence[int], *shares: int) -> dict[str, float]:
    """Percentiles of microseconds, in milliseconds: p50, …; p100 is the maximum."""
    return {f"p{share}": percentile(micros, share / 100) / 1000 for share in shares}


def summary(micros: Sequence[int]) -> dict[str, float]:
    """Mean, median, p99 and maximum of microseconds, in milliseconds."""
    found = {
        "mean": statistics.fmean(micros) / 1000 if micros else float("nan"),
        **percentiles(micros, 50, 99),
        "max": max(micros, default=0) / 1000,
    }
    return {name: round(value, 2) for name, value in found.items()}


def medians(rounds: Sequence[Mapping[str, Any]], digits: int) -> dict[str, Any]:
    """The median of each figure over the rounds; figures may be in nested mappings."""
    return {
        name: medians([each[name] for each in rounds], digits)
        if isinstance(value, Mapping)
        else round(statistics.median(each[name] for each in rounds), digits)
        for name, value in rounds[0].items()
    }


def spread(name: str, ratios: Sequence[float], digits: int = 3) -> dict[str, float]:
    """The median of the ratios as `name`, and their extremes as `name`_min and `name`_max."""
    found = {"": statistics.median(ratios), "_min": min(ratios), "_max": max(ratios)}
    return {f"{name}{which}": round(value, digits) for which, value in found.items()}
