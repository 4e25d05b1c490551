"""Connections whose token counts no more are ended, spread over time; the others stay."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from energyws.auth.verifier import Principal
from energyws.errors import TOKEN_EXPIRING, UNAUTHORIZED, UNAUTHORIZED_CLOSE, Close, ErrorCode
from energyws.testing import until
from tests.principals import principal
from workers.websocket.auth.tokens import Fault
from workers.websocket.clients import distrust as module
from workers.websocket.clients.distrust import Distrust

FAULT, LOST = Fault("for a reason", False), Fault("the key is gone", True)


class FakeConnection:
    """A connection that records how it ends."""

    def __init__(self, subject: str) -> None:
        self.principal = principal(subject)
        self.closing = False
        self.said: list[tuple[ErrorCode, str]] = []
        self.closes: list[Close] = []

    def send_error(self, error: ErrorCode, detail: str = "") -> None:
        self.said.append((error, detail))

    def close(self, close: Close) -> None:
        self.closing = True
        self.closes.append(close)


class Play:
    """Connections by subject, and the subjects whose tokens count no more."""

    def __init__(self, *subjects: str, spread: float = 0.0) -> None:
        self.connections = [FakeConnection(each) for each in subjects]
        self.bad: set[str] = set()
        self.lost: set[str] = set()
        self.asked = 0
        found: Any = self.connections
        self.distrust = Distrust(found, self.fault, lambda: spread)

    def fault(self, owner: Principal) -> Fault | None:
        self.asked += 1
        if owner.subject in self.lost:
            return LOST
        return FAULT if owner.subject in self.bad else None

    def ended(self) -> list[str]:
        return [each.principal.subject for each in self.connections if each.closes]


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.2)


def test_connections_at_fault_are_ended_with_the_reason() -> None:
    async def test() -> None:
        play = Play("a", "b", "c")
        play.bad = {"a", "c"}
        play.distrust.look()
        await until(lambda: play.ended() == ["a", "c"])
        ended = play.connections[0]
        assert (ended.said, ended.closes) == ([(UNAUTHORIZED, FAULT.detail)], [UNAUTHORIZED_CLOSE])
        # Each ends once, and another look finds the next.
        play.bad = {"a", "b", "c"}
        play.distrust.look()
        await until(lambda: len(play.ended()) == 3)
        assert [len(each.closes) for each in play.connections] == [1, 1, 1]
        play.distrust.close()

    run(test())


def test_connection_that_joins_just_after_the_change_is_ended_too() -> None:
    async def test() -> None:
        play = Play()
        play.bad = {"late"}
        play.distrust.look()
        await asyncio.sleep(0)
        play.connections.append(FakeConnection("late"))
        await until(lambda: play.ended() == ["late"])
        play.distrust.close()

    run(test())


def test_ends_are_spread_and_a_fresh_token_meanwhile_saves_the_connection() -> None:
    async def test() -> None:
        play = Play("a", "b", "c", spread=0.3)
        play.bad = {"a", "b", "c"}
        loop = asyncio.get_running_loop()
        began = loop.time()
        play.distrust.look()
        await until(lambda: play.ended() == ["a"])
        play.connections[1].principal = principal("renewed")
        await until(lambda: play.ended() == ["a", "c"])
        # A timer may be late, but not early.
        assert loop.time() - began >= 0.2 - 0.01
        assert play.connections[1].said == []
        play.distrust.close()

    run(test())


def test_client_whose_key_is_gone_is_asked_for_a_fresh_token_first() -> None:
    async def test() -> None:
        play = Play("a", "b", "c", spread=0.1)
        play.lost, play.bad = {"a", "b"}, {"c"}
        play.distrust.look()
        await until(lambda: play.connections[1].said)
        # Nothing helps who was revoked.
        assert play.ended() == ["c"]
        first, second, third = play.connections
        assert first.said == second.said == [(TOKEN_EXPIRING, LOST.detail)]
        assert third.said == [(UNAUTHORIZED, FAULT.detail)]
        second.principal = principal("renewed")
        await until(lambda: play.ended() == ["a", "c"])
        assert first.said[1:] == [(UNAUTHORIZED, LOST.detail)]
        assert len(second.said) == 1
        play.distrust.close()

    run(test())


def test_change_during_the_ends_does_not_wait_for_them() -> None:
    async def test() -> None:
        play = Play("a", "b", "c", spread=3600.0)
        play.bad = {"a", "b"}
        play.distrust.look()
        await until(lambda: play.ended() == ["a"])
        # Its turn is the first of those that are new.
        play.bad = {"a", "b", "c"}
        play.distrust.look()
        await until(lambda: play.ended() == ["a", "c"])
        assert play.connections[1].said == []
        play.distrust.close()

    run(test())


def test_fresh_token_that_is_revoked_at_once_does_not_save_the_connection() -> None:
    async def test() -> None:
        play = Play("a", "b", spread=3600.0)
        play.lost = {"a", "b"}
        play.distrust.look()
        first, second = play.connections
        await until(lambda: first.said)
        first.principal = principal("stolen")
        # Its turn has come and gone; that of the other one is far away.
        await until(lambda: first not in play.distrust._ending)
        assert second in play.distrust._ending
        play.bad = {"stolen"}
        play.distrust.look()
        await until(lambda: first.closes == [UNAUTHORIZED_CLOSE])
        play.distrust.close()

    run(test())


def test_clients_are_served_while_many_connections_are_looked_at() -> None:
    async def test() -> None:
        play = Play(*["a"] * (3 * module.SLICE))
        play.distrust.look()
        seen = set()

        def looked() -> bool:
            seen.add(play.asked)
            return play.asked == len(play.connections)

        while not looked():
            await asyncio.sleep(0)
        assert seen >= {module.SLICE, 2 * module.SLICE}
        play.distrust.close()

    run(test())


def test_nothing_is_looked_at_without_a_change() -> None:
    async def test() -> None:
        play = Play("a")
        play.distrust.look()
        await until(lambda: not play.distrust._tasks)
        asked = play.asked
        await asyncio.sleep(0.1)
        assert play.asked == asked == 2
        play.distrust.close()

    run(test())
