"""Pace: how many bytes of the past a client gets in a second."""

from __future__ import annotations

from typing import Any

import pytest

from energyws.process.board import Board
from energyws.process.counters import LIMITED
from energyws.protocol.forms import Form
from energyws.settings import KIB, Limits
from tests.workers.websocket.fanout.test_catch_up import Parts
from tests.workers.websocket.fanout.test_hub import FakeClient
from workers.websocket import shares as shares_module
from workers.websocket.fanout.catch_up import CATCH_UP_BYTES
from workers.websocket.pace import Pace
from workers.websocket.shares import Shares

FRAME = bytes(CATCH_UP_BYTES)


class Paced(Parts):
    """A CatchUp with a pace; each write is one frame of CATCH_UP_BYTES."""

    def __init__(self, frames: int, **limits: Any) -> None:
        board = Board.create()
        super().__init__(board.open_row(0), [FRAME] * frames)
        given: dict[str, Any] = {"replay_bytes_per_client_per_second": None, **limits}
        self.shares = Shares(board.usage(0), self.row, Limits(**given))
        self.pace = self.catch_up._pace = Pace(self.shares)

    def tick(self) -> None:
        self.pace.tick()
        self.catch_up.tick()

    def met(self) -> dict[str, int]:
        return {name: n for (name,), n in LIMITED.read(self.row.columns()).items() if n}


def work(it: Paced) -> None:
    while it.catch_up.is_busy(it.ring.end):
        it.work()


def test_client_rests_until_the_next_tick_and_gets_everything() -> None:
    it = Paced(5, replay_bytes_per_client_per_second=2 * CATCH_UP_BYTES)
    client = it.add(it.begin())
    sizes = []
    for _ in range(3):
        work(it)
        sizes.append(len(client.frames))
        it.tick()
    assert sizes == [2, 4, 5]
    assert it.live
    assert len(it.catch_up) == 0
    assert it.met() == {"replay_bytes_per_client_per_second": 2}


def test_nobody_else_waits_for_a_client_that_rests() -> None:
    it = Paced(4, replay_bytes_per_client_per_second=2 * CATCH_UP_BYTES)
    greedy = it.add(it.begin())
    work(it)
    other = it.add(it.begin())
    work(it)
    assert len(greedy.frames) == len(other.frames) == 2
    assert len(it.catch_up) == 2


def test_client_that_rests_can_leave() -> None:
    it = Paced(4, replay_bytes_per_client_per_second=64 * KIB)
    client = it.add(it.begin())
    work(it)
    it.catch_up.leave(client)
    assert len(it.catch_up) == 0
    it.tick()
    work(it)
    assert len(client.frames) == 1


def test_resting_clients_are_not_forgotten_when_the_ring_changes() -> None:
    it = Paced(4, replay_bytes_per_client_per_second=64 * KIB)
    client = it.add(it.begin())
    work(it)
    assert list(it.catch_up.clear()) == [client]


def test_clients_of_a_subject_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shares_module.time, "monotonic", lambda: 50.0)
    it = Paced(4, replay_bytes_per_subject_per_second=3 * CATCH_UP_BYTES)
    clients = [it.add(it.begin()) for _ in range(2)]
    work(it)
    assert sum(len(client.frames) for client in clients) == 3
    monkeypatch.setattr(shares_module.time, "monotonic", lambda: 51.0)
    it.tick()
    work(it)
    assert sum(len(client.frames) for client in clients) == 6


def test_http_requests_of_a_subject_share_what_one_client_may_have() -> None:
    it = Paced(1, replay_bytes_per_client_per_second=64 * KIB)
    one, other, socket_ = FakeClient(), FakeClient(), FakeClient()
    one.form = other.form = Form.LINES
    it.pace.sent(one, 64 * KIB)
    assert not it.pace.may_go_on(other)
    assert it.pace.may_go_on(socket_)
