"""The connection registry: pings, deadlines, expiry and draining, on a clock of the tests."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from energyws.errors import NO_PONG, RESTART, SLOW, TOKEN_EXPIRED_CLOSE, Close, ErrorCode
from energyws.settings import Auth, Server
from tests.principals import principal
from workers.websocket.clients.connections import LOOKS, TICK_SECONDS, ConnectionRegistry

_ids = itertools.count()


class FakeConnection:
    """A connection and its socket, which record calls."""

    def __init__(self, expires_at: float = 1e12, *, answers: bool = False) -> None:
        self.id = next(_ids)
        self._answers = answers
        self.principal = principal("me", expires_at)
        self.heard = True
        self.writable = True
        self.closing = False
        self.pings = 0
        self.errors: list[str] = []
        self.closes: list[Close] = []
        self.aborted = False
        self.reconnects: list[int] = []
        # The bytes that it has acknowledged, if there are more to acknowledge.
        self.acknowledges: int | None = None
        self.looks = 0
        self.resets = False
        self.held = 0
        self.left_to_kernel: float | None = None

    def ping(self) -> None:
        self.heard = self._answers
        self.pings += 1

    def send_error(self, error: ErrorCode, detail: str = "") -> None:
        self.errors.append(error.code)

    def close(self, close: Close) -> None:
        self.closing = True
        self.writable = False
        self.closes.append(close)

    def reconnect(self, after_ms: int, close: Close) -> None:
        self.reconnects.append(after_ms)
        self.close(close)

    def abort(self) -> None:
        self.aborted = True

    def acknowledged(self) -> int | None:
        self.looks += 1
        return self.acknowledges

    def unacknowledged(self) -> int:
        return self.held

    def reset_on_close(self) -> None:
        self.resets = True

    def leave_to_kernel(self, seconds: float) -> None:
        self.left_to_kernel = seconds


class Clock:
    """A clock that ticks a registry as its timer would."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.wall = 2_000_000.0

    def registry(
        self, auth: Auth | None = None, server: Server | None = None
    ) -> ConnectionRegistry:
        return ConnectionRegistry(
            server or SERVER, auth or Auth(), lambda: self.now, lambda: self.wall
        )

    def pass_seconds(self, connections: ConnectionRegistry, seconds: float) -> None:
        for _ in range(round(seconds / TICK_SECONDS)):
            self.now += TICK_SECONDS
            self.wall += TICK_SECONDS
            connections._timer.cancel()
            connections._on_tick()


Test = Callable[[Clock], Coroutine[Any, Any, None]]


def play(test: Test) -> None:
    asyncio.run(asyncio.wait_for(test(Clock()), 30))


SERVER = Server(ping_interval_seconds=20, pong_timeout_seconds=10, close_timeout_seconds=3)


def test_what_the_kernel_holds_is_known_for_each_client_that_is_not_closing() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry()
        reading, slow, closing = FakeConnection(), FakeConnection(), FakeConnection()
        slow.held, closing.held = 300_000, 100
        for each in (reading, slow, closing):
            connections.join(each, each)
        closing.close(SLOW)
        assert connections.holding() == [(0, reading), (300_000, slow)]
        connections.give_up(slow)
        assert (slow.resets, reading.resets) == (True, False)
        assert slow in connections
        connections.lost(slow)
        assert slow not in connections
        connections.close()

    play(test)


def test_silent_client_is_pinged_then_closed() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry()
        silent, alive = FakeConnection(), FakeConnection()
        connections.join(silent, silent)
        connections.join(alive, alive)
        for _ in range(80):
            clock.pass_seconds(connections, 1)
            alive.heard = True
        assert alive.pings == pytest.approx(80 / 20, abs=1)
        assert alive.closes == []
        assert silent.closes == [NO_PONG]
        connections.close()

    play(test)


def test_silent_client_is_closed_although_pings_are_more_frequent_than_the_timeout() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry(server=replace(SERVER, ping_interval_seconds=4))
        silent, slow = FakeConnection(), FakeConnection()
        connections.join(silent, silent)
        connections.join(slow, slow)
        for _ in range(40):
            clock.pass_seconds(connections, 1)
            slow.heard = slow.heard or slow.pings % 2 == 0
        assert silent.closes == [NO_PONG]
        assert silent.pings == pytest.approx(10 / 4, abs=1)
        assert slow.closes == []
        connections.close()

    play(test)


def test_shorter_ping_interval_takes_effect_within_the_longer_one() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry(server=replace(SERVER, ping_interval_seconds=3600))
        fake = FakeConnection(answers=True)
        connections.join(fake, fake)
        clock.pass_seconds(connections, 5)
        assert fake.pings == 1
        connections.use_settings(SERVER, Auth())
        clock.pass_seconds(connections, 60)
        assert fake.pings == 4
        connections.close()

    play(test)


def test_suspended_machine_closes_no_client() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry()
        fake = FakeConnection()
        connections.join(fake, fake)
        clock.pass_seconds(connections, 5)
        assert fake.pings == 1
        # The machine was suspended for an hour; the pong has not been read yet.
        clock.now += 3600
        clock.pass_seconds(connections, 3)
        assert fake.closes == []
        connections.close()

    play(test)


def test_paused_client_is_not_closed_for_silence() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry()
        fake = FakeConnection()
        connections.join(fake, fake)
        clock.pass_seconds(connections, 2)
        fake.writable = False
        clock.pass_seconds(connections, 120)
        assert fake.closes == []
        connections.close()

    play(test)


def test_client_that_acknowledges_nothing_is_aborted() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry(server=replace(SERVER, tcp_user_timeout_seconds=30))
        stalled, slow, idle = (FakeConnection(answers=True) for _ in range(3))
        for each in (stalled, slow, idle):
            connections.join(each, each)
        stalled.acknowledges = slow.acknowledges = 0
        for _ in range(29):
            clock.pass_seconds(connections, 1)
            slow.acknowledges += 1
        assert not stalled.aborted
        clock.pass_seconds(connections, 30 / LOOKS + 1)
        assert stalled.aborted
        assert stalled.resets
        assert stalled.closes == []
        connections.lost(stalled)
        clock.pass_seconds(connections, 20)
        assert not slow.aborted
        assert not idle.aborted
        connections.close()

    play(test)


def test_connections_are_looked_at_in_turn() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry(server=replace(SERVER, tcp_user_timeout_seconds=30))
        fakes = [FakeConnection(answers=True) for _ in range(100)]
        for fake in fakes:
            connections.join(fake, fake)
        clock.pass_seconds(connections, TICK_SECONDS)
        assert sum(fake.looks for fake in fakes) == 100 * TICK_SECONDS * LOOKS / 30
        clock.pass_seconds(connections, 30 - TICK_SECONDS)
        assert {fake.looks for fake in fakes} == {LOOKS}
        connections.close()

    play(test)


def test_suspended_machine_stalls_no_client() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry()
        fake = FakeConnection(answers=True)
        fake.acknowledges = 0
        connections.join(fake, fake)
        clock.pass_seconds(connections, 5)
        clock.now += 3600
        clock.pass_seconds(connections, 5)
        fake.acknowledges = None
        clock.pass_seconds(connections, 60)
        assert not fake.aborted
        connections.close()

    play(test)


def test_shorter_timeout_takes_effect_for_present_connections() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry(server=replace(SERVER, tcp_user_timeout_seconds=3600))
        fake = FakeConnection(answers=True)
        fake.acknowledges = 0
        connections.join(fake, fake)
        clock.pass_seconds(connections, 60)
        connections.use_settings(replace(SERVER, tcp_user_timeout_seconds=30), Auth())
        clock.pass_seconds(connections, 5)
        assert fake.aborted
        connections.close()

    play(test)


def test_socket_of_a_lost_connection_is_left_to_the_kernel() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry(server=replace(SERVER, tcp_user_timeout_seconds=7))
        lost, answered = FakeConnection(), FakeConnection()
        for each in (lost, answered):
            connections.join(each, each)
        connections.lost(lost)
        connections.leave(answered)
        assert len(connections) == 0
        # This one may have another request, and its client another pause.
        assert (lost.left_to_kernel, answered.left_to_kernel) == (7, None)
        connections.close()

    play(test)


def test_closing_handshake_has_a_deadline() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry()
        slow, quick = FakeConnection(), FakeConnection()
        connections.closing(slow)
        connections.closing(quick)
        clock.pass_seconds(connections, 2)
        connections.leave(quick)
        assert not slow.aborted
        clock.pass_seconds(connections, 2)
        assert slow.aborted
        assert not quick.aborted
        connections.close()

    play(test)


def test_expiry_is_announced_before_the_close() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry(Auth(expiry_notice_seconds=10))
        expiring = FakeConnection(clock.wall + 30, answers=True)
        renewed = FakeConnection(clock.wall + 30, answers=True)
        connections.join(expiring, expiring)
        connections.join(renewed, renewed)
        clock.pass_seconds(connections, 21)
        assert expiring.errors == renewed.errors == ["TOKEN_EXPIRING"]
        renewed.principal = principal("me", clock.wall + 1000)
        connections.expires(renewed)
        clock.pass_seconds(connections, 10)
        assert expiring.errors == ["TOKEN_EXPIRING", "TOKEN_EXPIRED"]
        assert expiring.closes == [TOKEN_EXPIRED_CLOSE]
        assert renewed.closes == []
        connections.close()

    play(test)


def test_setting_the_clock_back_does_not_expire_tokens_early() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry(Auth(expiry_notice_seconds=0))
        fake = FakeConnection(clock.wall + 30, answers=True)
        connections.join(fake, fake)
        clock.wall -= 3600
        clock.pass_seconds(connections, 60)
        assert fake.closes == []
        clock.wall += 3600
        clock.pass_seconds(connections, 1)
        assert fake.closes == [TOKEN_EXPIRED_CLOSE]
        connections.close()

    play(test)


def test_closed_connections_are_not_kept_until_their_tokens_expire() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry()
        for _ in range(5_000):
            fake = FakeConnection()
            connections.join(fake, fake)
            connections.leave(fake)
        assert len(connections._expiring) < 1_100
        connections.close()

    play(test)


def test_closed_connection_is_not_kept_at_all() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry(server=replace(SERVER, max_connection_age_seconds=3600))
        fake = FakeConnection()
        gone = weakref.ref(fake)
        connections.join(fake, fake)
        connections.leave(fake)
        del fake
        assert gone() is None
        clock.pass_seconds(connections, 1)
        connections.close()

    play(test)


@pytest.mark.parametrize("later", [0.0, 1.0])
def test_replaced_tokens_do_not_pile_up(later: float) -> None:
    """Also if the same token is sent again and again."""

    async def test(clock: Clock) -> None:
        connections = clock.registry()
        fake = FakeConnection(clock.wall + 30, answers=True)
        connections.join(fake, fake)
        for _ in range(5_000):
            expires_at = fake.principal.expires_at + later
            fake.principal = replace(fake.principal, expires_at=expires_at)
            connections.expires(fake)
        assert len(connections._expiring) < 1_100
        clock.pass_seconds(connections, 10_000)
        assert fake.errors == ["TOKEN_EXPIRING", "TOKEN_EXPIRED"]
        assert fake.closes == [TOKEN_EXPIRED_CLOSE]
        connections.close()

    play(test)


def test_drain_closes_all_connections_and_waits_for_them() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry()
        fakes = [FakeConnection() for _ in range(50)]
        for fake in fakes:
            connections.join(fake, fake)
        draining = asyncio.create_task(connections.drain(0.05))
        while not all(fake.closes for fake in fakes):
            await asyncio.sleep(0.001)
        assert not draining.done()
        for fake in fakes:
            connections.leave(fake)
        await draining
        assert all(fake.closes == [RESTART] for fake in fakes)
        assert len({fake.reconnects[0] for fake in fakes}) > 1
        connections.close()

    play(test)


def test_drain_is_spread_evenly() -> None:
    async def test(clock: Clock) -> None:
        loop = asyncio.get_running_loop()
        connections = clock.registry()
        left: list[float] = []

        class Leaver(FakeConnection):
            def close(self, close: Close) -> None:
                super().close(close)
                left.append(loop.time())
                connections.leave(self)

        for _ in range(20):
            leaver = Leaver()
            connections.join(leaver, leaver)
        began = loop.time()
        await connections.drain(0.4)
        # No connection is closed before its turn; a late loop can only make it later.
        assert all(at - began >= 0.4 * turn / 20 - 0.01 for turn, at in enumerate(left))
        connections.close()

    play(test)


def test_drain_includes_clients_that_connect_meanwhile() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry()
        first, late = FakeConnection(), FakeConnection()
        connections.join(first, first)
        draining = asyncio.create_task(connections.drain(0.0))
        while not first.closes:
            await asyncio.sleep(0.001)
        connections.join(late, late)
        connections.leave(first)
        while not late.closes:
            await asyncio.sleep(0.001)
        assert not draining.done()
        connections.leave(late)
        await draining
        assert (first.closes, late.closes) == ([RESTART], [RESTART])
        connections.close()

    play(test)


def test_shed_closes_the_given_number_of_connections() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry()
        fakes = [FakeConnection() for _ in range(20)]
        for fake in fakes:
            connections.join(fake, fake)
        await connections.shed(7, 0.0)
        assert sum(fake.closes == [RESTART] for fake in fakes) == 7
        await connections.shed(100, 0.0)
        assert all(fake.closes for fake in fakes)
        connections.close()

    play(test)


def test_old_connections_are_closed_spread_over_time() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry(server=replace(SERVER, max_connection_age_seconds=100))
        fakes = [FakeConnection(answers=True) for _ in range(50)]
        for fake in fakes:
            connections.join(fake, fake)
        clock.pass_seconds(connections, 89)
        assert not any(fake.closes for fake in fakes)
        clock.pass_seconds(connections, 11)
        closed = sum(bool(fake.closes) for fake in fakes)
        assert 0 < closed < 50
        clock.pass_seconds(connections, 11)
        assert all(fake.closes == [RESTART] for fake in fakes)
        connections.close()

    play(test)


def test_new_settings_take_effect_immediately() -> None:
    async def test(clock: Clock) -> None:
        connections = clock.registry()
        connections.use_settings(
            replace(SERVER, close_timeout_seconds=50), Auth(expiry_notice_seconds=500)
        )
        slow, expiring = FakeConnection(), FakeConnection(expires_at=clock.wall + 400)
        connections.closing(slow)
        connections.join(expiring, expiring)
        clock.pass_seconds(connections, 40)
        assert not slow.aborted
        assert expiring.errors == ["TOKEN_EXPIRING"]
        clock.pass_seconds(connections, 11)
        assert slow.aborted
        connections.close()

    play(test)
