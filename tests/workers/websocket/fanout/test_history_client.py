"""A worker's history requests, over a real socket to a scripted consumer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zmq

from energyws.protocol.position import Position, from_offsets
from energyws.stream.bus_messages import (
    pack_chunks,
    pack_history_request,
    pack_rule,
    pack_start,
    unpack_history_request,
)
from energyws.stream.fair_queue import QueueFull
from energyws.stream.history import Chunk, FindStart, ReadChunks, StartPoint
from workers.websocket.fanout import history_client
from workers.websocket.fanout.history_client import HistoryClient

EPOCH = "abcd0123"


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine with a deadline."""
    asyncio.run(asyncio.wait_for(main(), 30))


@dataclass(frozen=True)
class Client:
    """A client of a subject."""

    number: int
    subject: str = "tester"


ONE = Client(1)
RULES = {"energy": "/meter", "water": None}


def at(offset: int) -> Position:
    return from_offsets(EPOCH, [offset])


def chunk(begin: int, size: int = 10) -> Chunk:
    return Chunk(at(begin), at(begin + 1), 1, bytes(size))


class Scripted:
    """The consumer's end, and the worker's chunk listener."""

    def __init__(self, directory: Path, concurrent: int) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._directory = directory
        self._listen()
        self.arrived: list[int] = []
        self.failed: list[int] = []
        self.history = HistoryClient(directory, concurrent, RULES)
        self.history.listen(self)

    def chunk_arrived(self, stream: str, position: Position) -> None:
        self.arrived.append(position.offsets[0])

    def chunk_failed(self, stream: str, position: Position) -> None:
        self.failed.append(position.offsets[0])

    def _listen(self) -> None:
        self.router = self.context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.LINGER, 0)
        self.router.bind(f"ipc://{self._directory / 'history'}")

    def restart(self) -> None:
        """Forget all requests."""
        self.router.close()
        self._listen()

    async def requests(self, count: int) -> list[tuple[bytes, FindStart | ReadChunks]]:
        """The next `count` requests, with the identities of their senders."""
        found: list[tuple[bytes, FindStart | ReadChunks]] = []
        while len(found) < count:
            try:
                identity, body, _subject, rule = self.router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                await asyncio.sleep(0.005)
                continue
            request = unpack_history_request(body)
            assert rule == pack_rule(RULES[request.stream])
            found.append((identity, request))
        return found

    async def quiet(self) -> None:
        """Check that no request arrives for a while."""
        for _ in range(10):
            await asyncio.sleep(0.005)
            assert not self.router.poll(0)

    def answer(self, identity: bytes, request: FindStart | ReadChunks, parts: list[bytes]) -> None:
        self.router.send_multipart([identity, pack_history_request(request), *parts])

    async def until_arrived(self, count: int) -> None:
        while len(self.arrived) < count:
            await asyncio.sleep(0.005)

    def close(self) -> None:
        self.history.close()
        self.router.close()
        self.context.term()


@asynccontextmanager
async def scripted(directory: Path, concurrent: int = 8) -> AsyncIterator[Scripted]:
    made = Scripted(directory, concurrent)
    try:
        yield made
    finally:
        made.close()


def test_equal_requests_are_sent_once_for_all_clients(tmp_path: Path) -> None:
    async def main() -> None:
        async with scripted(tmp_path) as it:
            replies: list[StartPoint | None] = []
            for number in range(100):
                it.history.find(
                    Client(number), FindStart("energy", EPOCH, after=at(5)), replies.append
                )
            ((identity, query),) = await it.requests(1)
            await it.quiet()
            found = StartPoint(at(7), at(7))
            it.answer(identity, query, pack_start(found))
            while len(replies) < 100:
                await asyncio.sleep(0.005)
            assert replies == [found] * 100

    run(main)


def test_chunks_of_a_reply_are_cached_for_later_clients(tmp_path: Path) -> None:
    async def main() -> None:
        async with scripted(tmp_path) as it:
            assert it.history.chunk(ONE, "energy", at(1)) is None
            assert it.history.chunk(ONE, "energy", at(1)) is None
            ((identity, read),) = await it.requests(1)
            assert read == ReadChunks("energy", at(1))
            it.answer(identity, read, pack_chunks([chunk(1), chunk(2), chunk(3)]))
            await it.until_arrived(1)
            assert it.arrived == [1]
            assert [it.history.chunk(ONE, "energy", at(n)) for n in (1, 2, 3)] == [
                chunk(1),
                chunk(2),
                chunk(3),
            ]
            await it.quiet()

    run(main)


def test_requests_in_flight_are_bounded(tmp_path: Path) -> None:
    async def main() -> None:
        async with scripted(tmp_path, concurrent=2) as it:
            for number in range(6):
                it.history.chunk(Client(number, f"{number}"), "energy", at(number))
            requests = await it.requests(2)
            await it.quiet()
            for number in range(2, 6):
                identity, read = requests.pop(0)
                assert isinstance(read, ReadChunks)
                it.answer(identity, read, pack_chunks([chunk(read.after.offsets[0])]))
                requests += await it.requests(1)
                assert requests[-1][1] == ReadChunks("energy", at(number))

    run(main)


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_client, "CACHE_BYTES", 2500)

    async def main() -> None:
        async with scripted(tmp_path) as it:
            for number in range(4):
                it.history.chunk(Client(number), "energy", at(number))
            for identity, read in await it.requests(4):
                assert isinstance(read, ReadChunks)
                begin = read.after.offsets[0]
                it.answer(identity, read, pack_chunks([chunk(begin, 1000)]))
            await it.until_arrived(4)
            for number in range(4):
                it.history.withdraw(Client(number), "energy")
            kept = [it.history.chunk(ONE, "energy", at(n)) is not None for n in range(4)]
            assert kept == [False, False, True, True]

    run(main)


def test_request_lost_with_a_consumer_is_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_client, "SEND_AGAIN_SECONDS", 0.0)

    async def main() -> None:
        async with scripted(tmp_path) as it:
            it.history.chunk(ONE, "energy", at(1))
            await it.requests(1)
            it.restart()
            # Requests that are sent before zmq reconnects may be lost as well.
            while not it.router.poll(0):
                it.history.tick()
                await asyncio.sleep(0.005)
            identity, read = (await it.requests(1))[0]
            it.answer(identity, read, pack_chunks([chunk(1)]))
            # A second reply to the same request is ignored.
            it.answer(identity, read, pack_chunks([chunk(1)]))
            await it.until_arrived(1)
            it.history.tick()
            await asyncio.sleep(0.05)
            assert it.arrived == [1]

    run(main)


def test_request_that_waits_too_long_fails_and_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_client, "GIVE_UP_SECONDS", 0.0)

    async def main() -> None:
        async with scripted(tmp_path, concurrent=1) as it:
            replies: list[StartPoint | None] = []
            it.history.find(ONE, FindStart("energy", EPOCH, last=5), replies.append)
            it.history.chunk(Client(2), "energy", at(1))
            it.history.tick()
            assert replies == [None]
            # The next request in the queue has been sent by now, and its time limit starts.
            it.history.tick()
            assert it.failed == [1]
            assert [request for _, request in await it.requests(2)] == [
                FindStart("energy", EPOCH, last=5),
                ReadChunks("energy", at(1)),
            ]

    run(main)


def test_another_epoch_drops_all_requests(tmp_path: Path) -> None:
    async def main() -> None:
        async with scripted(tmp_path, concurrent=1) as it:
            replies: list[StartPoint | None] = []
            it.history.find(ONE, FindStart("energy", EPOCH, after=at(5)), replies.append)
            it.history.chunk(Client(2), "energy", at(1))
            it.history.chunk(ONE, "water", at(1))
            it.history.forget("energy")
            requests = await it.requests(2)
            assert requests[1][1] == ReadChunks("water", at(1))
            it.answer(*requests[0], pack_start(StartPoint(at(5), at(5))))
            it.answer(*requests[1], pack_chunks([chunk(1)]))
            await it.until_arrived(1)
            assert replies == []

    run(main)


def test_newer_request_of_a_client_replaces_the_older_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with scripted(tmp_path, concurrent=1) as it:
            for number in range(1000):
                it.history.find(ONE, FindStart("energy", EPOCH, after=at(number)), lambda _: None)
            # The first request is in flight, but no client waits for it any more.
            assert (it.history.waiting, len(it.history._requests)) == (1, 2)
            it.answer(*(await it.requests(1))[0], pack_start(StartPoint(at(0), at(0))))
            assert (await it.requests(1))[0][1] == FindStart("energy", EPOCH, after=at(999))

    run(main)


def test_nothing_is_kept_of_clients_that_leave(tmp_path: Path) -> None:
    async def main() -> None:
        async with scripted(tmp_path, concurrent=4) as it:
            replies: list[StartPoint | None] = []
            clients = [Client(number, f"{number % 7}") for number in range(200)]
            for turn in range(5):
                for client in clients:
                    query = FindStart("energy", EPOCH, after=at(client.number + turn))
                    it.history.find(client, query, replies.append)
                    it.history.chunk(client, "water", at(client.number))
            for client in clients:
                it.history.withdraw(client, "energy")
                it.history.withdraw(client, "water")
            assert it.history.waiting == 0
            # After replies to the requests in flight, the socket is quiet.
            for identity, request in await it.requests(4):
                parts = pack_start(StartPoint(at(0), at(0)))
                if isinstance(request, ReadChunks):
                    parts = pack_chunks([chunk(request.after.offsets[0])])
                it.answer(identity, request, parts)
            while it.history._requests:
                await asyncio.sleep(0.005)
            await it.quiet()
            assert replies == []
            assert (len(it.history._queue), it.history._queue.weight) == (0, 0)
            assert it.history._in_flight.total() == 0

    run(main)


def test_unanswered_request_that_no_client_waits_for_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_client, "SEND_AGAIN_SECONDS", 0.0)

    async def main() -> None:
        async with scripted(tmp_path, concurrent=1) as it:
            it.history.chunk(ONE, "energy", at(1))
            it.history.chunk(Client(2), "energy", at(2))
            it.history.withdraw(ONE, "energy")
            it.history.tick()
            assert [read for _, read in await it.requests(2)] == [
                ReadChunks("energy", at(1)),
                ReadChunks("energy", at(2)),
            ]

    run(main)


def test_many_requests_of_one_subject_do_not_delay_those_of_another(tmp_path: Path) -> None:
    async def main() -> None:
        async with scripted(tmp_path, concurrent=4) as it:
            for number in range(250):
                it.history.chunk(Client(number, "busy"), "energy", at(number))
            # One subject may have half of the requests in flight, so another is served immediately.
            assert [r.after.offsets[0] for _, r in await it.requests(2)] == [0, 1]  # type: ignore[union-attr]
            await it.quiet()
            it.history.chunk(Client(0, "other"), "energy", at(999))
            assert [r for _, r in await it.requests(1)] == [ReadChunks("energy", at(999))]

    run(main)


def test_requests_are_bounded_and_one_subject_cannot_fill_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_client, "REQUESTS_BYTES", 100 * history_client.REQUEST_BYTES)

    async def main() -> None:
        async with scripted(tmp_path) as it:
            room = 0
            with pytest.raises(QueueFull):
                for number in range(100):
                    it.history.chunk(Client(number, "busy"), "energy", at(number))
                    room += 1
            assert 30 < room <= 50
            assert it.history.waiting == room
            # A waiting client can replace its request, and one that leaves makes room.
            it.history.chunk(Client(1, "busy"), "energy", at(1001))
            it.history.withdraw(Client(0, "busy"), "energy")
            it.history.chunk(Client(1000, "busy"), "energy", at(1000))
            it.history.chunk(Client(0, "other"), "energy", at(999))

    run(main)


def test_chunks_larger_than_the_cache_reach_every_client_that_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history_client, "CACHE_BYTES", 2500)

    async def main() -> None:
        async with scripted(tmp_path) as it:
            clients = [Client(number, f"{number}") for number in range(12)]
            for client in clients:
                it.history.chunk(client, "energy", at(10 * client.number))
            for identity, read in await it.requests(8):
                assert isinstance(read, ReadChunks)
                begin = read.after.offsets[0]
                row = [chunk(begin + n, 3000) for n in range(4)]
                it.answer(identity, read, pack_chunks(row))
            await it.until_arrived(8)
            # No more is requested until these chunks have been taken.
            await it.quiet()
            assert it.history._size <= 8 * 3000
            for client in clients[:7]:
                assert it.history.chunk(client, "energy", at(10 * client.number)) is not None
            # Nothing is kept for a client that left or paused.
            it.history.withdraw(clients[7], "energy")
            assert it.history._size == 0
            assert len(await it.requests(4)) == 4

    run(main)
