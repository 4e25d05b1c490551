"""Who waits until it has spoken, in real sockets on a real loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import uvloop

from workers import lobby
from workers.lobby import Lobby

PATIENCE_SECONDS = 10.0


class Hall:
    """A lobby with a listening socket, and those whom it admitted."""

    def __init__(self, patience: float) -> None:
        self.lobby = Lobby(self._admit, patience)
        self.admitted: list[tuple[socket.socket, str]] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        self._closed = False

    def _admit(self, connection: socket.socket, peer: str) -> None:
        self.admitted.append((connection, peer))

    def connect(self, said: bytes = b"") -> socket.socket:
        """A client that was accepted, and has said this."""
        client = socket.create_connection(self._listening.getsockname())
        client.sendall(said)
        connection, address = self._listening.accept()
        connection.setblocking(False)
        self._clients.append(client)
        self.lobby.wait(connection, address[0])
        return client

    def close_lobby(self) -> None:
        self._closed = True
        self.lobby.close()

    def close(self) -> None:
        if not self._closed:
            self.close_lobby()
        for each in (self._listening, *self._clients, *(c for c, _ in self.admitted)):
            each.close()


@asynccontextmanager
async def hall(patience: float = PATIENCE_SECONDS) -> AsyncIterator[Hall]:
    made = Hall(patience)
    try:
        yield made
    finally:
        made.close()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(0.01)


def closed_by_us(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


def test_who_speaks_is_admitted_with_its_address_and_its_words() -> None:
    async def test() -> None:
        async with hall() as here:
            silent, speaking = here.connect(), here.connect()
            speaking.sendall(b"hello")
            await eventually(lambda: len(here.admitted) == 1)
            connection, peer = here.admitted[0]
            assert connection.getpeername() == speaking.getsockname()
            assert (connection.recv(100), peer) == (b"hello", "127.0.0.1")
            assert len(here.lobby) == 1
            assert not closed_by_us(silent)

    uvloop.run(test())


def test_who_leaves_without_a_word_does_not_wait_any_more() -> None:
    async def test() -> None:
        async with hall() as here:
            here.connect().close()
            await eventually(lambda: len(here.admitted) == 1)
            assert here.admitted[0][0].recv(1) == b""
            assert len(here.lobby) == 0

    uvloop.run(test())


def test_a_crowd_that_speaks_at_once_lets_others_have_their_turns() -> None:
    async def test() -> None:
        async with hall() as here:
            crowd = 5 * lobby.ADMITTED_PER_TURN
            for _ in range(crowd):
                here.connect(b"hello")
            seen = [0]
            while seen[-1] < crowd:
                await asyncio.sleep(0)
                seen.append(len(here.admitted))
            steps = [after - before for before, after in pairwise(seen)]
            assert max(steps) <= lobby.ADMITTED_PER_TURN

    uvloop.run(test())


def test_silent_connections_are_closed_in_their_time_and_others_wait_on() -> None:
    async def test() -> None:
        async with hall(patience=0.3) as here:
            first = here.connect()
            await asyncio.sleep(0.2)
            second = here.connect()
            await eventually(lambda: closed_by_us(first))
            assert not closed_by_us(second)
            await eventually(lambda: closed_by_us(second))
            assert (here.admitted, len(here.lobby)) == ([], 0)

            # And the clock runs again for whoever comes afterwards.
            third = here.connect()
            await eventually(lambda: closed_by_us(third))

    uvloop.run(test())


def test_who_has_spoken_is_not_late_however_long_it_waits_for_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        monkeypatch.setattr(lobby, "ADMITTED_PER_TURN", 1)
        async with hall(patience=0.0) as here:
            for _ in range(50):
                here.connect(b"hello")
            await eventually(lambda: len(here.admitted) == 50)
            assert all(connection.recv(100) == b"hello" for connection, _ in here.admitted)

    uvloop.run(test())


def test_those_who_wait_are_closed_with_it() -> None:
    async def test() -> None:
        async with hall() as here:
            client = here.connect()
            here.close_lobby()
            assert closed_by_us(client)

    uvloop.run(test())


def test_emptied_waits_until_the_last_was_admitted_or_closed() -> None:
    async def test() -> None:
        async with hall(patience=0.2) as here:
            await here.lobby.emptied()
            silent, speaking = here.connect(), here.connect()
            waiting = asyncio.ensure_future(here.lobby.emptied())
            speaking.sendall(b"hello")
            await eventually(lambda: len(here.admitted) == 1)
            assert not waiting.done()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await waiting
            assert len(here.admitted) == 1
            assert closed_by_us(silent)

    uvloop.run(test())
