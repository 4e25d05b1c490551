"""The roster's clock: pings, deadlines, expiry and draining, with time that tests move."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from energyws.auth.verifier import Principal
from energyws.errors import NO_PONG, RESTART, TOKEN_EXPIRED_CLOSE, Close, ErrorCode
from energyws.settings import Auth, Server
from workers.websocket.clients.connections import TICK_SECONDS, ConnectionRegistry

_ids = itertools.count()


class FakeMember:
    """A connection that remembers what was done to it."""

    def __init__(self, expires_at: float = 1e12, *, answers: bool = False) -> None:
        self.id = next(_ids)
        self._answers = answers
        self.principal = Principal("me", expires_at, None, None)
        self.heard = True
        self.writable = True
        self.closing = False
        self.pings = 0
        self.said: list[str] = []
        self.closes: list[Close] = []
        self.aborted = False
        self.asked_back: list[int] = []

    def ping(self) -> None:
        self.heard = self._answers
        self.pings += 1

    def say(self, error: ErrorCode, detail: str = "") -> None:
        self.said.append(error.code)

    def close(self, close: Close) -> None:
        self.closing = True
        self.writable = False
        self.closes.append(close)

    def reconnect(self, after_ms: int, close: Close) -> None:
        self.asked_back.append(after_ms)
        self.close(close)

    def abort(self) -> None:
        self.aborted = True


class Clock:
    """The time, and a roster that is ticked as its timer would."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.wall = 2_000_000.0

    def roster(self, auth: Auth | None = None, server: Server | None = None) -> ConnectionRegistry:
        return ConnectionRegistry(
            server or SERVER, auth or Auth(), lambda: self.now, lambda: self.wall
        )

    def pass_seconds(self, roster: ConnectionRegistry, seconds: float) -> None:
        for _ in range(round(seconds / TICK_SECONDS)):
            self.now += TICK_SECONDS
            self.wall += TICK_SECONDS
            roster._timer.cancel()
            roster._on_tick()


Test = Callable[[Clock], Coroutine[Any, Any, None]]


def play(test: Test) -> None:
    asyncio.run(asyncio.wait_for(test(Clock()), 30))


SERVER = Server(ping_interval_seconds=20, pong_timeout_seconds=10, close_timeout_seconds=3)


def test_silent_client_is_pinged_then_closed() -> None:
    async def test(clock: Clock) -> None:
        roster = clock.roster()
        dead, alive = FakeMember(), FakeMember()
        roster.join(dead)
        roster.join(alive)
        for _ in range(80):
            clock.pass_seconds(roster, 1)
            alive.heard = True
        assert alive.pings == pytest.approx(80 / 20, abs=1)
        assert alive.closes == []
        assert dead.closes == [NO_PONG]
        roster.close()

    play(test)


def test_silent_client_is_closed_although_it_is_pinged_more_often_than_it_may_be_silent() -> None:
    async def test(clock: Clock) -> None:
        roster = clock.roster(server=replace(SERVER, ping_interval_seconds=4))
        dead, slow = FakeMember(), FakeMember()
        roster.join(dead)
        roster.join(slow)
        for _ in range(40):
            clock.pass_seconds(roster, 1)
            slow.heard = slow.heard or slow.pings % 2 == 0
        assert dead.closes == [NO_PONG]
        assert dead.pings == pytest.approx(10 / 4, abs=1)
        assert slow.closes == []
        roster.close()

    play(test)


def test_shorter_ping_interval_does_not_wait_for_the_end_of_the_longer_one() -> None:
    async def test(clock: Clock) -> None:
        roster = clock.roster(server=replace(SERVER, ping_interval_seconds=3600))
        member = FakeMember(answers=True)
        roster.join(member)
        clock.pass_seconds(roster, 5)
        assert member.pings == 1
        roster.adopt(SERVER, Auth())
        clock.pass_seconds(roster, 60)
        assert member.pings == 4
        roster.close()

    play(test)


def test_our_own_absence_is_held_against_nobody() -> None:
    async def test(clock: Clock) -> None:
        roster = clock.roster()
        member = FakeMember()
        roster.join(member)
        clock.pass_seconds(roster, 5)
        assert member.pings == 1
        # The machine was suspended for an hour; the pong is still on its way.
        clock.now += 3600
        clock.pass_seconds(roster, 3)
        assert member.closes == []
        roster.close()

    play(test)


def test_paused_client_is_not_blamed_for_its_silence() -> None:
    async def test(clock: Clock) -> None:
        roster = clock.roster()
        member = FakeMember()
        roster.join(member)
        clock.pass_seconds(roster, 2)
        member.writable = False
        clock.pass_seconds(roster, 120)
        assert member.closes == []
        roster.close()

    play(test)


def test_closing_handshake_has_a_deadline() -> None:
    async def test(clock: Clock) -> None:
        roster = clock.roster()
        slow, quick = FakeMember(), FakeMember()
        roster.closing(slow)
        roster.closing(quick)
        clock.pass_seconds(roster, 2)
        roster.leave(quick)
        assert not slow.aborted
        clock.pass_seconds(roster, 2)
        assert slow.aborted
        assert not quick.aborted
        roster.close()

    play(test)


def test_expiry_is_announced_then_carried_out() -> None:
    async def test(clock: Clock) -> None:
        roster = clock.roster(Auth(expiry_notice_seconds=10))
        expiring = FakeMember(clock.wall + 30, answers=True)
        renewed = FakeMember(clock.wall + 30, answers=True)
        roster.join(expiring)
        roster.join(renewed)
        clock.pass_seconds(roster, 21)
        assert expiring.said == renewed.said == ["TOKEN_EXPIRING"]
        renewed.principal = Principal("me", clock.wall + 1000, None, None)
        roster.expires(renewed)
        clock.pass_seconds(roster, 10)
        assert expiring.said == ["TOKEN_EXPIRING", "TOKEN_EXPIRED"]
        assert expiring.closes == [TOKEN_EXPIRED_CLOSE]
        assert renewed.closes == []
        roster.close()

    play(test)


def test_clock_that_is_set_back_expires_nobody_early() -> None:
    async def test(clock: Clock) -> None:
        roster = clock.roster(Auth(expiry_notice_seconds=0))
        member = FakeMember(clock.wall + 30, answers=True)
        roster.join(member)
        clock.wall -= 3600
        clock.pass_seconds(roster, 60)
        assert member.closes == []
        clock.wall += 3600
        clock.pass_seconds(roster, 1)
        assert member.closes == [TOKEN_EXPIRED_CLOSE]
        roster.close()

    play(test)


def test_members_that_left_are_not_kept_until_their_tokens_expire() -> None:
    async def test(clock: Clock) -> None:
        roster = clock.roster()
        for _ in range(5_000):
            member = FakeMember()
            roster.join(member)
            roster.leave(member)
        assert len(roster._expiring) < 1_100
        roster.close()

    play(test)


def test_drain_sends_everybody_away_and_waits_for_them() -> None:
    async def test(clock: Clock) -> None:
        roster = clock.roster()
        members = [FakeMember() for _ in range(50)]
        for member in members:
            roster.join(member)
        draining = asyncio.create_task(roster.drain(0.05))
        while not all(member.closes for member in members):
            await asyncio.sleep(0.001)
        assert not draining.done()
        for member in members:
            roster.leave(member)
        await draining
        assert all(member.closes == [RESTART] for member in members)
        assert len({member.asked_back[0] for member in members}) > 1
        roster.close()

    play(test)


def test_drain_sends_away_evenly() -> None:
    async def test(clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        roster = clock.roster()
        left: list[float] = []

        class Leaver(FakeMember):
            def close(self, close: Close) -> None:
                super().close(close)
                left.append(loop.time())
                roster.leave(self)

        for _ in range(20):
            roster.join(Leaver())
        began = loop.time()
        await roster.drain(0.4)
        # Nobody goes before its turn; a late loop can only make it later.
        assert all(at - began >= 0.4 * place / 20 - 0.01 for place, at in enumerate(left))
        roster.close()

    play(test)


def test_drain_takes_those_along_who_come_meanwhile() -> None:
    async def test(clock: Clock) -> None:
        roster = clock.roster()
        first, late = FakeMember(), FakeMember()
        roster.join(first)
        draining = asyncio.create_task(roster.drain(0.0))
        while not first.closes:
            await asyncio.sleep(0.001)
        roster.join(late)
        roster.leave(first)
        while not late.closes:
            await asyncio.sleep(0.001)
        assert not draining.done()
        roster.leave(late)
        await draining
        assert (first.closes, late.closes) == ([RESTART], [RESTART])
        roster.close()

    play(test)


def test_shedding_sends_away_so_many_and_no_more() -> None:
    async def test(clock: Clock) -> None:
        roster = clock.roster()
        members = [FakeMember() for _ in range(20)]
        for member in members:
            roster.join(member)
        await roster.shed(7, 0.0)
        assert sum(member.closes == [RESTART] for member in members) == 7
        await roster.shed(100, 0.0)
        assert all(member.closes for member in members)
        roster.close()

    play(test)


def test_old_connections_are_sent_on_and_not_all_at_once() -> None:
    async def test(clock: Clock) -> None:
        roster = clock.roster(server=replace(SERVER, max_connection_age_seconds=100))
        members = [FakeMember(answers=True) for _ in range(50)]
        for member in members:
            roster.join(member)
        clock.pass_seconds(roster, 89)
        assert not any(member.closes for member in members)
        clock.pass_seconds(roster, 11)
        gone = sum(bool(member.closes) for member in members)
        assert 0 < gone < 50
        clock.pass_seconds(roster, 11)
        assert all(member.closes == [RESTART] for member in members)
        roster.close()

    play(test)


def test_adopted_settings_are_in_force_at_once() -> None:
    async def test(clock: Clock) -> None:
        roster = clock.roster()
        roster.adopt(replace(SERVER, close_timeout_seconds=50), Auth(expiry_notice_seconds=500))
        slow, expiring = FakeMember(), FakeMember(expires_at=clock.wall + 400)
        roster.closing(slow)
        roster.join(expiring)
        clock.pass_seconds(roster, 40)
        assert not slow.aborted
        assert expiring.said == ["TOKEN_EXPIRING"]
        clock.pass_seconds(roster, 11)
        assert slow.aborted
        roster.close()

    play(test)
