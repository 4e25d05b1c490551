"""A worker's questions to the log, over a real socket to a scripted consumer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import zmq

from energyws.history import Chunk, Query, Start
from energyws.position import Position, start
from energyws.wire import Read, pack_chunks, pack_inquiry, pack_start, unpack_inquiry
from workers import backfill
from workers.backfill import Backfill

EPOCH = "abcd0123"


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine with a deadline."""
    asyncio.run(asyncio.wait_for(main(), 30))


def at(offset: int) -> Position:
    return start(EPOCH, [offset])


def chunk(begin: int, size: int = 10) -> Chunk:
    return Chunk(at(begin), at(begin + 1), 1, bytes(size))


class Scripted:
    """The consumer's end, and what the worker is told."""

    def __init__(self, directory: Path, concurrent: int) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._directory = directory
        self._listen()
        self.arrived: list[int] = []
        self.failed: list[int] = []
        self.backfill = Backfill(
            directory,
            concurrent,
            lambda stream, position: self.arrived.append(position.offsets[0]),
            lambda stream, position: self.failed.append(position.offsets[0]),
        )

    def _listen(self) -> None:
        self.router = self.context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.LINGER, 0)
        self.router.bind(f"ipc://{self._directory / 'history'}")

    def restart(self) -> None:
        """All that was asked is forgotten."""
        self.router.close()
        self._listen()

    async def asked(self, count: int) -> list[tuple[bytes, Query | Read]]:
        """The next `count` questions, with who asked."""
        found: list[tuple[bytes, Query | Read]] = []
        while len(found) < count:
            try:
                identity, body = self.router.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                await asyncio.sleep(0.005)
                continue
            found.append((identity, unpack_inquiry(body)))
        return found

    async def quiet(self) -> None:
        """Nothing is asked for a while."""
        for _ in range(10):
            await asyncio.sleep(0.005)
            assert not self.router.poll(0)

    def answer(self, identity: bytes, inquiry: Query | Read, parts: list[bytes]) -> None:
        self.router.send_multipart([identity, pack_inquiry(inquiry), *parts])

    async def until_arrived(self, count: int) -> None:
        while len(self.arrived) < count:
            await asyncio.sleep(0.005)

    def close(self) -> None:
        self.backfill.close()
        self.router.close()
        self.context.term()


@asynccontextmanager
async def scripted(directory: Path, concurrent: int = 8) -> AsyncIterator[Scripted]:
    made = Scripted(directory, concurrent)
    try:
        yield made
    finally:
        made.close()


def test_equal_questions_are_asked_once_and_all_are_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with scripted(tmp_path) as it:
            told: list[Start | None] = []
            for _ in range(100):
                it.backfill.find(Query("energy", EPOCH, after=at(5)), told.append)
            ((identity, query),) = await it.asked(1)
            await it.quiet()
            found = Start(at(7), at(7))
            it.answer(identity, query, pack_start(found))
            while len(told) < 100:
                await asyncio.sleep(0.005)
            assert told == [found] * 100

    run(main)


def test_chunks_of_an_answer_are_kept_for_whoever_comes_next(tmp_path: Path) -> None:
    async def main() -> None:
        async with scripted(tmp_path) as it:
            assert it.backfill.chunk("energy", at(1)) is None
            assert it.backfill.chunk("energy", at(1)) is None
            ((identity, read),) = await it.asked(1)
            assert read == Read("energy", at(1))
            it.answer(identity, read, pack_chunks([chunk(1), chunk(2), chunk(3)]))
            await it.until_arrived(1)
            assert it.arrived == [1]
            assert [it.backfill.chunk("energy", at(n)) for n in (1, 2, 3)] == [
                chunk(1),
                chunk(2),
                chunk(3),
            ]
            await it.quiet()

    run(main)


def test_no_more_are_under_way_than_allowed(tmp_path: Path) -> None:
    async def main() -> None:
        async with scripted(tmp_path, concurrent=2) as it:
            for number in range(6):
                it.backfill.chunk("energy", at(number))
            asked = await it.asked(2)
            await it.quiet()
            for number in range(2, 6):
                identity, read = asked.pop(0)
                assert isinstance(read, Read)
                it.answer(identity, read, pack_chunks([chunk(read.after.offsets[0])]))
                asked += await it.asked(1)
                assert asked[-1][1] == Read("energy", at(number))

    run(main)


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "CACHE_BYTES", 2500)

    async def main() -> None:
        async with scripted(tmp_path) as it:
            for number in range(4):
                it.backfill.chunk("energy", at(number))
            for identity, read in await it.asked(4):
                assert isinstance(read, Read)
                begin = read.after.offsets[0]
                it.answer(identity, read, pack_chunks([chunk(begin, 1000)]))
            await it.until_arrived(4)
            kept = [it.backfill.chunk("energy", at(n)) is not None for n in range(4)]
            assert kept == [False, False, True, True]

    run(main)


def test_what_a_consumer_takes_with_it_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "ASK_AGAIN_SECONDS", 0.0)

    async def main() -> None:
        async with scripted(tmp_path) as it:
            it.backfill.chunk("energy", at(1))
            await it.asked(1)
            it.restart()
            # What is sent before it has connected again may be lost as well.
            while not it.router.poll(0):
                it.backfill.tick()
                await asyncio.sleep(0.005)
            identity, read = (await it.asked(1))[0]
            it.answer(identity, read, pack_chunks([chunk(1)]))
            # A second answer to the same question is of no interest.
            it.answer(identity, read, pack_chunks([chunk(1)]))
            await it.until_arrived(1)
            it.backfill.tick()
            await asyncio.sleep(0.05)
            assert it.arrived == [1]

    run(main)


def test_who_waits_too_long_is_told_and_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "GIVE_UP_SECONDS", 0.0)

    async def main() -> None:
        async with scripted(tmp_path, concurrent=1) as it:
            told: list[Start | None] = []
            it.backfill.find(Query("energy", EPOCH, last=5), told.append)
            it.backfill.chunk("energy", at(1))
            it.backfill.tick()
            assert told == [None]
            # The next in the queue has been asked by now, and its time begins.
            it.backfill.tick()
            assert it.failed == [1]
            assert [inquiry for _, inquiry in await it.asked(2)] == [
                Query("energy", EPOCH, last=5),
                Read("energy", at(1)),
            ]

    run(main)


def test_another_epoch_makes_all_questions_void(tmp_path: Path) -> None:
    async def main() -> None:
        async with scripted(tmp_path, concurrent=1) as it:
            told: list[Start | None] = []
            it.backfill.find(Query("energy", EPOCH, after=at(5)), told.append)
            it.backfill.chunk("energy", at(1))
            it.backfill.chunk("water", at(1))
            it.backfill.forget("energy")
            asked = await it.asked(2)
            assert asked[1][1] == Read("water", at(1))
            it.answer(*asked[0], pack_start(Start(at(5), at(5))))
            it.answer(*asked[1], pack_chunks([chunk(1)]))
            await it.until_arrived(1)
            assert told == []

    run(main)
