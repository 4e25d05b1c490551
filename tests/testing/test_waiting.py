from __future__ import annotations

import asyncio

import pytest

from energyws.testing import eventually, until


def test_first_true_value_is_returned() -> None:
    values = iter([0, None, "", 7, 8])
    assert eventually(lambda: next(values), "a value", interval=0) == 7


def test_timeout_names_the_condition() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: the moon"):
        eventually(lambda: False, "the moon", 0.01, interval=0.001)
    with pytest.raises(AssertionError, match=r"not within 0\.01 s: the moon"):
        asyncio.run(until(lambda: False, "the moon", 0.01))


def test_event_loop_runs_while_waiting() -> None:
    async def test() -> None:
        done = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, done.set)
        await until(done.is_set)

    asyncio.run(test())
