"""Subscribe requests that wait for snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from energyws.process.board import Board
from energyws.protocol.frame import split
from energyws.protocol.keys import KeyFilter
from energyws.protocol.messages import Unrecovered
from energyws.protocol.position import Position
from energyws.protocol.snapshot_told import SnapshotTold
from energyws.settings import History
from energyws.stream.history import StartPoint
from energyws.stream.ring import Entry
from energyws.stream.snapshot_messages import TableState
from tests.workers.websocket.fanout.one_hub import (
    EPOCH,
    FakeClient,
    ScriptedLog,
    at,
    found,
    subscribe,
    turns,
)
from tests.workers.websocket.fanout.one_stream import FRAMES
from workers.websocket.fanout import requests
from workers.websocket.fanout.hub import Hub
from workers.websocket.snapshots.client import OnSnapshot, Snapshot

VALUE = FRAMES.snapshot(b"m7", 0, b"{}")


class Snapshots:
    """A snapshot client with answers from the test."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, KeyFilter | None, OnSnapshot]] = []

    def find(self, stream: str, keys: KeyFilter | None, subject: str, done: OnSnapshot) -> None:
        assert subject == "tester"
        self.asked.append((stream, keys, done))

    def answer(self, position: Position | None) -> None:
        """Answer the oldest one; None: it cannot be had."""
        _, _, done = self.asked.pop(0)
        if position is None:
            done(None)
        else:
            done(Snapshot(TableState(position, True, None, 1, "t", 1), 1, VALUE, 1))


Test = Callable[[Hub, ScriptedLog, Snapshots, FakeClient], Coroutine[Any, Any, None]]


def run(test: Test) -> None:
    async def main() -> None:
        row, log, snapshots = Board.create().row(0), ScriptedLog(), Snapshots()
        source: Any = snapshots
        hub = Hub(
            ("a", "keyed"), History(), log, row, lambda: None, keyed=["keyed"], snapshots=source
        )  # type: ignore[arg-type]
        await test(hub, log, snapshots, FakeClient())
        hub.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def kinds(client: FakeClient) -> list[bytes]:
    """What was written, by the type of each message."""
    return [payload.split(b'"')[3] for data in client.frames for _, payload in split(data)]


@pytest.mark.parametrize(
    ("stream", "filters"), [("a", {}), ("keyed", {"keyed": KeyFilter(frozenset({b"m7"}))})]
)
def test_client_waits_for_its_snapshot(stream: str, filters: dict[str, KeyFilter]) -> None:
    async def test(hub: Hub, log: ScriptedLog, snapshots: Snapshots, client: FakeClient) -> None:
        found(hub, stream)
        hub.subscribe(client, subscribe(stream, snapshot=True, filters=filters))
        ((name, keys, _),) = snapshots.asked
        assert (name, keys) == (stream, filters.get(stream))
        assert client.replies == []
        snapshots.answer(at(6))
        (reply,) = client.replies
        assert reply[stream].position == f"{EPOCH}-6"
        assert reply[stream].snapshot == SnapshotTold(True, None, 1)
        assert reply[stream].recovered is None
        assert client.frames == []
        await turns(hub)
        assert kinds(client) == [b"snapshot", b"position"]

    run(test)


def test_client_that_recovers_gets_none() -> None:
    async def test(hub: Hub, log: ScriptedLog, snapshots: Snapshots, client: FakeClient) -> None:
        found(hub, "a")
        hub.subscribe(client, subscribe("a", snapshot=True, resume={"a": f"{EPOCH}-6"}))
        hub.subscribe(client, subscribe("a", snapshot=True, resume={"a": f"{EPOCH}-2"}))
        log.requests[0][1](StartPoint(at(2), at(0)))
        assert [reply["a"].recovered for reply in client.replies] == [True, True]
        assert [reply["a"].snapshot for reply in client.replies] == [None, None]
        assert snapshots.asked == []

    run(test)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"{EPOCH}-2", Unrecovered.RETENTION),
        ("bbbb-2", Unrecovered.EPOCH_CHANGED),
        ("what?", Unrecovered.BAD_POSITION),
    ],
)
def test_client_that_does_not_recover_gets_one_and_the_reason(
    text: str, reason: Unrecovered
) -> None:
    async def test(hub: Hub, log: ScriptedLog, snapshots: Snapshots, client: FakeClient) -> None:
        found(hub, "a")
        hub.subscribe(client, subscribe("a", snapshot=True, resume={"a": text}))
        for _, done in log.requests:
            done(StartPoint(at(4), at(4), Unrecovered.RETENTION, (2,)))
        snapshots.answer(at(6))
        (reply,) = client.replies
        assert (reply["a"].recovered, reply["a"].reason) == (False, reason)
        assert (reply["a"].position, reply["a"].replayed) == (f"{EPOCH}-6", None)
        assert reply["a"].snapshot is not None

    run(test)


M7 = KeyFilter(frozenset({b"m7"}))


@pytest.mark.parametrize(
    ("before", "after", "received"),
    [
        # What it still has, then where the snapshot was.
        (M7, M7, [b"snapshot", b"position", b"data"]),
        (None, M7, [b"snapshot", b"position", b"data"]),
        (M7, None, [b"snapshot", b"position", b"data"]),
        (M7, KeyFilter(frozenset({b"m8"})), [b"position"]),
        # It has no keys, so it begins anew.
        (None, None, [b"data"]),
    ],
)
def test_who_subscribes_again_amid_a_snapshot_gets_the_rest_for_the_keys_that_it_keeps(
    before: KeyFilter | None, after: KeyFilter | None, received: list[bytes]
) -> None:
    def filters(only: KeyFilter | None) -> dict[str, KeyFilter]:
        return {} if only is None else {"keyed": only}

    async def test(hub: Hub, log: ScriptedLog, snapshots: Snapshots, client: FakeClient) -> None:
        found(hub, "keyed")
        hub.subscribe(client, subscribe("keyed", snapshot=True, filters=filters(before)))
        snapshots.answer(at(6))
        assert client.frames == []
        hub.subscribe(client, subscribe("keyed", filters=filters(after)))
        hub.append("keyed", Entry(0, 6, 0, FRAMES.build(0, b"{}", f"{EPOCH}-7", b"m7")))
        await turns(hub)
        assert kinds(client) == received
        assert snapshots.asked == []
        reply = client.replies[-1]["keyed"]
        assert reply.position == f"{EPOCH}-6"
        # So it knows that it has no position to resume from before the end of the snapshot.
        goes_on = SnapshotTold(True, None, None)
        assert reply.snapshot == (goes_on if received[0] != b"data" else None)

    run(test)


def test_snapshot_of_another_epoch_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "EPOCH_SECONDS", 0.001)

    async def test(hub: Hub, log: ScriptedLog, snapshots: Snapshots, client: FakeClient) -> None:
        found(hub, "a")
        hub.subscribe(client, subscribe("a", snapshot=True))
        snapshots.answer(at(9, epoch="bbbb"))
        while not snapshots.asked:
            await asyncio.sleep(0.001)
        snapshots.answer(at(6))
        assert [reply["a"].position for reply in client.replies] == [f"{EPOCH}-6"]

    run(test)


def test_snapshot_that_came_before_a_new_epoch_is_void() -> None:
    async def test(hub: Hub, log: ScriptedLog, snapshots: Snapshots, client: FakeClient) -> None:
        found(hub, "a", "keyed")
        hub.subscribe(client, subscribe("a", "keyed", snapshot=True))
        snapshots.answer(at(6))
        hub.set_floor("a", at(0, epoch="cccc"))
        hub.synced()
        late, again_a, again_keyed = snapshots.asked
        assert (late[0], again_a[0], again_keyed[0]) == ("keyed", "a", "keyed")
        snapshots.asked.sort(key=lambda asked: asked[0])
        snapshots.answer(at(0, epoch="cccc"))
        snapshots.answer(at(6))
        (reply,) = client.replies
        assert reply["a"].position == "cccc-0"

    run(test)


def test_client_is_closed_where_its_snapshot_cannot_be_had() -> None:
    async def test(hub: Hub, log: ScriptedLog, snapshots: Snapshots, client: FakeClient) -> None:
        found(hub, "a")
        hub.subscribe(client, subscribe("a", snapshot=True))
        snapshots.answer(None)
        assert client.gone

    run(test)


def test_answer_for_a_client_that_has_left_is_dropped() -> None:
    async def test(hub: Hub, log: ScriptedLog, snapshots: Snapshots, client: FakeClient) -> None:
        found(hub, "a")
        hub.subscribe(client, subscribe("a", snapshot=True))
        hub.unsubscribe(client, ["a"])
        snapshots.answer(at(6))
        assert client.replies == []
        hub.subscribe(client, subscribe("a", snapshot=True))
        hub.leave(client)
        snapshots.answer(None)
        assert not client.gone

    run(test)


def test_snapshots_are_limited_as_history_is() -> None:
    async def test(hub: Hub, log: ScriptedLog, snapshots: Snapshots, client: FakeClient) -> None:
        found(hub, "a")
        for _ in range(10):
            hub.subscribe(client, subscribe("a", snapshot=True))
        assert len(snapshots.asked) == requests.BURST_OF_REQUESTS

    run(test)
