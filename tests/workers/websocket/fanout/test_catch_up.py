"""Subscriptions that are not live: the cost of each turn, and where they are kept."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.process.board import Board, Field, Row
from energyws.protocol.messages import OnLag, Subscribed
from energyws.protocol.position import Position, from_offsets
from energyws.settings import History
from energyws.stream.fair_queue import QueueFull
from energyws.stream.history import Chunk
from energyws.stream.ring import Cursor, Entry, Ring
from tests.workers.websocket.fanout.one_stream import EPOCH, OneStream, ReadingClient
from tests.workers.websocket.fanout.test_hub import FakeClient
from workers.websocket.fanout.catch_up import BYTES_PER_WRITE, CATCH_UP_BYTES, CatchUp
from workers.websocket.fanout.subscription import FanoutClient, Subscription


def at(offset: int) -> Position:
    return from_offsets(EPOCH, [offset])


class FakeLog:
    """Chunks by the position that they follow; a missing one is still in flight."""

    def __init__(self) -> None:
        self.chunks: dict[Position, Chunk] = {}
        self.requested: list[Position] = []
        self.withdrawn: list[FanoutClient] = []
        self.full = False

    def chunk(self, requester: FanoutClient, stream: str, position: Position) -> Chunk | None:
        if self.full:
            raise QueueFull("no room")
        self.requested.append(position)
        return self.chunks.get(position)

    def withdraw(self, requester: FanoutClient, stream: str) -> None:
        self.withdrawn.append(requester)


class Parts:
    """A CatchUp beside a ring; `live` has the subscriptions that it has finished."""

    def __init__(self, row: Row, frames: Iterable[bytes] = ()) -> None:
        self.ring = Ring(History(), at(0))
        for offset, frame in enumerate(frames):
            self.ring.append(Entry(0, offset, 0, frame), 0.0)
        self.row = row
        self.log = FakeLog()
        self.live: list[Subscription] = []
        self.catch_up = CatchUp("energy", self.log, row, None, self.live.append)

    def add(self, cursor: Cursor | Position, on_lag: OnLag = OnLag.SKIP) -> FakeClient:
        """A client with a subscription at this cursor or position."""
        client = FakeClient()
        subscription = Subscription(client, on_lag)
        subscription.cursor = cursor
        self.catch_up.add(subscription)
        return client

    def begin(self) -> Cursor:
        return Cursor(self.ring.first, self.ring.floor, OnLag.SKIP)

    def work(self, writes: int = 100) -> int:
        return self.catch_up.work(writes, self.ring, self.ring.end, 0.0)


@pytest.fixture
def row() -> Row:
    return Board.create().row(0)


def test_client_that_reaches_the_boundary_goes_live(row: Row) -> None:
    parts = Parts(row, [b"a", b"b", b"c"])
    client = parts.add(parts.begin())
    assert parts.catch_up.is_busy(parts.ring.end)
    assert parts.work() == 99
    assert client.frames == [b"abc"]
    assert [subscription.client for subscription in parts.live] == [client]
    assert (len(parts.catch_up), parts.catch_up.is_busy(parts.ring.end)) == (0, False)
    assert (row[Field.WRITES], row[Field.DELIVERIES], row[Field.BYTES]) == (1, 3, 3)


def test_large_write_counts_as_several_and_clients_take_turns(row: Row) -> None:
    parts = Parts(row, [bytes(CATCH_UP_BYTES // 2)] * 6)
    clients = [parts.add(parts.begin()) for _ in range(2)]
    # A write that exceeds its turn is not charged to the next one.
    assert parts.work(1) == 0
    assert [len(client.frames) for client in clients] == [1, 0]
    assert parts.work(1) == 0
    assert [len(client.frames) for client in clients] == [1, 1]
    assert parts.work(1_000) == 1_000 - 2 - 2 * (CATCH_UP_BYTES // BYTES_PER_WRITE)


def test_clients_waiting_for_a_chunk_continue_when_it_arrives(row: Row) -> None:
    parts = Parts(row)
    clients = [parts.add(at(0)) for _ in range(3)]
    assert parts.work() == 97
    assert (len(parts.catch_up), parts.catch_up.is_busy(0)) == (3, False)
    parts.log.chunks[at(0)] = Chunk(at(0), at(5), 5, b"chunk")
    parts.catch_up.arrived(at(0))
    assert parts.catch_up.is_busy(0)
    parts.work()
    assert [client.frames for client in clients] == [[b"chunk"]] * 3
    assert row[Field.DELIVERIES] == 15


def test_failed_chunk_ends_only_the_clients_that_wait_for_it(row: Row) -> None:
    parts = Parts(row)
    gone, stays = parts.add(at(0)), parts.add(at(7))
    parts.work()
    parts.catch_up.failed(at(0))
    assert (gone.gone, stays.gone) == (True, False)
    assert len(parts.catch_up) == 1


def test_full_history_queue_ends_the_client(row: Row) -> None:
    parts = Parts(row)
    parts.log.full = True
    client = parts.add(at(0))
    parts.work()
    assert client.gone
    assert len(parts.catch_up) == 0


@pytest.mark.parametrize("state", ["catching up", "waiting", "paused"])
def test_client_that_leaves_is_forgotten_in_every_state(row: Row, state: str) -> None:
    parts = Parts(row)
    client = parts.add(at(0))
    if state == "paused":
        client.writable = False
    if state != "catching up":
        parts.work()
    parts.log.withdrawn.clear()
    parts.catch_up.leave(client)
    assert len(parts.catch_up) == 0
    assert parts.log.withdrawn == ([] if state == "paused" else [client])
    parts.catch_up.leave(client)
    parts.catch_up.arrived(at(0))
    assert parts.work() == 100


def test_paused_client_is_kept_without_its_chunk_until_it_resumes(row: Row) -> None:
    parts = Parts(row, [b"a"])
    client = parts.add(parts.begin())
    client.writable = False
    parts.work()
    assert parts.log.withdrawn == [client]
    assert not parts.catch_up.is_busy(parts.ring.end)
    client.writable = True
    parts.catch_up.resume_writing(client, parts.ring, parts.ring.end)
    parts.work()
    assert client.frames == [b"a"]
    assert parts.live


def test_clear_returns_every_subscription(row: Row) -> None:
    parts = Parts(row, [b"a"])
    paused, waiting = parts.add(parts.begin()), parts.add(at(0))
    paused.writable = False
    parts.work()
    catching = parts.add(parts.begin())
    assert set(parts.catch_up.clear()) == {paused, waiting, catching}
    assert len(parts.catch_up) == 0
    assert parts.work() == 100


def test_burst_larger_than_the_ring_comes_from_the_log() -> None:
    stream = OneStream(max_frames=10)
    live, catching = ReadingClient(), ReadingClient()
    stream.subscribe(live)
    stream.records(5)
    stream.fanout.work(1, 0.0)
    stream.subscribe(catching, resume={"energy": f"{EPOCH}-1.0"})
    stream.records(40)
    stream.settle()
    stream.records(1)
    stream.settle()
    assert live.gaps == catching.gaps == []
    assert live.numbers == list(range(46))
    assert catching.numbers == list(range(1, 46))


def test_resume_replays_then_goes_live(stream: OneStream) -> None:
    stream.records(20)
    stream.settle()
    client = ReadingClient()
    reply = stream.subscribe(client, resume={"energy": f"{EPOCH}-5.5"})
    assert reply == Subscribed(f"{EPOCH}-5.5", True, 10)
    stream.records(3)
    stream.settle()
    assert client.numbers == list(range(10, 23))


def test_resume_from_another_interleaving_gives_each_record_once(stream: OneStream) -> None:
    stream.records(20)
    stream.settle()
    client = ReadingClient()
    # The client has all of partition 0 but half of partition 1, so no prefix of this ring.
    reply = stream.subscribe(client, resume={"energy": f"{EPOCH}-10.5"})
    assert (reply.recovered, reply.replayed) == (True, 5)
    stream.settle()
    assert client.numbers == [11, 13, 15, 17, 19]


@given(st.integers(0, 10), st.integers(0, 10))
def test_client_may_resume_from_any_frame_though_it_had_no_prefix_of_this_ring(
    even: int, odd: int
) -> None:
    stream = OneStream()
    stream.records(20)
    stream.settle()
    first = ReadingClient()
    stream.subscribe(first, resume={"energy": f"{EPOCH}-{even}.{odd}"})
    stream.settle()
    assert len(first.received) == 20 - even - odd
    for place, message in enumerate(first.received):
        again = ReadingClient()
        stream.subscribe(again, resume={"energy": str(message["id"])})
        stream.settle()
        assert again.numbers == first.numbers[place + 1 :]


def test_client_that_is_ahead_gets_only_records_it_lacks(stream: OneStream) -> None:
    stream.records(10)
    stream.settle()
    client = ReadingClient()
    reply = stream.subscribe(client, resume={"energy": f"{EPOCH}-7.5"})
    assert (reply.recovered, reply.replayed) == (True, 0)
    for _ in range(8):
        stream.records(1)
        stream.settle()
        stream.fanout.work(100, stream.now)
    assert client.numbers == [11, 13, 14, 15, 16, 17]
    assert client.gaps == []


def test_client_that_is_ahead_is_not_taken_back_by_a_pause(stream: OneStream) -> None:
    stream.records(10)
    stream.settle()
    client = ReadingClient()
    stream.subscribe(client, resume={"energy": f"{EPOCH}-5.9"}, on_lag=OnLag.LATEST)
    client.pause()
    stream.records(2)
    stream.fanout.work(100, stream.now)
    client.resume()
    # It may resume from here, and already has five records of the second partition.
    assert [gap["to"] for gap in client.gaps] == [f"{EPOCH}-6.9"]
    stream.settle()


def test_client_far_ahead_gets_a_lagged_message_after_a_while(stream: OneStream) -> None:
    stream.records(4)
    stream.settle()
    client = ReadingClient()
    stream.subscribe(client, resume={"energy": f"{EPOCH}-1000.2"})
    stream.records(2)
    stream.fanout.work(100, 1.0)
    assert client.gaps == []
    stream.fanout.work(100, 60.0)
    assert [gap["reason"] for gap in client.gaps] == ["POSITION_AHEAD"]
    stream.now = 61.0
    stream.records(2)
    stream.settle()
    assert client.numbers == [5, 6, 7]


def test_resume_below_the_ring_is_replayed_from_the_log() -> None:
    stream = OneStream(max_frames=10)
    stream.records(30)
    stream.settle()
    clients = [ReadingClient() for _ in range(5)]
    for client in clients:
        reply = stream.subscribe(client, resume={"energy": f"{EPOCH}-2.2"})
        assert (reply.recovered, reply.replayed) == (True, 26)
    stream.fanout.work(100, 0.0)
    # One request for all clients that wait.
    assert list(map(str, stream.log.requested)) == [f"{EPOCH}-2.2"]
    assert len(stream.fanout.catch_up) == 5
    stream.settle()
    assert [client.numbers for client in clients] == [list(range(4, 30))] * 5
    assert len(stream.fanout.catch_up) == 0


def test_paused_client_sends_no_history_requests() -> None:
    stream = OneStream(max_frames=10)
    stream.records(60)
    stream.settle()
    client = ReadingClient(pause_after=1)
    stream.subscribe(client, resume={"energy": f"{EPOCH}-0.0"})
    stream.settle()
    delivered = len(client.numbers)
    assert 0 < delivered < 60
    assert len(stream.log.ready) == 1
    client.resume()
    stream.settle()
    assert client.numbers == list(range(60))


def test_worker_that_missed_too_much_replays_the_log_to_every_client() -> None:
    stream = OneStream(max_frames=10)
    live, paused, late = ReadingClient(), ReadingClient(pause_after=1), ReadingClient()
    stream.subscribe(live)
    stream.subscribe(paused)
    stream.records(4)
    stream.settle()
    stream.records(2)
    # In the middle of a fan-out, one client has the batch already.
    stream.fanout.work(1, 0.0)
    stream.subscribe(late)
    missed = OneStream(max_frames=10)
    missed.records(40)
    stream.log.partitions = missed.log.partitions
    stream.fanout.reopen(missed.fanout.ring)
    stream.sent = 40
    stream.settle()
    paused.resume()
    stream.records(1)
    stream.settle()
    assert live.numbers == paused.numbers == list(range(41))
    assert late.numbers == list(range(6, 41))


def test_history_request_is_withdrawn_when_its_client_leaves_or_pauses() -> None:
    stream = OneStream(max_frames=4)
    stream.records(40)
    resume = {"energy": f"{EPOCH}-0.0"}
    leaves, pauses = ReadingClient(), ReadingClient()
    for client in (leaves, pauses):
        stream.subscribe(client, resume=resume)
    stream.fanout.work(100, stream.now)
    assert len(stream.fanout.catch_up) == 2
    stream.log.withdrawn.clear()
    stream.fanout.leave(leaves)
    assert (stream.log.withdrawn, len(stream.fanout.catch_up)) == ([leaves], 1)
    pauses.pause()
    stream.answer()
    stream.fanout.work(100, stream.now)
    assert stream.log.withdrawn == [leaves, pauses]
    pauses.resume()
    stream.settle()
    assert pauses.numbers == list(range(40))


def test_client_is_closed_when_the_history_queue_is_full() -> None:
    stream = OneStream(max_frames=4)
    stream.records(40)
    client = ReadingClient()
    stream.subscribe(client, resume={"energy": f"{EPOCH}-0.0"})
    stream.log.full = True
    stream.fanout.work(100, stream.now)
    assert client.gone


def test_unreadable_chunk_ends_the_wait() -> None:
    stream = OneStream(max_frames=10)
    stream.records(30)
    stream.settle()
    client = ReadingClient()
    stream.subscribe(client, resume={"energy": f"{EPOCH}-2.2"})
    stream.fanout.work(100, 0.0)
    stream.fanout.catch_up.failed(stream.log.requested.pop())
    assert client.gone
    assert len(stream.fanout.catch_up) == 0
