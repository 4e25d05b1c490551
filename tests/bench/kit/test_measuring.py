from __future__ import annotations

import math
import subprocess
import sys
import time

import psutil
import pytest

from bench.kit.measuring import (
    cpu_seconds,
    measured,
    medians,
    percentile,
    percentiles,
    repeating,
    spread,
    summary,
)
from energyws.testing import eventually


def test_cpu_time_is_that_of_the_process_and_all_its_threads() -> None:
    code = """if True:
        import threading, time
        burn = threading.Thread(target=lambda: sum(range(1_000_000)))
        burn.start(); burn.join()
        print(time.process_time(), flush=True)
        input()
    """
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        own = float(process.stdout.readline())
        assert own <= cpu_seconds(psutil.Process(process.pid)) < own + 1
        process.stdin.close()


def test_cpu_time_of_a_block() -> None:
    before = time.process_time()
    with measured({"this": psutil.Process()}) as used:
        sum(range(10_000))
    assert 0 < used["this"] <= time.process_time() - before


def test_medians_of_every_figure_at_any_depth() -> None:
    rounds = [{"us": each, "ms": {"p50": 2 * each}} for each in (1.0, 3.0, 2.00004)]
    assert medians(rounds, 3) == {"us": 2.0, "ms": {"p50": 4.0}}


def test_spread_is_median_and_extremes() -> None:
    assert spread("ratio", [2, 3, 10]) == {"ratio": 3, "ratio_min": 2, "ratio_max": 10}


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.5, 51), (0.99, 100), (1, 100)])
def test_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile(list(range(1, 101)), share) == value


def test_delays_are_given_in_milliseconds() -> None:
    assert percentiles([3000, 1000], 50, 100) == {"p50": 3.0, "p100": 3.0}
    assert summary([1000, 2000]) == {"mean": 1.5, "p50": 2.0, "p99": 2.0, "max": 2.0}


def test_mean_of_no_delays_is_nan() -> None:
    assert math.isnan(summary([])["mean"])


def test_action_is_repeated_only_during_the_block() -> None:
    calls: list[None] = []
    with repeating(lambda: calls.append(None), 0.001):
        eventually(lambda: len(calls) >= 3, "three calls")
    made = len(calls)
    with repeating(lambda: calls.append(None), 60):
        pass
    assert len(calls) == made
