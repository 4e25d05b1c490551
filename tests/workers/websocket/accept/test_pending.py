"""Pending connections: real sockets, and a clock that tests advance."""

from __future__ import annotations

import asyncio
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import uvloop

from energyws.testing import until
from workers.websocket.accept import pending
from workers.websocket.accept.pending import PendingConnection, PendingConnections

DEADLINE_SECONDS = 10.0


class FakeTimer:
    """A timer of FakeClock."""

    def __init__(self, due: float, callback: Callable[[], None]) -> None:
        self.due = due
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """A clock that only tests advance."""

    def __init__(self) -> None:
        self.now = 100.0
        self._timers: list[FakeTimer] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Callable[[], None]) -> FakeTimer:
        self._timers.append(FakeTimer(self.now + seconds, callback))
        return self._timers[-1]

    def advance(self, seconds: float) -> None:
        """Advance the clock and call each timer when it is due."""
        end = self.now + seconds
        while due := [t for t in self._timers if not t.cancelled and t.due <= end]:
            timer = min(due, key=lambda each: each.due)
            self._timers.remove(timer)
            self.now = timer.due
            timer.callback()
        self.now = end


class Server:
    """A listening socket, its pending connections, and those that were served.

    stays: keep connections pending after reading from them, instead of releasing them.
    """

    def __init__(self, timeout: float) -> None:
        self.clock = FakeClock()
        self.pending: PendingConnections[PendingConnection] = PendingConnections(
            self._serve, timeout, self.clock
        )
        self.served: list[socket.socket] = []
        self.stays = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        self._closed = False

    def _serve(self, one: PendingConnection) -> None:
        if self.stays:
            one.connection.recv(100)
        else:
            self.pending.release(one)
        self.served.append(one.connection)

    def connect(self, sent: bytes = b"") -> socket.socket:
        """A client that was accepted and has sent `sent`."""
        client = socket.create_connection(self._listening.getsockname())
        client.sendall(sent)
        connection, _ = self._listening.accept()
        connection.setblocking(False)
        self._clients.append(client)
        self.pending.add(PendingConnection(connection))
        return client

    def close_pending(self) -> None:
        self._closed = True
        self.pending.close()

    def close(self) -> None:
        if not self._closed:
            self.close_pending()
        for each in (self._listening, *self._clients, *self.served):
            each.close()


@asynccontextmanager
async def running(seconds: float = 5.0) -> AsyncIterator[Server]:
    made = Server(seconds)
    try:
        yield made
    finally:
        made.close()


def closed_by_server(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


def test_client_that_sends_is_served_with_its_bytes() -> None:
    async def test() -> None:
        async with running() as server:
            silent, sending = server.connect(), server.connect()
            sending.sendall(b"hello")
            await until(lambda: len(server.served) == 1)
            assert server.served[0].getpeername() == sending.getsockname()
            assert server.served[0].recv(100) == b"hello"
            assert len(server.pending) == 1
            assert not closed_by_server(silent)

    uvloop.run(test())


def test_client_that_disconnects_silently_is_no_longer_pending() -> None:
    async def test() -> None:
        async with running() as server:
            server.connect().close()
            await until(lambda: len(server.served) == 1)
            assert server.served[0].recv(1) == b""
            assert len(server.pending) == 0

    uvloop.run(test())


def test_many_clients_that_send_together_are_served_in_turns() -> None:
    async def test() -> None:
        async with running() as server:
            count = 5 * pending.SERVED_PER_TURN
            for _ in range(count):
                server.connect(b"hello")
            seen = [0]
            while seen[-1] < count:
                await asyncio.sleep(0)
                seen.append(len(server.served))
            steps = [after - before for before, after in itertools.pairwise(seen)]
            assert max(steps) <= pending.SERVED_PER_TURN

    uvloop.run(test())


def test_each_silent_connection_is_closed_after_its_own_timeout() -> None:
    async def test() -> None:
        async with running(seconds=3) as server:
            first = server.connect()
            server.clock.advance(2)
            second = server.connect()
            server.clock.advance(0.9)
            assert not closed_by_server(first)
            server.clock.advance(0.2)
            assert closed_by_server(first)
            assert not closed_by_server(second)
            server.clock.advance(2)
            assert closed_by_server(second)
            assert (server.served, len(server.pending)) == ([], 0)

            # The timer is set again for a later connection.
            third = server.connect()
            server.clock.advance(3.1)
            assert closed_by_server(third)

    uvloop.run(test())


def test_renewed_connection_gets_its_full_timeout_again() -> None:
    async def test() -> None:
        async with running(seconds=3) as server:
            renewed, other = server.connect(), server.connect()
            server.clock.advance(2)
            server.pending.renew(server.pending.all[0])
            server.clock.advance(1.1)
            assert closed_by_server(other)
            assert not closed_by_server(renewed)
            server.clock.advance(2)
            assert closed_by_server(renewed)

    uvloop.run(test())


def test_client_that_has_sent_is_not_closed_by_a_busy_loop() -> None:
    async def test() -> None:
        async with running(seconds=3) as server:
            for _ in range(50):
                server.connect(b"hello")
            # The loop has not had a turn in the meantime.
            server.clock.advance(60)
            assert len(server.pending) == 50
            await until(lambda: len(server.served) == 50)
            assert all(connection.recv(100) == b"hello" for connection in server.served)

    uvloop.run(test())


def test_close_closes_pending_connections() -> None:
    async def test() -> None:
        async with running() as server:
            client = server.connect()
            server.close_pending()
            assert closed_by_server(client)

    uvloop.run(test())


def test_emptied_waits_until_every_connection_is_served_or_closed() -> None:
    async def test() -> None:
        async with running(seconds=3) as server:
            await server.pending.emptied()
            silent, sending = server.connect(), server.connect()
            waiting = asyncio.ensure_future(server.pending.emptied())
            sending.sendall(b"hello")
            await until(lambda: len(server.served) == 1)
            assert not waiting.done()
            server.clock.advance(3.1)
            async with asyncio.timeout(DEADLINE_SECONDS):
                await waiting
            assert len(server.served) == 1
            assert closed_by_server(silent)

    uvloop.run(test())


def test_client_that_sends_byte_by_byte_is_closed_after_its_timeout() -> None:
    async def test() -> None:
        async with running(seconds=3) as server:
            server.stays = True
            client = server.connect(b"G")
            await until(lambda: len(server.served) == 1)
            client.send(b"E")
            server.clock.advance(3.1)
            assert len(server.pending) == 0
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                while True:
                    client.send(b"T")

    uvloop.run(test())


def test_reset_is_noticed_immediately() -> None:
    async def test() -> None:
        async with running() as server:
            client = server.connect()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            await until(lambda: len(server.served) == 1)
            with pytest.raises(ConnectionResetError):
                server.served[0].recv(1)

    uvloop.run(test())


def test_changed_timeout_applies_to_pending_connections() -> None:
    async def test() -> None:
        async with running(seconds=3600) as server:
            client = server.connect()
            server.clock.advance(10)
            server.pending.timeout = 20
            server.clock.advance(9)
            assert not closed_by_server(client)
            server.clock.advance(2)
            assert closed_by_server(client)

    uvloop.run(test())


def test_who_closes_a_connection_says_so() -> None:
    async def test() -> None:
        dropped: list[PendingConnection] = []
        pending_ = PendingConnections(pending_release, 60.0, dropped=dropped.append)
        pairs = [socket.socketpair() for _ in range(3)]
        ours = [PendingConnection(one) for one, _ in pairs]
        for each in ours:
            pending_.add(each)
        pending_.drop(ours[0])
        pending_.release(ours[1])
        assert dropped == [ours[0]]
        pending_.close()
        assert dropped == [ours[0], ours[2]]
        for each in itertools.chain(*pairs):
            each.close()

    uvloop.run(test())


def pending_release(one: PendingConnection) -> None:
    raise AssertionError("nothing was sent")


def test_timers_of_the_event_loop_are_the_default() -> None:
    async def test() -> None:
        connections: PendingConnections[PendingConnection] = PendingConnections(
            lambda one: None, 0.0
        )
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.create_connection(listening.getsockname())
            connections.add(PendingConnection(listening.accept()[0]))
        await until(lambda: len(connections) == 0)
        assert closed_by_server(client)
        client.close()
        connections.close()

    uvloop.run(test())
