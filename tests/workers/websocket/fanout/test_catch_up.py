"""Subscriptions that are not live: what each turn costs, and where each of them is kept."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from energyws.process.board import Board, Field, Row
from energyws.protocol.messages import OnLag
from energyws.protocol.position import Position, from_offsets
from energyws.settings import History
from energyws.stream.fair_queue import QueueFull
from energyws.stream.history import Chunk
from energyws.stream.ring import Cursor, Entry, Ring
from tests.workers.websocket.fanout.test_hub import FakeClient
from workers.websocket.fanout.catch_up import BYTES_PER_WRITE, CATCH_UP_BYTES, CatchUp
from workers.websocket.fanout.subscription import FanoutClient, Subscription

EPOCH = "abcd0123"


def at(offset: int) -> Position:
    return from_offsets(EPOCH, [offset])


class FakeLog:
    """Chunks by the position that they follow; None is on its way."""

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


class Bench:
    """A CatchUp beside a ring; live: the subscriptions that it has finished."""

    def __init__(self, row: Row, frames: Iterable[bytes] = ()) -> None:
        self.ring = Ring(History(), at(0))
        for offset, frame in enumerate(frames):
            self.ring.append(Entry(0, offset, 0, frame), 0.0)
        self.row = row
        self.log = FakeLog()
        self.live: list[Subscription] = []
        self.catch_up = CatchUp("energy", self.log, row, None, self.live.append)

    def add(self, cursor: Cursor | Position, on_lag: OnLag = OnLag.SKIP) -> FakeClient:
        """A client whose subscription is here."""
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
    bench = Bench(row, [b"a", b"b", b"c"])
    client = bench.add(bench.begin())
    assert bench.catch_up.is_busy(bench.ring.end)
    assert bench.work() == 99
    assert client.frames == [b"abc"]
    assert [subscription.client for subscription in bench.live] == [client]
    assert (len(bench.catch_up), bench.catch_up.is_busy(bench.ring.end)) == (0, False)
    assert (row[Field.WRITES], row[Field.DELIVERIES], row[Field.BYTES]) == (1, 3, 3)


def test_large_write_costs_several_and_clients_take_turns(row: Row) -> None:
    bench = Bench(row, [bytes(CATCH_UP_BYTES // 2)] * 6)
    clients = [bench.add(bench.begin()) for _ in range(2)]
    # More than this turn had is not carried over to the next.
    assert bench.work(1) == 0
    assert [len(client.frames) for client in clients] == [1, 0]
    assert bench.work(1) == 0
    assert [len(client.frames) for client in clients] == [1, 1]
    assert bench.work(1_000) == 1_000 - 2 - 2 * (CATCH_UP_BYTES // BYTES_PER_WRITE)


def test_clients_that_wait_for_one_chunk_go_on_when_it_arrives(row: Row) -> None:
    bench = Bench(row)
    clients = [bench.add(at(0)) for _ in range(3)]
    assert bench.work() == 97
    assert (len(bench.catch_up), bench.catch_up.is_busy(0)) == (3, False)
    bench.log.chunks[at(0)] = Chunk(at(0), at(5), 5, b"chunk")
    bench.catch_up.arrived(at(0))
    assert bench.catch_up.is_busy(0)
    bench.work()
    assert [client.frames for client in clients] == [[b"chunk"]] * 3
    assert row[Field.DELIVERIES] == 15


def test_chunk_that_failed_ends_all_that_wait_for_it_and_no_other(row: Row) -> None:
    bench = Bench(row)
    gone, stays = bench.add(at(0)), bench.add(at(7))
    bench.work()
    bench.catch_up.failed(at(0))
    assert (gone.gone, stays.gone) == (True, False)
    assert len(bench.catch_up) == 1


def test_full_history_queue_ends_the_client(row: Row) -> None:
    bench = Bench(row)
    bench.log.full = True
    client = bench.add(at(0))
    bench.work()
    assert client.gone
    assert len(bench.catch_up) == 0


@pytest.mark.parametrize("state", ["catching up", "waiting", "paused"])
def test_client_that_leaves_is_forgotten_wherever_it_is(row: Row, state: str) -> None:
    bench = Bench(row)
    client = bench.add(at(0))
    if state == "paused":
        client.writable = False
    if state != "catching up":
        bench.work()
    bench.log.withdrawn.clear()
    bench.catch_up.leave(client)
    assert len(bench.catch_up) == 0
    assert bench.log.withdrawn == ([] if state == "paused" else [client])
    bench.catch_up.leave(client)
    bench.catch_up.arrived(at(0))
    assert bench.work() == 100


def test_paused_client_is_kept_without_its_chunk_until_it_resumes(row: Row) -> None:
    bench = Bench(row, [b"a"])
    client = bench.add(bench.begin())
    client.writable = False
    bench.work()
    assert bench.log.withdrawn == [client]
    assert not bench.catch_up.is_busy(bench.ring.end)
    client.writable = True
    bench.catch_up.resume_writing(client, bench.ring, bench.ring.end)
    bench.work()
    assert client.frames == [b"a"]
    assert bench.live


def test_clear_returns_every_subscription(row: Row) -> None:
    bench = Bench(row, [b"a"])
    paused, waiting = bench.add(bench.begin()), bench.add(at(0))
    paused.writable = False
    bench.work()
    catching = bench.add(bench.begin())
    assert set(bench.catch_up.clear()) == {paused, waiting, catching}
    assert len(bench.catch_up) == 0
    assert bench.work() == 100
