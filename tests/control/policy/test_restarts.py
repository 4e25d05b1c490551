"""Pauses and halts after the crashes of a slot; test_fleet.py tests the whole policy."""

from __future__ import annotations

import pytest

from energyws.control.policy.actions import Halt
from energyws.control.policy.restarts import FORGET_SECONDS, Restarts
from energyws.errors import ExitCode
from energyws.settings import Supervision

RULES = Supervision(crash_loop_count=5, crash_loop_seconds=30, backoff_max_seconds=4)


def pause(restarts: Restarts, now: float, rules: Supervision = RULES) -> float:
    """Quarters of a second until the next start is due."""
    return next(n / 4 for n in range(100) if restarts.due(now + n / 4, rules))


def test_pauses_double_up_to_the_longest() -> None:
    restarts = Restarts("worker-0", lambda: 1.0)
    assert restarts.due(0.0, RULES)
    pauses = []
    for n in range(7):
        # Far enough apart to be no crash loop, close enough to be remembered.
        assert restarts.crashed(1, n * 9.0, RULES) is None
        pauses.append(pause(restarts, n * 9.0))
    assert pauses == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 4.0]


def test_jitter_takes_half_of_a_pause_at_most() -> None:
    restarts = Restarts("worker-0", lambda: 0.0)
    for n in range(4):
        restarts.crashed(1, n * 9.0, RULES)
    assert pause(restarts, 27.0) == 0.5


def test_old_crashes_are_forgotten() -> None:
    restarts = Restarts("worker-0", lambda: 1.0)
    restarts.crashed(1, 0.0, RULES)
    restarts.crashed(1, FORGET_SECONDS, RULES)
    assert restarts.due(FORGET_SECONDS, RULES)


def test_process_that_ended_in_order_is_restarted_immediately() -> None:
    restarts = Restarts("worker-0", lambda: 1.0)
    for n in range(3):
        restarts.crashed(1, float(n), RULES)
    assert not restarts.due(2.0, RULES)
    restarts.skip_backoff(2.0)
    assert restarts.due(2.0, RULES)


@pytest.mark.parametrize("code", [ExitCode.BOOT, ExitCode.CONFIG])
def test_exit_code_that_no_restart_can_cure_halts(code: ExitCode) -> None:
    halt = Restarts("consumer", lambda: 1.0).crashed(code, 0.0, RULES)
    assert halt is not None
    assert halt.code is code


def test_crash_loop_halts() -> None:
    restarts = Restarts("consumer", lambda: 1.0)
    halts = [restarts.crashed(-9, n * 7.0, RULES) for n in range(5)]
    assert halts[:4] == [None] * 4
    assert halts[4] == Halt(
        ExitCode.CRASH_LOOP,
        "consumer ended 5 times within 30 s, last killed by SIGKILL (out of memory?): see its log",
    )
