"""Who waits until it is served, in real sockets on a real loop."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import uvloop

from energyws.testing import until
from workers.websocket.accept import pending
from workers.websocket.accept.pending import PendingConnection, PendingConnections

PATIENCE_SECONDS = 10.0


class Hall:
    """A lobby with a listening socket, and those whom it served; they are released at once."""

    def __init__(self, patience: float) -> None:
        self.lobby: PendingConnections[PendingConnection] = PendingConnections(
            self._serve, patience
        )
        self.served: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._clients: list[socket.socket] = []
        self._closed = False
        # Whether they stay, and are read from.
        self.stay = False

    def _serve(self, guest: PendingConnection) -> None:
        if self.stay:
            guest.connection.recv(100)
        else:
            self.lobby.release(guest)
            self.served.append(guest.connection)

    def connect(self, said: bytes = b"") -> socket.socket:
        """A client that was accepted, and has said this."""
        client = socket.create_connection(self._listening.getsockname())
        client.sendall(said)
        connection, _ = self._listening.accept()
        connection.setblocking(False)
        self._clients.append(client)
        self.lobby.wait(PendingConnection(connection))
        return client

    def close_lobby(self) -> None:
        self._closed = True
        self.lobby.close()

    def close(self) -> None:
        if not self._closed:
            self.close_lobby()
        for each in (self._listening, *self._clients, *self.served):
            each.close()


@asynccontextmanager
async def hall(patience: float = PATIENCE_SECONDS) -> AsyncIterator[Hall]:
    made = Hall(patience)
    try:
        yield made
    finally:
        made.close()


def closed_by_us(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


def test_who_speaks_is_served_with_its_words() -> None:
    async def test() -> None:
        async with hall() as here:
            silent, speaking = here.connect(), here.connect()
            speaking.sendall(b"hello")
            await until(lambda: len(here.served) == 1)
            assert here.served[0].getpeername() == speaking.getsockname()
            assert here.served[0].recv(100) == b"hello"
            assert len(here.lobby) == 1
            assert not closed_by_us(silent)

    uvloop.run(test())


def test_who_leaves_without_a_word_does_not_wait_any_more() -> None:
    async def test() -> None:
        async with hall() as here:
            here.connect().close()
            await until(lambda: len(here.served) == 1)
            assert here.served[0].recv(1) == b""
            assert len(here.lobby) == 0

    uvloop.run(test())


def test_a_crowd_that_speaks_at_once_lets_others_have_their_turns() -> None:
    async def test() -> None:
        async with hall() as here:
            crowd = 5 * pending.SERVED_PER_TURN
            for _ in range(crowd):
                here.connect(b"hello")
            seen = [0]
            while seen[-1] < crowd:
                await asyncio.sleep(0)
                seen.append(len(here.served))
            steps = [after - before for before, after in pairwise(seen)]
            assert max(steps) <= pending.SERVED_PER_TURN

    uvloop.run(test())


def test_silent_connections_are_closed_in_their_time_and_others_wait_on() -> None:
    async def test() -> None:
        async with hall(patience=0.3) as here:
            first = here.connect()
            await asyncio.sleep(0.2)
            second = here.connect()
            await until(lambda: closed_by_us(first))
            assert not closed_by_us(second)
            await until(lambda: closed_by_us(second))
            assert (here.served, len(here.lobby)) == ([], 0)

            # And the clock runs again for whoever comes afterwards.
            third = here.connect()
            await until(lambda: closed_by_us(third))

    uvloop.run(test())


def test_who_has_spoken_is_not_late_however_long_it_waits_for_us(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        monkeypatch.setattr(pending, "SERVED_PER_TURN", 1)
        async with hall(patience=0.0) as here:
            for _ in range(50):
                here.connect(b"hello")
            await until(lambda: len(here.served) == 50)
            assert all(connection.recv(100) == b"hello" for connection in here.served)

    uvloop.run(test())


def test_those_who_wait_are_closed_with_it() -> None:
    async def test() -> None:
        async with hall() as here:
            client = here.connect()
            here.close_lobby()
            assert closed_by_us(client)

    uvloop.run(test())


def test_emptied_waits_until_the_last_was_served_or_closed() -> None:
    async def test() -> None:
        async with hall(patience=0.2) as here:
            await here.lobby.emptied()
            silent, speaking = here.connect(), here.connect()
            waiting = asyncio.ensure_future(here.lobby.emptied())
            speaking.sendall(b"hello")
            await until(lambda: len(here.served) == 1)
            assert not waiting.done()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await waiting
            assert len(here.served) == 1
            assert closed_by_us(silent)

    uvloop.run(test())


def test_dripping_client_is_closed_in_its_time() -> None:
    async def test() -> None:
        async with hall(patience=0.3) as here:
            here.stay = True
            client = here.connect(b"G")
            async with asyncio.timeout(PATIENCE_SECONDS):
                with pytest.raises((BrokenPipeError, ConnectionResetError)):
                    while True:
                        client.send(b"E")
                        await asyncio.sleep(0)
            assert len(here.lobby) == 0

    uvloop.run(test())


def test_reset_is_noticed_at_once() -> None:
    async def test() -> None:
        async with hall() as here:
            client = here.connect()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            await until(lambda: len(here.served) == 1)
            with pytest.raises(ConnectionResetError):
                here.served[0].recv(1)

    uvloop.run(test())


def test_changed_patience_counts_for_those_who_wait() -> None:
    async def test() -> None:
        async with hall(patience=3600) as here:
            client = here.connect()
            here.lobby.patience = 0.1
            await until(lambda: closed_by_us(client))

    uvloop.run(test())


def test_patience_is_told_by_the_clock() -> None:
    async def test() -> None:
        now = [100.0]
        with socket.create_server(("127.0.0.1", 0)) as listening:
            here: PendingConnections[PendingConnection] = PendingConnections(
                lambda guest: None, 50.0, lambda: now[0]
            )
            client = socket.create_connection(listening.getsockname())
            here.wait(PendingConnection(listening.accept()[0]))
            # It looks again for a change of the patience.
            now[0] = 149.0
            here.patience = 49.5
            await asyncio.sleep(2 * pending.LEAST_PAUSE_SECONDS)
            assert len(here) == 1
            now[0] = 149.6
            await until(lambda: len(here) == 0)
            assert closed_by_us(client)
            client.close()
            here.close()

    uvloop.run(test())
