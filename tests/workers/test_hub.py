"""Requests that cannot be answered at once: topics that are not found yet, a log that is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from energyws.board import Board
from energyws.deflate import shrink
from energyws.frame import TEXT, encode
from energyws.history import Chunk, Query, Start
from energyws.position import Position, start
from energyws.protocol import BadClientMessage, OnLag, Subscribe, Subscribed, Unrecovered
from energyws.replay import Entry
from energyws.settings import History
from workers.hub import MAX_PENDING, Hub

EPOCH = "abcd0123"


def at(*offsets: int, epoch: str = EPOCH) -> Position:
    return start(epoch, offsets)


def ask(*streams: str, **fields: Any) -> Subscribe:
    asked: dict[str, Any] = {"resume": {}, "last": None, "on_lag": OnLag.SKIP, **fields}
    return Subscribe(streams=streams, **asked)


class FakeClient:
    writable = True

    def __init__(self, compressed: bool = False) -> None:
        self.compressed = compressed
        self.on_write: Callable[[], None] | None = None
        self.told: list[dict[str, Subscribed]] = []
        self.frames: list[bytes] = []
        self.gone = False

    @property
    def sink(self) -> FakeClient:
        return self

    def write_nocheck(self, data: bytes) -> None:
        self.write(data)

    def write(self, data: bytes) -> None:
        self.frames.append(data)
        if self.on_write is not None:
            self.on_write()

    def subscribed(self, streams: dict[str, Subscribed]) -> None:
        self.told.append(streams)

    def too_slow(self) -> None:
        self.gone = True

    def unavailable(self) -> None:
        self.gone = True

    def lags(self, stream: str) -> None:
        """Only for the log."""

    def skipped(self, stream: str, frames: int, by_choice: bool) -> None:
        """Only for the log."""


class ScriptedLog:
    """In the place of the hub's Backfill: answers when the test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[Query, Callable[[Start | None], None]]] = []
        self.forgotten: list[str] = []
        self.wanted: list[Position] = []
        self.chunks: dict[Position, Chunk] = {}

    def find(self, query: Query, done: Callable[[Start | None], None]) -> None:
        self.asked.append((query, done))

    def chunk(self, stream: str, position: Position) -> Chunk | None:
        if position not in self.chunks:
            self.wanted.append(position)
        return self.chunks.get(position)

    def forget(self, stream: str) -> None:
        self.forgotten.append(stream)

    def tick(self) -> None:
        pass

    def close(self) -> None:
        pass


def run(test: Callable[[Hub, ScriptedLog, FakeClient], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a hub of the streams a and b; the log of `a` begins before the ring."""

    async def main() -> None:
        board = Board.create()
        row = board.row(0)
        hub = Hub(("a", "b"), History(), Path("/nonexistent"), row, lambda: None)
        hub._backfill.close()
        log = ScriptedLog()
        hub._backfill = log  # type: ignore[assignment]
        await test(hub, log, FakeClient())
        hub.close()

    asyncio.run(asyncio.wait_for(main(), 20))


async def turns(hub: Hub) -> None:
    """Wait until there is nothing left to do."""
    while hub._scheduled or hub._resting is not None:
        await asyncio.sleep(0)


def found(hub: Hub, *streams: str) -> None:
    """The topics of these streams are found; the ring of each begins at offset 5."""
    for name in streams:
        hub.begin(name, at(5))
        hub.append(name, Entry(0, 5, 0, b"frame"))
    hub.synced()


def test_request_waits_until_all_its_topics_are_found() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        assert not hub.subscribe(client, ask("a", "b"))
        found(hub, "a")
        assert client.told == []
        found(hub, "b")
        assert [list(told) for told in client.told] == [["a", "b"]]

    run(test)


def test_unsubscribing_from_one_of_those_that_wait_leaves_the_others() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        hub.subscribe(client, ask("a", "b", resume={"a": f"{EPOCH}-5", "b": f"{EPOCH}-5"}))
        hub.subscribe(client, ask("a"))
        hub.unsubscribe(client, ("a",))
        found(hub, "a", "b")
        assert [list(told) for told in client.told] == [["b"]]

    run(test)


def test_the_log_is_asked_what_the_ring_lacks_and_requests_stay_in_order() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a", "b")
        assert hub.subscribe(client, ask("a", "b", resume={"a": f"{EPOCH}-2"}))
        hub.subscribe(client, ask("b"))
        ((query, done),) = log.asked
        assert query == Query("a", EPOCH, after=at(2))
        assert client.told == []
        done(Start(at(3), at(3), Unrecovered.RETENTION, (1,)))
        first, second = client.told
        assert (first["a"].position, first["a"].missing) == (f"{EPOCH}-3", (1,))
        assert list(second) == ["b"]

    run(test)


def test_answer_for_a_client_that_has_left_is_dropped() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        hub.subscribe(client, ask("a", resume={"a": f"{EPOCH}-2"}))
        hub.leave(client)
        hub.subscribe(client, ask("a"))
        log.asked[0][1](Start(at(2), at(0)))
        assert [told["a"].recovered for told in client.told] == [None]

    run(test)


def test_client_whose_question_has_no_answer_is_sent_away() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        hub.subscribe(client, ask("a", resume={"a": f"{EPOCH}-2"}))
        log.asked[0][1](None)
        assert client.gone

    run(test)


def test_question_is_asked_anew_when_the_topic_was_made_anew() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        hub.subscribe(client, ask("a", resume={"a": f"{EPOCH}-2"}))
        hub.begin("a", at(3, epoch="beef"))
        hub.synced()
        assert log.forgotten == ["a"]
        (query, done) = log.asked[1]
        assert query == Query("a", "beef", after=at(0, epoch="beef"))
        done(Start(at(1, epoch="beef"), at(1, epoch="beef"), Unrecovered.RETENTION, (1,)))
        (told,) = client.told
        assert told["a"].reason is Unrecovered.EPOCH_CHANGED
        assert told["a"].position == "beef-1"

    run(test)


def test_client_that_asks_and_asks_is_told_to_wait() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        for _ in range(MAX_PENDING):
            hub.subscribe(client, ask("a"))
        with pytest.raises(BadClientMessage, match="wait for their answers"):
            hub.subscribe(client, ask("a"))

    run(test)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0)


@pytest.fixture
def long_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.hub.REST_SHARE", 1e9)


@pytest.mark.usefixtures("long_rests")
def test_frames_that_come_soon_after_a_fan_out_share_the_next_one() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a", "b")
        hub.subscribe(client, ask("a"))
        await until(lambda: client.frames == [b"frame"])
        hub.append("a", Entry(0, 6, 0, b"6"))
        await asyncio.sleep(0)
        hub.append("a", Entry(0, 7, 0, b"7"))
        await until(lambda: len(client.frames) == 2)
        assert client.frames == [b"frame", b"67"]

    run(test)


@pytest.mark.usefixtures("long_rests")
def test_whoever_subscribes_does_not_wait_for_the_end_of_a_rest() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a", "b")
        hub.subscribe(client, ask("a"))
        await until(lambda: client.frames == [b"frame"])
        hub.append("a", Entry(0, 6, 0, b"6"))
        assert hub._resting is not None
        late = FakeClient()
        hub.subscribe(late, ask("a", last=2))
        assert hub._resting is None
        await until(lambda: late.frames == [b"frame6"])

    run(test)


def test_plain_and_compressed_clients_share_a_stream() -> None:
    record = encode(TEXT, b"[" + b"123," * 100 + b"4]")

    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        small = FakeClient(compressed=True)
        found(hub, "a")
        await turns(hub)
        for each in (client, small):
            hub.subscribe(each, ask("a"))
        hub.append("a", Entry(0, 6, 0, record))
        await turns(hub)
        assert client.frames == [record]
        assert small.frames == [shrink(record)]
        hub.leave(small)
        hub.append("a", Entry(0, 7, 0, record))
        await turns(hub)
        assert (len(client.frames), len(small.frames)) == (2, 1)

    run(test)


def test_compressed_clients_follow_a_stream_into_its_new_rings() -> None:
    record = encode(TEXT, b"[" + b"123," * 100 + b"4]")

    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        small = FakeClient(compressed=True)
        found(hub, "a")
        hub.subscribe(small, ask("a"))
        hub.begin("a", at(0, epoch="beef"))
        hub.append("a", Entry(0, 0, 0, record))
        await turns(hub)
        told, first = small.frames
        assert b"EPOCH_CHANGED" in told
        assert first == shrink(record)
        # More was missed than the consumer has: the log is asked for what follows.
        hub.begin("a", at(50, epoch="beef"))
        await turns(hub)
        assert log.wanted == [at(1, epoch="beef")]
        log.chunks[at(1, epoch="beef")] = Chunk(
            at(1, epoch="beef"), at(50, epoch="beef"), 2, record * 2
        )
        hub._on_chunk("a", at(1, epoch="beef"))
        hub.tick()
        await turns(hub)
        assert small.frames[2:] == [shrink(record * 2)]
        hub.append("a", Entry(0, 50, 0, record))
        await turns(hub)
        assert small.frames[3:] == [shrink(record)]

    run(test)
