"""Real processes, each a shell command: started, observed, killed and counted."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import psutil
import pytest

from energyws.control.children.children import SUPERVISOR_ROW, Children
from energyws.control.children.listeners import Listeners
from energyws.control.children.mailbox import Mailbox
from energyws.control.children.spawn import ChildSpec, Spawner
from energyws.control.policy.actions import Exit, Start
from energyws.errors import ExitCode
from energyws.process.board import Board, Field, State
from energyws.process.control_messages import (
    ControlMessage,
    ShutDown,
    ShutdownMode,
    UseSettings,
    UseTicketKeys,
)
from energyws.process.ticket_keys import LIFE_SECONDS
from energyws.settings import Admin, Kafka, Server, Settings, Stream

SETTINGS: Final = Settings(
    kafka=Kafka(brokers="b", topic="t"),
    streams={"energy": Stream(topic="t")},
    server=Server(host="127.0.0.1", port=0),
)
WAIT: Final = "exec sleep 600"


class Play:
    """Children by name; `scripts`: the shell command of each."""

    def __init__(self, tmp_path: Path) -> None:
        self.scripts: dict[str, str] = {}
        self.board = Board.create()
        self.listeners = Listeners(SETTINGS.server, 1)
        self.spawner = Spawner(
            SETTINGS,
            self.board.descriptor,
            tmp_path,
            self._command,
            lambda settings: dict(os.environ),
        )
        self.woken = asyncio.Event()
        self.children = Children(self.spawner, self.board, self.listeners, self.woken.set)

    def _command(self, spec: ChildSpec) -> list[str]:
        return ["/bin/sh", "-c", self.scripts.get(spec.name, WAIT)]

    def start(self, id_: int, name: str = "consumer") -> None:
        self.children.start(Start(id_, name, None if name == "consumer" else 0))

    async def exits(self) -> list[Exit]:
        """The exit reasons of the next children that end."""
        async with asyncio.timeout(20):
            while not (found := self.children.ended()):
                await self.woken.wait()
                self.woken.clear()
        return found

    def close(self) -> None:
        self.children.kill_all()
        self.listeners.close()
        self.board.close()


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Play]:
    made = Play(tmp_path)
    yield made
    made.close()


def test_started_child_has_a_clean_row_of_its_own(play: Play) -> None:
    play.board.row(0)[Field.CONNECTIONS] = 7

    async def run() -> None:
        for id_, name in enumerate(("consumer", "worker-0"), 1):
            play.start(id_, name)

    asyncio.run(run())
    one, two = play.children
    assert (one.spec.row, two.spec.row) == (0, 1)
    assert SUPERVISOR_ROW not in (0, 1)
    assert one.row[Field.CONNECTIONS] == 0
    assert one.streams == ["energy"]
    two.row[Field.STATE], two.row[Field.BEAT] = State.READY, 5
    beat = play.children.beats()[2]
    assert (beat.state, beat.beat, beat.full) == (State.READY, 5, False)


def test_ended_child_is_reported_once_and_its_counts_stay(play: Play) -> None:
    play.scripts["worker-0"] = "exit 3"

    async def run() -> None:
        play.start(1, "worker-0")
        (child,) = play.children
        child.row[Field.DELIVERIES], child.row[Field.CONNECTIONS] = 5, 2
        assert await play.exits() == [Exit(1, 3)]
        play.start(2, "worker-0")
        (child,) = play.children
        assert child.starts == 2
        child.row[Field.DELIVERIES] = 1
        assert await play.exits() == [Exit(2, 3)]

    asyncio.run(run())
    seen = play.children.seen()
    assert (seen.processes, seen.starts) == ([], {"worker-0": 2})
    assert seen.exits == {("worker-0", "failed"): 2}
    assert seen.ended["worker-0"].columns[Field.DELIVERIES] == 6
    assert play.children.ended() == []
    # The row is free, and counts no connections.
    assert play.board.total(Field.CONNECTIONS) == 0


def leave(play: Play) -> None:
    play.children.send(1, ShutDown(ShutdownMode.STOP))
    (child,) = play.children
    # A well-behaved child ends after the message.
    child.process.send_signal(signal.SIGTERM)


def kill_by_hand(play: Play) -> None:
    next(iter(play.children)).process.kill()


def kill_overdue(play: Play) -> None:
    play.children.kill(1, "did not drain in time", hung=False)


def kill_hung(play: Play) -> None:
    play.children.kill(1, "no heartbeat", hung=True)


@pytest.mark.parametrize(
    ("act", "reason", "status"),
    [
        (leave, "told", 0),
        (kill_by_hand, "killed", -signal.SIGKILL),
        (kill_overdue, "overdue", -signal.SIGKILL),
        (kill_hung, "hung", -signal.SIGABRT),
    ],
)
def test_each_end_has_a_reason(
    play: Play, act: Callable[[Play], None], reason: str, status: int, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    play.scripts["consumer"] = f"trap 'exit 0' TERM; : > {there}; while :; do sleep 0.01; done"

    async def run() -> None:
        play.start(1)
        async with asyncio.timeout(20):
            while not there.exists():
                await asyncio.sleep(0.005)
        act(play)
        assert await play.exits() == [Exit(1, status)]

    asyncio.run(run())
    assert play.children.seen().exits == {("consumer", reason): 1}


def test_child_that_cannot_be_started_counts_as_crashed(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(spec: ChildSpec) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(play.spawner, "start", no_memory)

    async def run() -> None:
        play.start(1)

    asyncio.run(run())
    assert play.children.ended() == [Exit(1, ExitCode.FAILURE)]
    assert list(play.children) == []


def test_new_settings_reach_present_and_later_children(play: Play) -> None:
    other = Settings(kafka=Kafka(brokers="c", topic="t"))

    async def run() -> None:
        play.start(1)
        play.start(2, "worker-0")
        assert play.children.use_settings(other)

    asyncio.run(run())
    assert play.spawner.settings == other
    for child in play.children:
        # `sh` holds the other end and reads nothing; `flush` has nothing left to send.
        assert child.mailbox.flush() == set()


def test_children_do_not_get_the_token_of_operators(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[ControlMessage] = []

    def put(mailbox: Mailbox, message: ControlMessage) -> bool:
        sent.append(message)
        return True

    monkeypatch.setattr(Mailbox, "put", put)

    async def run() -> None:
        play.start(1)
        assert play.children.use_settings(replace(SETTINGS, admin=Admin(token="a-word")))

    asyncio.run(run())
    assert sent == [UseSettings(SETTINGS)]


def test_ticket_keys_reach_workers_at_their_start_and_when_they_are_renewed(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, UseTicketKeys]] = []

    def put(mailbox: Mailbox, message: ControlMessage) -> bool:
        assert isinstance(message, UseTicketKeys)
        sent.append((mailbox._name, message))
        return True

    monkeypatch.setattr(Mailbox, "put", put)

    async def run() -> None:
        play.start(1)
        play.start(2, "worker-0")
        play.start(3, "worker-0")

    began = time.monotonic()
    asyncio.run(run())
    play.children.look_after(began + LIFE_SECONDS / 2)
    (one, first), (two, second) = sent
    assert (one, two) == ("worker-0", "worker-0")
    assert first == second
    play.children.look_after(time.monotonic() + LIFE_SECONDS)
    _, _, (_, third), (_, fourth) = sent
    assert third == fourth != first


def test_settings_too_large_for_a_message_are_refused(play: Play) -> None:
    streams = {f"stream-{number}": Stream(topic="t" * 200) for number in range(3000)}

    async def run() -> None:
        play.start(1)
        large = Settings(kafka=Kafka(brokers="b"), streams=streams)
        assert not play.children.use_settings(large)
        assert play.spawner.settings == large

    asyncio.run(run())


def test_message_to_a_child_that_has_ended_is_dropped(play: Play) -> None:
    play.children.send(9, ShutDown(ShutdownMode.STOP))
    play.children.kill(9, "gone", hung=False)
    assert play.children.ended() == []


def test_kill_all_ends_every_child(play: Play) -> None:
    async def run() -> None:
        for id_ in range(1, 4):
            play.start(id_)

    asyncio.run(run())
    pids = [child.process.pid for child in play.children]
    play.children.kill_all()
    assert list(play.children) == []
    assert not any(psutil.pid_exists(pid) for pid in pids)
