"""The consumer's answers about its tables of last values, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest
import zmq
import zmq.asyncio

from energyws.process.board import Board
from energyws.protocol.frame import split
from energyws.protocol.keys import KeyFilter
from energyws.settings import History, Kafka, Settings, Snapshot, Stream
from energyws.stream.snapshot_messages import (
    FindValues,
    Found,
    NotNow,
    OtherTable,
    ScanValues,
    Slice,
    SnapshotAnswer,
    SnapshotRequest,
    pack_request,
    unpack_answer,
)
from energyws.testing import until
from workers.consumer.events import Record, TopicFound, WarmedUp
from workers.consumer.intake import Intake
from workers.consumer.snapshot import server as module
from workers.consumer.snapshot.server import SnapshotServer

EPOCH = "abcd0123"
SETTINGS = Settings(
    kafka=Kafka(brokers="x"),
    streams={"energy": Stream(topic="t", key="record", snapshot=Snapshot(enabled=True))},
    history=History(),
)
RULES = {"energy": "record"}
WARM = WarmedUp(None, (), 0, 0.1)

Ask = Callable[[SnapshotRequest], Coroutine[Any, Any, SnapshotAnswer]]


class Bus:
    def publish(self, stream: str, entry: object) -> None:
        pass

    def head_moved(self) -> None:
        pass


def intake(settings: Settings = SETTINGS) -> Intake:
    found = TopicFound("energy", EPOCH, (0,), (0,))
    made = Intake("energy", found, EPOCH, settings, Board.create().row(0), Bus())  # type: ignore[arg-type]
    made.settle()
    return made


def record(offset: int, key: str, value: bytes | None = b"{}") -> Record:
    return Record("energy", 0, offset, 1_000, value, key.encode())


def messages(frames: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(payload) for _, payload in split(frames)]


def serve(
    directory: Path,
    intakes: dict[str, Intake],
    talk: Callable[[Ask], Coroutine[Any, Any, None]],
    rate: int = 1 << 30,
) -> None:
    async def main() -> None:
        server = SnapshotServer(directory, intakes, rate, RULES)
        context = zmq.asyncio.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.connect(f"ipc://{directory}/snapshots")

        async def ask(request: SnapshotRequest) -> SnapshotAnswer:
            await dealer.send_multipart(pack_request(request))
            number, answer = unpack_answer(await dealer.recv_multipart())
            assert number == request.ask
            return answer

        try:
            async with asyncio.timeout(20):
                await talk(ask)
        finally:
            dealer.close(0)
            context.term()
            server.close()

    asyncio.run(main())


def test_values_are_those_before_the_position(tmp_path: Path) -> None:
    taken = intake()
    for each in (
        record(0, "a", b'{"n":0}'),
        record(1, "b", b'{"n":1}'),
        record(2, "a", b'{"n":2}'),
        record(3, "c"),
        record(4, "c", None),
    ):
        taken.take(each)
    taken.warmed_up(WARM)

    async def talk(ask: Ask) -> None:
        found = await ask(FindValues(7, "energy", True, (b"a", b"none", b"b", b"c")))
        assert isinstance(found, Found)
        assert str(found.state.position) == f"{EPOCH}-5"
        assert (found.state.complete, found.state.since_ms, found.state.keys) == (True, None, 2)
        assert [messages(frame) for frame in found.frames] == [
            [
                {
                    "type": "snapshot",
                    "stream": "energy",
                    "key": key,
                    "timestamp": "1970-01-01T00:00:01.000Z",
                    "data": {"n": number},
                }
            ]
            if number
            else []
            for key, number in (("a", 2), ("none", None), ("b", 1), ("c", None))
        ]

    serve(tmp_path, {"energy": taken}, talk)


def test_patient_worker_waits_until_the_table_is_warm(tmp_path: Path) -> None:
    taken = intake()
    taken.take(record(0, "a"))
    intakes = dict[str, Intake]()

    async def talk(ask: Ask) -> None:
        assert await ask(FindValues(1, "energy", False, (b"a",))) == NotNow()
        intakes["energy"] = taken
        assert await ask(FindValues(2, "energy", True, (b"a",))) == NotNow()
        found = await ask(FindValues(3, "energy", False, (b"a",)))
        assert isinstance(found, Found)
        assert not found.state.complete
        taken.warmed_up(WARM)
        found = await ask(FindValues(4, "energy", True, (b"a",)))
        assert isinstance(found, Found)
        assert found.state.complete
        without = Settings(kafka=Kafka(brokers="x"), streams={"energy": Stream(topic="t")})
        intakes["energy"] = intake(without)
        # A worker with other settings must not keep its clients waiting for nothing.
        assert await ask(FindValues(5, "energy", True, (b"a",))) == NotNow()
        found = await ask(FindValues(6, "energy", False, (b"a",)))
        assert isinstance(found, Found)
        assert (found.frames, found.state.complete, found.state.keys) == ([b""], False, 0)

    serve(tmp_path, intakes, talk)


def test_worker_with_another_key_rule_gets_no_answer(tmp_path: Path) -> None:
    taken = intake()
    taken.take(record(0, "a"))
    taken.warmed_up(WARM)

    async def main() -> None:
        server = SnapshotServer(tmp_path, {"energy": taken}, 1 << 30, RULES)
        with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.setsockopt(zmq.LINGER, 0)
            dealer.connect(f"ipc://{tmp_path}/snapshots")
            for number, rule in enumerate([b'"/meter"', b"null", b'"record"']):
                request = FindValues(number, "energy", False, (b"a",))
                await dealer.send_multipart([*pack_request(request), rule])
            assert unpack_answer(await dealer.recv_multipart())[0] == 2
        server.close()

    asyncio.run(asyncio.wait_for(main(), 20))


@pytest.mark.parametrize("keys", [None, KeyFilter(frozenset({b"k7"}), (b"k1",))])
def test_scan_goes_on_from_where_it_began(
    tmp_path: Path, keys: KeyFilter | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOTS_PER_STEP", 7)
    taken = intake()
    for offset in range(40):
        taken.take(record(offset, f"k{offset}", b'{"n":%d}' % offset))
    taken.warmed_up(WARM)
    intakes = {"energy": taken}

    async def talk(ask: Ask) -> None:
        step = await ask(ScanValues(1, "energy", True, keys))
        assert isinstance(step, Slice)
        state, numbers = step.state, list[int]()
        offset = 40
        while True:
            assert isinstance(step, Slice)
            assert step.frames == len(messages(step.data))
            numbers += [each["data"]["n"] for each in messages(step.data)]
            if step.next_slot is None:
                break
            # What changes meanwhile comes live, after the position of the first step.
            taken.take(record(offset, f"k{offset - 10}"))
            offset += 1
            step = await ask(
                ScanValues(2, "energy", True, keys, step.next_slot, state.table, state.changes)
            )
        assert str(state.position) == f"{EPOCH}-40"
        wanted = [n for n in range(40) if keys is None or keys.admits(b"k%d" % n)]
        changed = {n - 10 for n in range(40, offset)}
        assert not {30, 31, 32, 33} & {*numbers}
        assert {*numbers} | (changed & {*wanted}) == {*wanted}
        assert len(numbers) == len({*numbers})

        intakes["energy"] = intake()
        request = ScanValues(3, "energy", False, keys, 7, state.table, state.changes)
        assert await ask(request) == OtherTable()

    serve(tmp_path, intakes, talk)


def test_request_that_is_sent_again_while_it_waits_is_answered_once(tmp_path: Path) -> None:
    taken = intake()
    taken.take(record(0, "a", orjson.dumps({"x": "x" * 1_000})))
    taken.warmed_up(WARM)

    async def main() -> None:
        server = SnapshotServer(tmp_path, {"energy": taken}, 10_000, RULES)
        with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.setsockopt(zmq.LINGER, 0)
            dealer.connect(f"ipc://{tmp_path}/snapshots")
            # The first one is answered at once, and the second has to wait for its turn.
            for number in (1, 2, 2, 2, 3):
                await dealer.send_multipart(pack_request(ScanValues(number, "energy", True, None)))
            answered = [unpack_answer(await dealer.recv_multipart())[0] for _ in range(3)]
            assert answered == [1, 2, 3]
        server.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def test_scans_are_paced_and_delay_no_finds(tmp_path: Path) -> None:
    taken = intake()
    taken.take(record(0, "a", orjson.dumps({"x": "x" * 1_000})))
    taken.warmed_up(WARM)

    async def talk(ask: Ask) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(4):
            await ask(ScanValues(number, "energy", True, None))
            await ask(FindValues(number, "energy", True, (b"a",)))
        # Each of the first three must be paid for.
        assert loop.time() - began >= 3 * 1_000 / 10_000

    serve(tmp_path, {"energy": taken}, talk, rate=10_000)


def test_subjects_take_turns_with_scans_and_exact_keys_come_first(tmp_path: Path) -> None:
    taken = intake()
    for number in range(20):
        taken.take(record(number, f"a{number}", orjson.dumps({"x": "x" * 40_000})))
    taken.take(record(20, "b", b"{}"))
    taken.warmed_up(WARM)
    everything, few = None, KeyFilter(frozenset(), (b"b",))

    async def main() -> None:
        # The first answer takes the rate of hours: all others wait.
        server = SnapshotServer(tmp_path, {"energy": taken}, 1, RULES)
        with zmq.asyncio.Context() as context, context.socket(zmq.DEALER) as dealer:
            dealer.setsockopt(zmq.LINGER, 0)
            dealer.connect(f"ipc://{tmp_path}/snapshots")

            async def ask(number: int, subject: bytes, keys: KeyFilter | None) -> None:
                parts = pack_request(ScanValues(number, "energy", True, keys))
                await dealer.send_multipart([*parts, b'"record"', subject])

            async def answered() -> int:
                return unpack_answer(await dealer.recv_multipart())[0]

            await ask(0, b"big", everything)
            assert await answered() == 0
            for number in range(1, 5):
                await ask(number, b"big", everything)
            await ask(5, b"small", few)
            await ask(6, b"small", few)
            await ask(7, b"other", everything)
            await until(lambda: len(server._scans) == 7)
            server._bytes_per_second, server._scan_at = 1 << 40, 0.0
            # A request for an exact key wakes it.
            find = FindValues(8, "energy", True, (b"b",))
            assert server._handle is not None
            server._handle.cancel()
            server._handle = None
            await dealer.send_multipart([*pack_request(find), b'"record"'])
            order = [await answered() for _ in range(8)]
        server.close()
        # Those who have had nothing yet come first, and who asked for little once more.
        assert order == [8, 5, 7, 6, 1, 2, 3, 4]

    asyncio.run(asyncio.wait_for(main(), 20))


def test_a_request_that_is_sent_again_while_it_waits_is_answered_once(tmp_path: Path) -> None:
    taken = intake()
    taken.take(record(0, "a", b'{"n":0}'))
    taken.warmed_up(WARM)

    async def main() -> None:
        # The first scan takes the rate of 0.2 seconds; the others wait meanwhile.
        server = SnapshotServer(tmp_path, {"energy": taken}, 1_000, RULES)
        context = zmq.asyncio.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.connect(f"ipc://{tmp_path}/snapshots")
        try:
            async with asyncio.timeout(20):
                for number in (1, 2, 2, 2, 3):
                    await dealer.send_multipart(
                        pack_request(ScanValues(number, "energy", True, None))
                    )
                answered = [unpack_answer(await dealer.recv_multipart())[0] for _ in range(3)]
        finally:
            dealer.close(0)
            context.term()
            server.close()
        assert answered == [1, 2, 3]

    asyncio.run(main())
