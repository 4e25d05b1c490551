"""Reading an edge-triggered socket without missing messages or starving the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

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
    near, far = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
    near.bind("inproc://pair")
    far.connect("inproc://pair")
    yield near, far
    for socket in (near, far):
        socket.setsockopt(zmq.LINGER, 0)
        socket.close()
    context.term()


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        await asyncio.wait_for(main(), 30)

    asyncio.run(limited())


def test_messages_sent_before_the_reader_starts_are_read(pair: Pair) -> None:
    async def main() -> None:
        near, far = pair
        far.send_multipart([b"a", b"b"])
        received: list[list[bytes]] = []
        reader = SocketReader(asyncio.get_running_loop(), near, received.append)
        await until(lambda: received == [[b"a", b"b"]])
        reader.close()

    run(main)


def test_turn_reads_a_bounded_number_and_later_turns_the_rest(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_reader, "MESSAGES_PER_TURN", 10)

    async def main() -> None:
        near, far = pair
        for _ in range(35):
            far.send(b"x")
        received: list[list[bytes]] = []
        reader = SocketReader(asyncio.get_running_loop(), near, received.append)
        reader.drain()
        assert len(received) == 10
        await until(lambda: len(received) == 35)
        reader.close()

    run(main)


def test_parts_of_a_message_stay_together(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_reader, "MESSAGES_PER_TURN", 2)

    async def main() -> None:
        near, far = pair
        sent = [[b"a"], [b"b", b"", b"c"], [b""], [b"d", b"e"], [b"f"]]
        for parts in sent:
            far.send_multipart(parts)
        received: list[list[bytes]] = []
        reader = SocketReader(asyncio.get_running_loop(), near, received.append)
        reader.drain()
        assert received == sent[:2]
        await until(lambda: len(received) == len(sent))
        assert received == sent
        reader.close()

    run(main)


def test_message_that_arrives_during_a_turn_is_read(pair: Pair) -> None:
    async def main() -> None:
        near, far = pair
        received: list[list[bytes]] = []

        def receive(parts: list[bytes]) -> None:
            received.append(parts)
            if len(received) == 1:
                far.send(b"second")

        reader = SocketReader(asyncio.get_running_loop(), near, receive)
        far.send(b"first")
        await until(lambda: received == [[b"first"], [b"second"]])
        reader.close()

    run(main)


def test_messages_that_come_one_by_one_from_another_thread_are_all_read(tmp_path: Path) -> None:
    """Each is sent once the last one was received, so a missed edge would stop them all."""
    rounds = 500
    received: SimpleQueue[bytes | None] = SimpleQueue()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    near = context.socket(zmq.PAIR)
    near.setsockopt(zmq.LINGER, 0)
    near.bind(f"ipc://{tmp_path / 'pair'}")

    def send() -> None:
        with context.socket(zmq.PAIR) as far:
            far.setsockopt(zmq.LINGER, 0)
            far.connect(f"ipc://{tmp_path / 'pair'}")
            for number in range(rounds):
                far.send(b"%d" % number)
                if received.get() != b"%d" % number:
                    break

    async def main() -> None:
        count = 0

        def receive(parts: list[bytes]) -> None:
            nonlocal count
            count += 1
            received.put(parts[0])

        reader = SocketReader(asyncio.get_running_loop(), near, receive)
        await until(lambda: count == rounds)
        reader.close()

    sender = threading.Thread(target=send)
    sender.start()
    try:
        run(main)
    finally:
        received.put(None)
        sender.join()
        near.close()
        context.term()


def test_message_is_read_although_a_send_consumed_its_edge(pair: Pair) -> None:
    async def main() -> None:
        near, far = pair
        received: list[list[bytes]] = []
        reader = SocketReader(asyncio.get_running_loop(), near, received.append)
        await asyncio.sleep(0)
        far.send(b"x")
        near.send(b"y")
        reader.after_send()
        await until(lambda: received == [[b"x"]])
        reader.close()

    run(main)


def test_closed_reader_reads_nothing(pair: Pair) -> None:
    async def main() -> None:
        near, far = pair
        received: list[list[bytes]] = []
        reader = SocketReader(asyncio.get_running_loop(), near, received.append)
        # close() cancels the turn that is already scheduled.
        reader.close()
        far.send(b"x")
        for _ in range(3):
            await asyncio.sleep(0)
        assert received == []
        assert near.recv() == b"x"

    run(main)
