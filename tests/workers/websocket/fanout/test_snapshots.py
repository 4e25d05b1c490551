"""A snapshot and what follows it: always the fold of the log, whatever happens meanwhile."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.process.board import Board
from energyws.protocol.forms import Form
from energyws.protocol.keys import KeyFilter
from energyws.protocol.messages import OnLag, Subscribe
from energyws.protocol.position import Position, from_offsets
from energyws.settings import History
from energyws.stream.history import Stored
from energyws.stream.last_values import LastValues
from energyws.stream.ring import Entry, Ring
from energyws.stream.snapshot_messages import TableState
from tests.workers.websocket.fanout.one_stream import (
    ENCODE,
    EPOCH,
    FRAMES,
    FakeLog,
    ReadingClient,
)
from workers.websocket.fanout.fanout import Fanout
from workers.websocket.fanout.keyed_fanout import KeyedFanout
from workers.websocket.snapshots.client import Scan, Snapshot, Step
from workers.websocket.snapshots.feed import Feed

Fold = dict[str, int]
KEYS = [b"a1", b"a2", b"b1", b"b2", b"b3"]
FILTERS = [
    None,
    KeyFilter(frozenset({b"a1", b"b2"})),
    KeyFilter(frozenset({b"a1"}), (b"b",)),
]


class Client(ReadingClient):
    """Keeps the newest record of each key. form: which forms hear of `history_unavailable`."""

    def __init__(self, keys: KeyFilter | None, form: Form) -> None:
        super().__init__()
        self.keys = keys
        self.form = form
        # Of its snapshot, as `subscribed` says.
        self.since_ms = 0

    def told_since_ms(self) -> int:
        """Since when its snapshot has all keys; the `position` at its end has the last word."""
        for message in self.received:
            if message["type"] == "position" and "snapshot" in message:
                return _milliseconds(str(message["snapshot"]["since"]))
        return self.since_ms

    @property
    def has_gap(self) -> bool:
        return bool(self.gaps)

    def fold(self) -> Fold:
        """What it knows; fails where something came from before what it knew already."""
        known: dict[str, int] = {}
        here: Fold = {}
        for message in self.received:
            if message["type"] not in ("snapshot", "data", "removed"):
                continue
            key, at = str(message["key"]), _milliseconds(str(message["timestamp"]))
            assert at > known.get(key, -1)
            known[key] = at
            here.pop(key, None)
            if message["type"] != "removed":
                here[key] = at
        return here


class World:
    """A consumer, a worker that is behind it, and the log; record n was written at n ms."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        self.log = FakeLog()
        self.count = 0
        self.fold: dict[bytes, int] = {}
        self.offsets = [0, 0]
        self.max_keys = rng.choice([3, 1_000, 1_000])
        self.values = self._table()
        self.table = 0
        self.on_the_way: deque[Entry] = deque()
        row, limits = Board.create().row(0), History(max_frames=rng.choice([4, 15, 1_000]))
        self.ring = Ring(limits, from_offsets(EPOCH, [0, 0]), keyed=True)
        log: Any = self.log
        self.form = rng.choice([Form.PLAIN, Form.SSE, Form.DEFLATE])
        encode = ENCODE[self.form]
        self.plain = Fanout("energy", self.ring, log, row, encode)
        self.keyed = KeyedFanout("energy", self.ring, log, row, encode)
        self.clients: list[Client] = []
        self.deferred: list[tuple[Scan, Callable[[Step | None], None]]] = []
        self.step_slots = rng.choice([1, 3, 100])

    def _table(self) -> LastValues:
        table = LastValues(self.max_keys, 1 << 30)
        table.warmed(None)
        return table

    @property
    def head(self) -> Position:
        return from_offsets(EPOCH, self.offsets)

    def publish(self) -> None:
        key, partition = self.rng.choice(KEYS), self.rng.randrange(2)
        at, offset = self.count, self.offsets[partition]
        data = None if self.rng.random() < 0.25 else orjson.dumps({"n": at})
        self.count += 1
        self.offsets[partition] += 1
        self.log.partitions[partition].append(Stored(offset, at, data, key))
        self.values.put(key, at, data)
        frame = FRAMES.build(at, data, str(self.head), key)
        self.on_the_way.append(Entry(partition, offset, at, frame))
        self.fold.pop(key, None)
        if data is not None:
            self.fold[key] = at

    def deliver(self) -> None:
        if self.on_the_way:
            self.ring.append(self.on_the_way.popleft(), 0.0)

    def restart(self) -> None:
        """The consumer begins anew, and has read all of the log."""
        self.values = self._table()
        self.table += 1
        for record in sorted((r for p in self.log.partitions for r in p), key=lambda r: r[1]):
            assert record.key is not None
            self.values.put(record.key, record.timestamp_ms, record.data)

    def subscribe_somebody(self) -> None:
        self.subscribe(self.rng.choice(FILTERS))

    def subscribe(self, keys: KeyFilter | None) -> Client:
        client = Client(keys, self.form)
        fanout = self.plain if client.keys is None else self.keyed
        client.fanout = fanout
        self.clients.append(client)
        filters = {} if client.keys is None else {"energy": client.keys}
        request = Subscribe(("energy",), {}, None, OnLag.SKIP, filters=filters, snapshot=True)
        source: Any = self
        feed = Feed(source, self._snapshot(client.keys), client.subject, lambda: None)
        reply = fanout.subscribe(client, request, None, 0.0, feed)
        assert reply.position == str(self.head)
        assert reply.snapshot == feed.told
        client.since_ms = feed.told.since_ms or 0
        return client

    def _snapshot(self, keys: KeyFilter | None) -> Snapshot:
        table = self.values
        state = self._state()
        if keys is not None and not keys.prefixes:
            found = [value for key in keys.exact if (value := table.find(key)) is not None]
            frames = [FRAMES.snapshot(*value) for value in found]
            return Snapshot(state, len(frames), b"".join(frames), len(frames))
        step = self._scan(Scan("energy", keys, state, 0))
        assert step is not None
        return Snapshot(state, step.frames, step.data, None, step.scan)

    def _scan(self, scan: Scan) -> Step | None:
        if scan.state.table != str(self.table):
            return None
        values, left = self.values.scan(
            scan.slot, scan.state.changes, scan.keys, self.step_slots, 1 << 20
        )
        data = b"".join(FRAMES.snapshot(*value) for value in values)
        rest = None if left is None else Scan("energy", scan.keys, scan.state, left)
        return Step(len(values), data, rest, self._state())

    def _state(self) -> TableState:
        table = self.values
        return TableState(
            self.head,
            table.complete,
            table.since_ms,
            len(table),
            str(self.table),
            table.changes,
        )

    def step(self, scan: Scan, subject: str, done: Callable[[Step | None], None]) -> Step | None:
        """The part of SnapshotClient that a feed uses."""
        if scan.state.table == str(self.table) and self.rng.random() < 0.3:
            return self._scan(scan)
        self.deferred.append((scan, done))
        return None

    def answer_step(self) -> None:
        if self.deferred:
            scan, done = self.deferred.pop(0)
            done(self._scan(scan))

    def answer_log(self) -> None:
        if self.log.requested:
            position = self.log.requested[0]
            self.log.answer(position)
            for fanout in (self.plain, self.keyed):
                fanout.catch_up.arrived(position)

    def work(self) -> None:
        for fanout in (self.plain, self.keyed):
            fanout.work(self.rng.choice([1, 3, 50]), 0.0)

    def pause(self) -> None:
        if self.clients and (client := self.rng.choice(self.clients)).writable:
            client.pause()

    def resume(self) -> None:
        if self.clients and not (client := self.rng.choice(self.clients)).writable:
            client.resume()

    def leave(self) -> None:
        if self.clients and self.rng.random() < 0.3:
            client = self.clients.pop(self.rng.randrange(len(self.clients)))
            for fanout in (self.plain, self.keyed):
                fanout.leave(client)

    def settle(self) -> None:
        while self.on_the_way:
            self.deliver()
        for client in self.clients:
            if not client.writable:
                client.resume()
        for _ in range(10_000):
            self.answer_step()
            self.answer_log()
            self.work()
            if not (
                self.deferred
                or self.log.requested
                or any(each.is_busy() or each.has_news() for each in (self.plain, self.keyed))
            ):
                return
        raise AssertionError("no end after 10,000 turns")


@given(st.integers(0, 2**32))
def test_snapshot_and_what_follows_are_the_fold_of_the_log(seed: int) -> None:
    world = World(seed)
    actions = [
        *[world.publish] * 6,
        *[world.deliver] * 6,
        *[world.work] * 4,
        *[world.subscribe_somebody] * 2,
        world.answer_step,
        world.answer_log,
        world.pause,
        world.resume,
        world.resume,
        world.leave,
        *([world.restart] if world.rng.random() < 0.3 else []),
    ]
    for _ in range(world.rng.randrange(120)):
        world.rng.choice(actions)()
    world.settle()
    for client in world.clients:
        known = client.fold()
        if client.gone or client.has_gap:
            # It begins anew, or was told what it lacks.
            continue
        keys = client.keys
        fold = {
            key.decode(): at for key, at in world.fold.items() if keys is None or keys.admits(key)
        }
        since_ms = client.told_since_ms()
        assert known.items() <= fold.items()
        assert all(at < since_ms for key, at in fold.items() if key not in known)


@pytest.fixture
def world() -> World:
    """20 records that the worker has, and a scan takes many steps."""
    made = World(1)
    made.form, made.step_slots = Form.PLAIN, 1
    made.plain = Fanout("energy", made.ring, made.plain.catch_up._log, Board.create().row(0))
    for _ in range(20):
        made.publish()
        made.deliver()
    return made


@pytest.mark.parametrize("keys", FILTERS[:2])
def test_position_comes_right_after_the_snapshot(world: World, keys: KeyFilter | None) -> None:
    begun = str(world.head)
    client = world.subscribe(keys)
    world.publish()
    world.settle()
    kinds = [message["type"] for message in client.received]
    at = kinds.index("position")
    assert set(kinds[:at]) == {"snapshot"}
    assert client.received[at] == {"type": "position", "stream": "energy", "id": begun}


def test_client_amid_a_snapshot_is_told_no_position(world: World) -> None:
    client = world.subscribe(FILTERS[2])
    world.work()
    assert world.keyed.last_word(client) is None
    world.settle()
    world.publish()
    world.settle()
    assert [message["type"] for message in client.received].count("position") == 1


def test_client_is_closed_where_the_rest_of_its_snapshot_is_gone(world: World) -> None:
    client = world.subscribe(None)
    world.restart()
    world.settle()
    assert client.gone


def test_another_topic_ends_a_snapshot_under_way(world: World) -> None:
    client = world.subscribe(None)
    other = Ring(History(), from_offsets("bbbb0000", [0, 0]), keyed=True)
    world.plain.restart(other)
    world.plain.work(100, 0.0)
    assert [message["type"] for message in client.received] == ["lagged"]


def _milliseconds(timestamp: str) -> int:
    return 1_000 * int(timestamp[17:19]) + int(timestamp[20:23])
