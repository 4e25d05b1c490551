"""An accepted connection's socket."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Callable

import pytest
from aiofastnet.selector_transport import SelectorSocketTransport

from tests.workers.websocket.connected import connected
from workers.websocket.clients.stalls import Stalls
from workers.websocket.connection import accepted
from workers.websocket.connection.accepted import RECEIVE_BYTES, AcceptedSocket

DEADLINE_SECONDS = 10.0
# With a buffer this small, a client that reads a few bytes makes room for less than a segment.
SMALL_BUFFER = 4096
# More than that buffer, less than the kernel keeps on our side.
BURST = b"x" * 256 * 1024


class Protocol(asyncio.Protocol):
    def __init__(self) -> None:
        self.made, self.lost = asyncio.Event(), asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def option(connection: socket.socket, number: int, level: int = socket.IPPROTO_TCP) -> int:
    """Past its own getsockopt, which spares a call."""
    return socket.socket.getsockopt(connection, level, number)


def fill(connection: AcceptedSocket) -> int:
    """Send a burst; returns how many bytes the kernel took."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while sent < len(BURST):
            sent += connection.send(BURST[sent:])
    return sent


def read(client: socket.socket, count: int) -> None:
    while count:
        count -= len(client.recv(min(count, 1_000)))


def test_kernel_holds_no_more_than_the_limit_of_what_is_sent() -> None:
    held = {}
    for limit in (None, 16 * 1024, 64 * 1024):
        connection, client = connected()
        with client, connection:
            connection.limit_buffers(limit)
            held[limit] = fill(connection)
    # The kernel takes twice as much, its own bookkeeping included, and finishes the last segment.
    assert held[16 * 1024] < 16 * 1024 * 6
    assert held[16 * 1024] < held[64 * 1024] < held[None]


def test_what_the_kernel_holds_is_known_until_the_client_has_read() -> None:
    connection, client = connected()
    with client, connection:
        assert connection.unacknowledged() == 0
        connection.limit_buffers(16 * 1024)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        sent = fill(connection)
        assert 0 < connection.unacknowledged() <= sent
        read(client, sent)
        until(lambda: connection.unacknowledged() == 0)
    assert connection.unacknowledged() == 0


def test_kernel_holds_little_of_what_is_received() -> None:
    connection, client = connected()
    with client, connection:
        connection.limit_buffers(None)
        assert option(connection, socket.SO_RCVBUF, socket.SOL_SOCKET) == 2 * RECEIVE_BYTES


def test_it_sends_at_once() -> None:
    async def no_delay() -> int:
        connection, client = connected()
        with client:
            protocol = Protocol()
            transport = SelectorSocketTransport(asyncio.get_running_loop(), connection, protocol)
            found = option(connection, socket.TCP_NODELAY)
            await protocol.made.wait()
            transport.abort()
            await protocol.lost.wait()
        return found

    assert asyncio.run(no_delay()) == 1


def test_kernel_ends_it_only_once_it_is_left_to_it() -> None:
    connection, client = connected()
    with connection, client:
        assert option(connection, socket.TCP_USER_TIMEOUT) == 0
        connection.leave_to_kernel(7.0)
        assert option(connection, socket.TCP_USER_TIMEOUT) == 7_000
    connection.leave_to_kernel(7.0)


def test_acknowledged_bytes_are_counted_while_some_are_not() -> None:
    connection, client = connected(SMALL_BUFFER)
    with connection, client:
        client.settimeout(DEADLINE_SECONDS)
        assert connection.acknowledged() is None
        sent = fill(connection)
        before = connection.acknowledged()
        assert before is not None
        assert before < sent
        read(client, sent // 2)
        until(lambda: (connection.acknowledged() or 0) > before)
        read(client, sent - sent // 2)
        until(lambda: connection.acknowledged() is None)
    assert connection.acknowledged() is None


def test_kernel_that_cannot_say_what_is_acknowledged_stalls_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ioctl(*_: object) -> None:
        raise OSError(errno.ENOPROTOOPT, "not supported")

    monkeypatch.setattr(accepted, "ioctl", ioctl)
    connection, client = connected(SMALL_BUFFER)
    with connection, client:
        fill(connection)
        assert connection.acknowledged() is None


def test_client_that_pauses_now_and_then_does_not_stall() -> None:
    """TCP_USER_TIMEOUT would end it at its second pause."""
    connection, client = connected(SMALL_BUFFER)
    stalls: Stalls[socket.socket] = Stalls()
    most = 0.6

    def look_for(seconds: float) -> None:
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            assert not stalls.look(connection, connection.acknowledged(), now, most)
            time.sleep(most / 6)

    with connection, client:
        client.settimeout(DEADLINE_SECONDS)
        for _ in range(3):
            sent = fill(connection)
            # The kernel probes the closed window, first after 0.2 s.
            look_for(most / 2)
            read(client, 300)
            read(client, sent - 300)
            look_for(most * 1.5)
        assert connection.acknowledged() is None


def test_client_of_a_reset_connection_gets_what_it_has_received_and_a_reset() -> None:
    connection, client = connected(SMALL_BUFFER)
    with connection, client:
        client.settimeout(DEADLINE_SECONDS)
        fill(connection)
        connection.reset_on_close()
        connection.close()
        with pytest.raises(ConnectionResetError):
            read(client, len(BURST))
