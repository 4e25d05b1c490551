"""A worker that is short of memory: who is refused and closed, and what the operator sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from energyws.errors import SLOW, Close
from energyws.process.board import Board, Field
from energyws.process.cgroup import MemoryGroups
from energyws.process.memory_pressure import Level
from workers.websocket.shedding import Shedding

MIB = 1 << 20


class Client:
    def __init__(self, held: int) -> None:
        self.held = held
        self.closed: Close | None = None
        self.given_up = False

    def close(self, close: Close) -> None:
        assert self.given_up
        self.closed = close


class Unread:
    """A complete answer, which is no client."""

    held = 5 * MIB
    closed = False

    def close(self, close: Close) -> None:
        self.closed = True


class Clients(list[Any]):
    """A registry."""

    def holding(self) -> list[tuple[int, Any]]:
        return [(each.held, each) for each in self if each.closed is None]

    def give_up(self, client: Client) -> None:
        client.given_up = True


class Stage:
    def __init__(self, directory: Path, *held: int) -> None:
        self.directory = directory
        self.clients = Clients(Client(each) for each in held)
        self.board = Board.create()
        self.row = self.board.row(0)
        self.use(0)
        groups = MemoryGroups(directory, directory / "none")
        self.unread: list[Unread] = []
        self.shedding = Shedding(
            self.clients,
            lambda: [(each.held, each) for each in self.unread],
            self.board,
            self.row,
            groups,
        )

    def use(self, percent: int) -> None:
        (self.directory / "memory.current").write_text(str(percent * MIB))
        (self.directory / "memory.max").write_text(str(100 * MIB))

    def tick(self, percent: int) -> None:
        self.use(percent)
        self.shedding.tick(90.0)

    @property
    def closed(self) -> list[int]:
        return [each.held // MIB for each in self.clients if each.closed is SLOW]


def test_new_clients_are_refused_first_and_then_who_holds_most_is_closed(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 1 * MIB, 3 * MIB, 2 * MIB, 100)
    stage.tick(89)
    assert not stage.shedding.refuses
    stage.tick(92)
    assert (stage.shedding.refuses, stage.closed) == (True, [])
    assert stage.row[Field.MEMORY_PRESSURE] == Level.REFUSING
    stage.tick(95)
    assert (stage.shedding.refuses, stage.closed) == (True, [3])
    assert stage.row[Field.MEMORY_PRESSURE] == Level.CLOSING
    assert stage.row[Field.MEMORY_FREEING] == 3 * MIB
    # What it holds is on its way out: half of the rest is one more.
    stage.tick(95)
    assert sorted(stage.closed) == [2, 3]
    stage.tick(95)
    assert sorted(stage.closed) == [2, 3]


def test_it_ends_once_enough_is_free(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(tmp_path, 9 * MIB)
    with caplog.at_level("INFO"):
        stage.tick(96)
        assert stage.closed == [9]
        stage.clients.clear()
        stage.tick(87)
    assert not stage.shedding.refuses
    assert (stage.row[Field.MEMORY_PRESSURE], stage.row[Field.MEMORY_FREEING]) == (0, 0)
    events = [record.getMessage().partition(" used_mib")[0] for record in caplog.records]
    assert [each.partition(" count")[0] for each in events] == [
        "short of memory: refusing new clients",
        "short of memory: closing clients that do not read",
        "memory suffices again",
    ]


def test_other_workers_share_what_is_to_be_freed(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 2 * MIB, 2 * MIB)
    stage.board.row(1)[Field.MEMORY_FREEING] = 6 * MIB
    stage.tick(96)
    assert stage.closed == []


def test_answers_that_nobody_reads_are_dropped_too(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 4 * MIB, 6 * MIB)
    stage.unread = [answer] = [Unread()]
    stage.tick(96)
    assert (stage.closed, answer.closed) == ([6], False)
    stage.clients.pop()
    stage.tick(96)
    assert (stage.closed, answer.closed) == ([], True)
    assert stage.row[Field.MEMORY_FREEING] == 5 * MIB
    stage.unread = []
    stage.tick(91)
    assert stage.row[Field.MEMORY_FREEING] == 0


def test_clients_that_read_stay(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 100, 200)
    for _ in range(5):
        stage.tick(99)
    assert stage.closed == []


def test_nothing_happens_without_the_setting(tmp_path: Path) -> None:
    stage = Stage(tmp_path, 5 * MIB)
    stage.use(99)
    stage.shedding.tick(None)
    assert (stage.shedding.refuses, stage.closed) == (False, [])
