"""Reading an edge-triggered socket without missing a message and without starving the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest
import zmq

from energyws.testing import until
from workers.bus import socket_reader
from workers.bus.socket_reader import SocketReader

Pair = tuple["zmq.Socket[bytes]", "zmq.Socket[bytes]"]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two connected sockets."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    ours, theirs = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    ours.bind("inproc://pair")
    theirs.connect("inproc://pair")
    yield ours, theirs
    for socket in (ours, theirs):
        socket.setsockopt(zmq.LINGER, 0)
        socket.close()
    context.term()


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(main(), 30)

    asyncio.run(limited())


def test_messages_from_before_the_reader_are_read(pair: Pair) -> None:
    async def main() -> None:
        ours, theirs = pair
        theirs.send_multipart([b"a", b"b"])
        received: list[list[bytes]] = []
        reader = SocketReader(asyncio.get_running_loop(), ours, received.append)
        await until(lambda: received == [[b"a", b"b"]])
        reader.close()

    run(main)


def test_one_turn_reads_a_bounded_number_and_the_next_turns_the_rest(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_reader, "MESSAGES_PER_TURN", 10)

    async def main() -> None:
        ours, theirs = pair
        for _ in range(35):
            theirs.send(b"x")
        received: list[list[bytes]] = []
        reader = SocketReader(asyncio.get_running_loop(), ours, received.append)
        reader.drain()
        assert len(received) == 10
        await until(lambda: len(received) == 35)
        reader.close()

    run(main)


def test_message_whose_edge_a_send_swallowed_is_read(pair: Pair) -> None:
    async def main() -> None:
        ours, theirs = pair
        received: list[list[bytes]] = []
        reader = SocketReader(asyncio.get_running_loop(), ours, received.append)
        await asyncio.sleep(0)
        theirs.send(b"x")
        ours.send(b"y")
        reader.after_send()
        await until(lambda: received == [[b"x"]])
        reader.close()

    run(main)


def test_closed_reader_reads_no_more(pair: Pair) -> None:
    async def main() -> None:
        ours, theirs = pair
        received: list[list[bytes]] = []
        reader = SocketReader(asyncio.get_running_loop(), ours, received.append)
        # A turn that was scheduled before is cancelled.
        reader.close()
        theirs.send(b"x")
        for _ in range(3):
            await asyncio.sleep(0)
        assert received == []
        assert ours.recv() == b"x"

    run(main)
