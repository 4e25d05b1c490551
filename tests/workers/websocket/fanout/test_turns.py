"""The order and the length of turns, with fan-outs that only count writes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from workers.websocket.fanout import turns as module
from workers.websocket.fanout.fanout import Fanout
from workers.websocket.fanout.turns import WRITES_PER_TURN, Turns


class FakeFanout:
    """A fan-out with `writes` writes to make."""

    def __init__(self, name: str, journal: list[str], writes: int = 0) -> None:
        self.name = name
        self.journal = journal
        self.writes = writes
        self.news = False
        self.due_at = math.inf

    def work(self, writes: int, now: float) -> int:
        self.journal.append(self.name)
        made = min(writes, self.writes)
        self.writes -= made
        self.news = False
        return writes - made

    def is_busy(self) -> bool:
        return self.writes > 0

    def has_news(self) -> bool:
        return self.news

    @property
    def wake_at(self) -> float:
        return self.due_at


def run(test: Callable[[Turns, list[str]], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        turns = Turns()
        await test(turns, [])
        turns.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def add(turns: Turns, journal: list[str], name: str, writes: int = 0) -> FakeFanout:
    made = FakeFanout(name, journal, writes)
    turns.fanouts.append(cast(Fanout, made))
    return made


async def settled(turns: Turns) -> None:
    while not turns.idle:
        await asyncio.sleep(0)


def test_first_fan_out_rotates() -> None:
    async def test(turns: Turns, journal: list[str]) -> None:
        for name in "abc":
            add(turns, journal, name)
        for _ in range(3):
            turns.schedule()
            await settled(turns)
        assert "".join(journal) == "bcacababc"

    run(test)


def test_turn_yields_when_its_writes_are_used_up() -> None:
    async def test(turns: Turns, journal: list[str]) -> None:
        add(turns, journal, "b", 10)
        add(turns, journal, "a", WRITES_PER_TURN + 10)
        turns.schedule()
        turns.schedule()
        await asyncio.sleep(0)
        # `b` has had no turn, and goes first in the next one.
        assert journal == ["a"]
        assert not turns.idle
        await settled(turns)
        assert journal == ["a", "b", "a"]

    run(test)


def test_rest_collects_news_and_a_request_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REST_SHARE", 1e9)
    monkeypatch.setattr(module, "MAX_REST_SECONDS", 3600.0)

    async def test(turns: Turns, journal: list[str]) -> None:
        fanout = add(turns, journal, "a")
        turns.schedule_after_rest(0.0)
        await settled(turns)
        assert journal == ["a"]
        fanout.news = True
        turns.schedule_after_rest(0.0)
        assert turns.resting
        turns.schedule()
        assert not turns.resting
        await settled(turns)
        assert journal == ["a", "a"]

    run(test)


def test_news_of_the_last_turn_gets_another_turn() -> None:
    async def test(turns: Turns, journal: list[str]) -> None:
        fanout = add(turns, journal, "a")

        def work(writes: int, now: float) -> int:
            journal.append("a")
            fanout.news = len(journal) < 2
            return writes

        fanout.work = work  # type: ignore[method-assign]
        turns.schedule()
        await settled(turns)
        assert journal == ["a", "a"]

    run(test)


def test_work_that_is_due_later_gets_a_turn_though_nothing_comes() -> None:
    async def test(turns: Turns, journal: list[str]) -> None:
        fanout = add(turns, journal, "a")
        fanout.due_at = time.monotonic() + 0.02
        turns.schedule()
        await settled(turns)
        assert journal == ["a"]
        while len(journal) < 2:
            fanout.due_at = math.inf
            await asyncio.sleep(0)

    run(test)
