"""Subscribe requests that wait: for their topics, for the log, or for the rate limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from energyws.process.board import Board
from energyws.protocol.deflate import compress
from energyws.protocol.forms import Form
from energyws.protocol.frame import TEXT, encode
from energyws.protocol.messages import BadClientMessage, OnLag, Subscribe, Subscribed, Unrecovered
from energyws.protocol.position import Position, from_offsets
from energyws.settings import History
from energyws.stream.fair_queue import QueueFull
from energyws.stream.history import Chunk, FindStart, StartPoint
from energyws.stream.ring import Entry
from energyws.testing import until
from tests.workers.websocket.fanout.one_stream import FRAMES, messages
from workers.websocket.fanout import requests
from workers.websocket.fanout.history_client import ChunkListener
from workers.websocket.fanout.hub import Hub
from workers.websocket.fanout.requests import MAX_TEXT
from workers.websocket.fanout.subscription import FanoutClient

EPOCH = "abcd0123"
# The first one in the ring of each stream.
FRAME = FRAMES.build(0, b"{}", f"{EPOCH}-6")


def at(*offsets: int, epoch: str = EPOCH) -> Position:
    return from_offsets(epoch, offsets)


def subscribe(*streams: str, **fields: Any) -> Subscribe:
    complete: dict[str, Any] = {"resume": {}, "last": None, "on_lag": OnLag.SKIP, **fields}
    return Subscribe(streams=streams, **complete)


class FakeClient:
    writable = True

    def __init__(self, form: Form = Form.PLAIN) -> None:
        self.form = form
        self.on_write: Callable[[], None] | None = None
        self.replies: list[dict[str, Subscribed]] = []
        self.frames: list[bytes] = []
        self.gone = False
        self.subject = "tester"

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
        self.replies.append(streams)

    def too_slow(self) -> None:
        self.gone = True

    def history_unavailable(self) -> None:
        self.gone = True

    def lagging(self, stream: str) -> None:
        """Only logged."""

    def skipped(self, stream: str, frames: int, by_choice: bool) -> None:
        """Only logged."""


class ScriptedLog:
    """A history client with replies from the test."""

    def __init__(self) -> None:
        self.requests: list[tuple[FindStart, Callable[[StartPoint | None], None]]] = []
        self.forgotten: list[str] = []
        self.wanted: list[Position] = []
        self.chunks: dict[Position, Chunk] = {}
        self.withdrawn: list[str] = []
        self.waiting = 0
        self.full = False

    def listen(self, listener: ChunkListener) -> None:
        """Tests call the hub directly instead."""

    def find(
        self,
        requester: FanoutClient,
        request: FindStart,
        done: Callable[[StartPoint | None], None],
    ) -> None:
        if self.full:
            raise QueueFull("no room")
        self.requests.append((request, done))

    def withdraw(self, requester: FanoutClient, stream: str) -> None:
        self.withdrawn.append(stream)

    def chunk(self, requester: FanoutClient, stream: str, position: Position) -> Chunk | None:
        if position not in self.chunks:
            self.wanted.append(position)
        return self.chunks.get(position)

    def forget(self, stream: str) -> None:
        self.forgotten.append(stream)

    def tick(self) -> None:
        pass


def run(test: Callable[[Hub, ScriptedLog, FakeClient], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a hub of the streams a and b; the log of `a` begins before the ring."""

    async def main() -> None:
        board = Board.create()
        row = board.row(0)
        log = ScriptedLog()
        hub = Hub(("a", "b"), History(), log, row, lambda: None)
        await test(hub, log, FakeClient())
        hub.close()

    asyncio.run(asyncio.wait_for(main(), 20))


async def turns(hub: Hub) -> None:
    """Wait until no turn is scheduled."""
    while not hub.turns.idle:
        await asyncio.sleep(0)


def found(hub: Hub, *streams: str) -> None:
    """The topics of these streams are found; the ring of each begins at offset 5."""
    for name in streams:
        hub.set_floor(name, at(5))
        hub.append(name, Entry(0, 5, 0, FRAME))
    hub.synced()


def test_request_waits_until_all_its_topics_are_found() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        assert not hub.subscribe(client, subscribe("a", "b"))
        found(hub, "a")
        assert client.replies == []
        found(hub, "b")
        assert [list(reply) for reply in client.replies] == [["a", "b"]]

    run(test)


def test_unsubscribe_removes_one_of_several_waiting_streams() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        hub.subscribe(client, subscribe("a", "b", resume={"a": f"{EPOCH}-5", "b": f"{EPOCH}-5"}))
        hub.subscribe(client, subscribe("a"))
        hub.unsubscribe(client, ("a",))
        found(hub, "a", "b")
        assert [list(reply) for reply in client.replies] == [["b"]]

    run(test)


def test_history_request_is_sent_for_older_records_and_requests_stay_in_order() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a", "b")
        assert hub.subscribe(client, subscribe("a", "b", resume={"a": f"{EPOCH}-2"}))
        hub.subscribe(client, subscribe("b"))
        ((request, done),) = log.requests
        assert request == FindStart("a", EPOCH, after=at(2))
        assert client.replies == []
        done(StartPoint(at(3), at(3), Unrecovered.RETENTION, (1,)))
        first, second = client.replies
        assert (first["a"].position, first["a"].missing) == (f"{EPOCH}-3", (1,))
        assert list(second) == ["b"]

    run(test)


def test_reply_for_a_client_that_has_left_is_dropped() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-2"}))
        hub.leave(client)
        hub.subscribe(client, subscribe("a"))
        log.requests[0][1](StartPoint(at(2), at(0)))
        assert [reply["a"].recovered for reply in client.replies] == [None]

    run(test)


def test_client_is_closed_when_its_history_request_fails() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-2"}))
        log.requests[0][1](None)
        assert client.gone

    run(test)


def test_history_request_is_repeated_when_the_topic_is_recreated() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-2"}))
        hub.set_floor("a", at(3, epoch="beef"))
        hub.synced()
        assert log.forgotten == ["a"]
        (request, done) = log.requests[1]
        assert request == FindStart("a", "beef", after=at(0, epoch="beef"))
        done(StartPoint(at(1, epoch="beef"), at(1, epoch="beef"), Unrecovered.RETENTION, (1,)))
        (reply,) = client.replies
        assert reply["a"].reason is Unrecovered.EPOCH_CHANGED
        assert reply["a"].position == "beef-1"

    run(test)


def test_newer_request_replaces_the_older_one_for_the_same_streams() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        for offset in range(1000):
            hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-{offset}"}))
        found(hub, "a")
        hub.subscribe(client, subscribe("a", "b", resume={"a": f"{EPOCH}-2"}))
        hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-3"}))
        found(hub, "b")
        # Of the first two requests, only `b` is left.
        assert [list(reply) for reply in client.replies] == [["a"], ["b"]]
        assert (client.replies[0]["a"].position, len(log.requests)) == (f"{EPOCH}-999", 1)
        log.requests[0][1](StartPoint(at(3), at(3)))
        assert client.replies[2]["a"].position == f"{EPOCH}-3"

    run(test)


def test_positions_of_pending_requests_are_bounded() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        hub.subscribe(client, subscribe("a", resume={"a": "0" * MAX_TEXT}))
        with pytest.raises(BadClientMessage, match="wait for their answers"):
            hub.subscribe(client, subscribe("b", resume={"b": "0"}))
        found(hub, "a", "b")
        assert [reply["a"].reason for reply in client.replies] == [Unrecovered.BAD_POSITION]

    run(test)


@pytest.mark.parametrize("how", ["leave", "unsubscribe", "subscribe"])
def test_history_request_is_withdrawn(how: str) -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-2"}))
        log.withdrawn.clear()
        if how == "leave":
            hub.leave(client)
        elif how == "unsubscribe":
            hub.unsubscribe(client, ("a",))
        else:
            hub.subscribe(client, subscribe("a"))
        assert log.withdrawn == ["a"]

    run(test)


def test_repeated_requests_are_rate_limited_and_the_last_one_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests, "SECONDS_PER_REQUEST", 0.05)

    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        for offset in (0, 1, 2, 3) * 10:
            hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-{offset}"}))
            hub.unsubscribe(client, ("a",))
        assert len(log.requests) == requests.BURST_OF_REQUESTS
        hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-4"}))
        assert len(log.requests) == requests.BURST_OF_REQUESTS
        while len(log.requests) == requests.BURST_OF_REQUESTS:
            await asyncio.sleep(0)
        request, done = log.requests[-1]
        assert request.after == at(4)
        done(StartPoint(at(4), at(0)))
        (reply,) = client.replies
        assert reply["a"].recovered

    run(test)


def test_live_stream_continues_beside_a_rate_limited_one() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a", "b")
        hub.subscribe(client, subscribe("b"))
        await turns(hub)
        for offset in (0, 1, 2, 3, 4):
            hub.subscribe(client, subscribe("a", "b", resume={"a": f"{EPOCH}-{offset}"}))
        assert client in hub._limited
        client.frames.clear()
        hub.append("b", Entry(0, 6, 0, b"live"))
        await turns(hub)
        assert client.frames == [b"live"]

    run(test)


def test_rate_limited_request_ends_with_its_client() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        for offset in range(requests.BURST_OF_REQUESTS + 1):
            hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-{offset}"}))
        assert client in hub._limited
        hub.leave(client)
        assert hub._limited == {}

    run(test)


def test_client_is_closed_when_the_history_queue_is_full() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        log.full = True
        hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-2"}))
        assert client.gone

    run(test)


@pytest.mark.parametrize("form", [Form.PLAIN, Form.DEFLATE])
def test_plain_subscribe_that_waited_for_its_topic_gets_no_old_records(form: Form) -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        client.form = form
        hub.subscribe(client, subscribe("a"))
        hub.set_floor("a", at(0))
        for offset in range(60):
            hub.append("a", Entry(0, offset, 0, b"old"))
        # The rest of the consumer's records comes later, so this client is early, too.
        early = FakeClient(form)
        hub.subscribe(early, subscribe("a"))
        for offset in range(60, 90):
            hub.append("a", Entry(0, offset, 0, b"old"))
        hub.synced()
        late = FakeClient(form)
        hub.subscribe(late, subscribe("a"))
        hub.append("a", Entry(0, 90, 0, b"new"))
        await until(lambda: bool(client.frames and early.frames and late.frames))
        await turns(hub)
        for each in (client, early, late):
            assert [reply["a"].position for reply in each.replies] == [f"{EPOCH}-90"]
            assert each.frames == [b"new"]

    run(test)


def test_plain_subscribe_after_the_topic_was_recreated_gets_no_old_records() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        here = FakeClient()
        hub.subscribe(here, subscribe("a"))
        hub.set_floor("a", at(0, epoch="beef"))
        hub.subscribe(client, subscribe("a"))
        for offset in range(3):
            hub.append("a", Entry(0, offset, 0, b"old"))
        hub.synced()
        await until(lambda: len(here.frames) > 1)
        hub.append("a", Entry(0, 3, 0, b"new"))
        await until(lambda: bool(client.frames))
        await turns(hub)
        # For a client that subscribed before, all records of the new topic are new.
        assert b"".join(here.frames).endswith(b"oldoldoldnew")
        assert [reply["a"].position for reply in client.replies] == ["beef-3"]
        assert client.frames == [b"new"]

    run(test)


def test_plain_subscribe_begins_after_records_still_to_be_fanned_out() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        here = FakeClient()
        hub.subscribe(here, subscribe("a"))
        await turns(hub)
        hub.append("a", Entry(0, 6, 0, b"6"))
        hub.subscribe(client, subscribe("a"))
        hub.append("a", Entry(0, 7, 0, b"7"))
        await turns(hub)
        hub.append("a", Entry(0, 8, 0, b"8"))
        await turns(hub)
        assert [reply["a"].position for reply in client.replies] == [f"{EPOCH}-7"]
        assert (b"".join(here.frames), b"".join(client.frames)) == (b"678", b"78")

    run(test)


@pytest.fixture
def long_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.websocket.fanout.turns.REST_SHARE", 1e9)
    # Longer than a busy machine keeps the test waiting.
    monkeypatch.setattr("workers.websocket.fanout.turns.MAX_REST_SECONDS", 0.5)


@pytest.mark.usefixtures("long_rests")
def test_frames_soon_after_a_fan_out_share_the_next_one() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a", "b")
        hub.subscribe(client, subscribe("a", last=1))
        await until(lambda: client.frames == [FRAME])
        hub.append("a", Entry(0, 6, 0, b"6"))
        await asyncio.sleep(0)
        hub.append("a", Entry(0, 7, 0, b"7"))
        await until(lambda: len(client.frames) == 2)
        assert client.frames == [FRAME, b"67"]

    run(test)


@pytest.mark.usefixtures("long_rests")
def test_subscribe_ends_a_rest() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a", "b")
        hub.subscribe(client, subscribe("a", last=1))
        await until(lambda: client.frames == [FRAME])
        hub.append("a", Entry(0, 6, 0, b"6"))
        assert hub.turns.resting
        late = FakeClient()
        hub.subscribe(late, subscribe("a", last=2))
        assert not hub.turns.resting
        await until(lambda: late.frames == [FRAME + b"6"])

    run(test)


def test_plain_and_compressed_clients_share_a_stream() -> None:
    record = encode(TEXT, b"[" + b"123," * 100 + b"4]")

    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        small = FakeClient(Form.DEFLATE)
        found(hub, "a")
        await turns(hub)
        for each in (client, small):
            hub.subscribe(each, subscribe("a"))
        hub.append("a", Entry(0, 6, 0, record))
        await turns(hub)
        assert client.frames == [record]
        assert small.frames == [compress(record)]
        hub.leave(small)
        hub.append("a", Entry(0, 7, 0, record))
        await turns(hub)
        assert (len(client.frames), len(small.frames)) == (2, 1)

    run(test)


def test_compressed_clients_follow_a_stream_to_its_new_rings() -> None:
    data = b'{"n":[' + b"123," * 100 + b"4]}"
    record = FRAMES.build(0, data, str(at(100, epoch="beef")))

    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        small = FakeClient(Form.DEFLATE)
        found(hub, "a")
        hub.subscribe(small, subscribe("a"))
        hub.set_floor("a", at(0, epoch="beef"))
        hub.append("a", Entry(0, 0, 0, record))
        await turns(hub)
        report, first = small.frames
        assert messages(report)[0]["reason"] == "EPOCH_CHANGED"
        assert first == compress(record)
        # The worker missed more than the consumer's ring has, so it requests the rest.
        hub.set_floor("a", at(50, epoch="beef"))
        await turns(hub)
        assert log.wanted == [at(1, epoch="beef")]
        log.chunks[at(1, epoch="beef")] = Chunk(
            at(1, epoch="beef"), at(50, epoch="beef"), 2, record * 2
        )
        hub.chunk_arrived("a", at(1, epoch="beef"))
        hub.tick()
        await turns(hub)
        assert small.frames[2:] == [compress(record * 2)]
        hub.append("a", Entry(0, 50, 0, record))
        await turns(hub)
        assert small.frames[3:] == [compress(record)]

    run(test)


def test_position_of_a_record_covers_the_ring_though_a_new_consumer_read_in_another_order() -> None:
    def entry(partition: int, offset: int, *position: int) -> Entry:
        return Entry(partition, offset, 0, FRAMES.build(0, b"{}", str(at(*position))))

    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        hub.set_floor("a", at(0, 0))
        hub.synced()
        hub.subscribe(client, subscribe("a"))
        hub.append("a", entry(0, 0, 1, 0))
        hub.append("a", entry(0, 1, 2, 0))
        # It was replaced, and its successor reads partition 1 first.
        hub.set_floor("a", at(0, 0))
        exact = entry(1, 1, 2, 2)
        for each in (entry(1, 0, 0, 1), entry(0, 0, 1, 1), entry(0, 1, 2, 1), exact):
            hub.append("a", each)
        hub.synced()
        await turns(hub)
        received = [message for data in client.frames for message in messages(data)]
        assert [message["id"] for message in received] == [
            str(at(*offsets)) for offsets in ((1, 0), (2, 0), (2, 1), (2, 2))
        ]

    run(test)
