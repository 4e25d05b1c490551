"""A worker's requests for snapshots, against a consumer that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.asyncio

from energyws.protocol.frame import DataFrames
from energyws.protocol.keys import KeyFilter
from energyws.protocol.position import parse
from energyws.stream.snapshot_messages import (
    FindValues,
    Found,
    NotNow,
    OtherTable,
    ScanValues,
    Slice,
    SnapshotAnswer,
    SnapshotRequest,
    TableState,
    pack_answer,
    unpack_request,
)
from workers.websocket.snapshots import client as module
from workers.websocket.snapshots.client import Scan, Snapshot, SnapshotClient, Step

FRAMES = DataFrames("energy")
STATE = TableState(parse("ab-7"), True, None, 9, "t1", 20)


class Consumer:
    """What the worker asks, and the answers of the test."""

    def __init__(self, directory: Path) -> None:
        self._context = zmq.asyncio.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.bind(f"ipc://{directory}/snapshots")
        self._identity = b""
        self.subjects: set[bytes] = set()

    async def asked(self) -> SnapshotRequest:
        self._identity, *parts = await self._router.recv_multipart()
        request = unpack_request(parts)
        rule, *subjects = parts[3:]
        assert rule == b'"record"'
        assert len(subjects) == isinstance(request, ScanValues)
        self.subjects |= {*subjects}
        return request

    async def answer(self, ask: int, answer: SnapshotAnswer) -> None:
        await self._router.send_multipart([self._identity, *pack_answer(ask, answer)])

    async def nothing_more(self) -> bool:
        """Whether no request has come, after those that have."""
        return not await self._router.poll(50)

    def close(self) -> None:
        self._router.close(0)
        self._context.term()


def talk(
    directory: Path,
    main: Callable[[SnapshotClient, Consumer], Coroutine[Any, Any, None]],
    wait_seconds: float = 5.0,
) -> None:
    async def run() -> None:
        consumer = Consumer(directory)
        client = SnapshotClient(directory, {"energy": wait_seconds}, {"energy": "record"})
        try:
            async with asyncio.timeout(20):
                await main(client, consumer)
        finally:
            client.close()
            consumer.close()

    asyncio.run(run())


def exact(*keys: bytes) -> KeyFilter:
    return KeyFilter(frozenset(keys))


def frame(key: bytes) -> bytes:
    return FRAMES.snapshot(key, 1_000, b"{}")


def found(request: SnapshotRequest, *missing: bytes) -> Found:
    assert isinstance(request, FindValues)
    return Found(STATE, [b"" if key in missing else frame(key) for key in request.keys])


class Wish:
    """A client's wish, and what it got."""

    def __init__(self, client: SnapshotClient, keys: KeyFilter | None) -> None:
        self._future: asyncio.Future[Snapshot | None] = asyncio.get_running_loop().create_future()
        client.find("energy", keys, "tester", self._future.set_result)

    async def snapshot(self) -> Snapshot:
        snapshot = await self._future
        assert snapshot is not None
        return snapshot

    async def failed(self) -> bool:
        return await self._future is None


def test_wishes_of_a_turn_are_one_request_and_each_gets_its_own(tmp_path: Path) -> None:
    async def main(client: SnapshotClient, consumer: Consumer) -> None:
        wishes = [Wish(client, exact(b"a", b"b")), Wish(client, exact(b"b", b"c"))]
        request = await consumer.asked()
        assert isinstance(request, FindValues)
        assert request.patient
        assert sorted(request.keys) == [b"a", b"b", b"c"]
        await consumer.answer(request.ask, found(request, b"c"))
        first, second = [await each.snapshot() for each in wishes]
        assert (first.keys, first.data) == (2, frame(b"a") + frame(b"b"))
        assert (second.keys, second.data) == (1, frame(b"b"))
        assert first.state == second.state == STATE
        assert await consumer.nothing_more()

    talk(tmp_path, main)


def test_keys_of_one_client_are_never_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEYS_PER_REQUEST", 3)

    async def main(client: SnapshotClient, consumer: Consumer) -> None:
        wishes = [Wish(client, exact(*(b"%d%d" % (n, m) for m in range(2)))) for n in range(3)]
        wishes.append(Wish(client, exact(*(b"x%d" % n for n in range(5)))))
        for size in (2, 2, 2, 5):
            request = await consumer.asked()
            assert isinstance(request, FindValues)
            assert len(request.keys) == size
            await consumer.answer(request.ask, found(request))
        assert [(await each.snapshot()).keys for each in wishes] == [2, 2, 2, 5]

    talk(tmp_path, main)


def test_it_asks_again_until_the_table_is_warm_and_then_takes_what_there_is(
    tmp_path: Path,
) -> None:
    async def main(client: SnapshotClient, consumer: Consumer) -> None:
        wish = Wish(client, exact(b"a"))
        request = await consumer.asked()
        while request.patient:
            await consumer.answer(request.ask, NotNow())
            request = await consumer.asked()
        await consumer.answer(request.ask, found(request))
        assert (await wish.snapshot()).keys == 1
        # A second answer is no news.
        await consumer.answer(request.ask, found(request))
        assert await consumer.nothing_more()

    talk(tmp_path, main, wait_seconds=0.6)


def test_request_without_an_answer_is_sent_again_and_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEND_AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(module, "GIVE_UP_SECONDS", 0.8)

    async def main(client: SnapshotClient, consumer: Consumer) -> None:
        wish = Wish(client, exact(b"a"))
        assert await consumer.asked() == await consumer.asked()
        assert await wish.failed()

    talk(tmp_path, main, wait_seconds=0.0)


def test_scan_goes_on_step_by_step_and_is_shared(tmp_path: Path) -> None:
    async def main(client: SnapshotClient, consumer: Consumer) -> None:
        keys = KeyFilter(frozenset(), (b"a",))
        wishes = [Wish(client, keys), Wish(client, keys)]
        request = await consumer.asked()
        assert request == ScanValues(request.ask, "energy", True, keys)
        await consumer.answer(request.ask, Slice(STATE, 1, frame(b"a1"), 40))
        first, second = [await each.snapshot() for each in wishes]
        assert first == second
        assert (first.keys, first.data) == (None, frame(b"a1"))
        assert first.scan == Scan("energy", keys, STATE, 40)
        # Somebody who comes a little later joins them.
        assert await Wish(client, keys).snapshot() == first

        steps = [asyncio.get_running_loop().create_future() for _ in range(2)]
        for each in steps:
            assert client.step(first.scan, "tester", each.set_result) is None
        request = await consumer.asked()
        assert request == ScanValues(request.ask, "energy", False, keys, 40, "t1", 20)
        await consumer.answer(request.ask, Slice(STATE, 2, frame(b"a2") + frame(b"a3"), None))
        step = await steps[0]
        assert step == await steps[1] == Step(2, frame(b"a2") + frame(b"a3"), None, STATE)
        assert client.step(first.scan, "tester", lambda step: None) == step
        assert await consumer.nothing_more()

    talk(tmp_path, main)


def test_snapshot_of_everything_knows_how_many_keys_it_has(tmp_path: Path) -> None:
    async def main(client: SnapshotClient, consumer: Consumer) -> None:
        wish = Wish(client, None)
        request = await consumer.asked()
        await consumer.answer(request.ask, Slice(STATE, 1, frame(b"a"), 7))
        assert (await wish.snapshot()).keys == STATE.keys

    talk(tmp_path, main)


def test_scan_of_a_table_that_is_gone_fails(tmp_path: Path) -> None:
    async def main(client: SnapshotClient, consumer: Consumer) -> None:
        step: asyncio.Future[Step | None] = asyncio.get_running_loop().create_future()
        assert client.step(Scan("energy", None, STATE, 3), "tester", step.set_result) is None
        request = await consumer.asked()
        await consumer.answer(request.ask, OtherTable())
        assert await step is None

    talk(tmp_path, main)


def test_steps_are_kept_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_BYTES", 2 * len(frame(b"a")))

    async def main(client: SnapshotClient, consumer: Consumer) -> None:
        scans = [Scan("energy", None, STATE, slot) for slot in range(3)]
        for scan in scans:
            future = asyncio.get_running_loop().create_future()
            client.step(scan, "tester", future.set_result)
            request = await consumer.asked()
            await consumer.answer(request.ask, Slice(STATE, 1, frame(b"a"), None))
            await future
        kept = [client.step(scan, "tester", lambda step: None) is not None for scan in scans]
        assert kept == [False, True, True]

    talk(tmp_path, main)
