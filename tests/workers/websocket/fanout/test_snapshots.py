"""A snapshot and what follows it: always the fold of the log, whatever happens meanwhile."""

from __future__ import annotations

import random
from collections import deque
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.process.board import Board
from energyws.protocol.forms import Form
from energyws.protocol.keys import KeyFilter
from energyws.protocol.messages import OnLag, Subscribe, Subscribed
from energyws.protocol.position import Position, from_offsets
from energyws.settings import History
from energyws.stream.history import Stored
from energyws.stream.ring import Entry, Ring
from tests.workers.websocket.fanout.one_stream import (
    EPOCH,
    FRAMES,
    FakeLog,
    ReadingClient,
)
from tests.workers.websocket.fanout.snapshot_table import Table
from workers.websocket.fanout.fanout import Fanout
from workers.websocket.fanout.fanouts import Fanouts
from workers.websocket.snapshots.feed import Feed

Fold = dict[bytes, int]
KEYS = [b"a1", b"a2", b"b1", b"b2", b"b3"]
FILTERS = [
    None,
    KeyFilter(frozenset({b"a1", b"b2"})),
    KeyFilter(frozenset({b"a1"}), (b"b",)),
]


class Client(ReadingClient):
    """Keeps the newest record of each key."""

    def __init__(self, world: World, keys: KeyFilter | None) -> None:
        super().__init__()
        self.world = world
        self.form = world.form
        self.keys = keys
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

    def pause(self) -> None:
        self.writable = False
        for fanout in self.world.all:
            fanout.pause_writing(self)

    def resume(self) -> None:
        self.writable = True
        for fanout in self.world.all:
            fanout.resume_writing(self)

    def begins(self, keys: KeyFilter | None, *, anew: bool) -> None:
        """It gets these keys from now on. anew: all that it knew before is void."""
        self.keys = keys
        self.received.append({"type": "subscribed", "keys": keys, "anew": anew})

    def fold(self) -> tuple[set[bytes], Fold]:
        """The keys of which it has all, and the newest record of each of those that has one.

        Fails for something that is foreign, or from before what it knew already.
        """
        wanted: Any = None
        has = set(KEYS)
        known: Fold = {}
        here: Fold = {}
        for message in self.received:
            if message["type"] == "subscribed":
                wanted = message["keys"]
                # What it wants from now on, it gets from now on.
                has = {key for key in has if _admits(wanted, key) and not message["anew"]}
                known = {key: at for key, at in known.items() if key in has}
                here = {key: at for key, at in here.items() if key in has}
            if message["type"] not in ("snapshot", "data", "removed"):
                continue
            key, at = str(message["key"]).encode(), _milliseconds(str(message["timestamp"]))
            assert _admits(wanted, key)
            assert at > known.get(key, -1)
            assert key in has or message["type"] != "snapshot"
            has.add(key)
            known[key] = at
            here.pop(key, None)
            if message["type"] != "removed":
                here[key] = at
        return has, here


def _admits(keys: KeyFilter | None, key: bytes) -> bool:
    return keys is None or keys.admits(key)


class World:
    """A consumer, a worker that is behind it, and the log; record n was written at n ms."""

    def __init__(self, seed: int, form: Form | None = None) -> None:
        self.rng = rng = random.Random(seed)
        self.log = FakeLog()
        self.count = 0
        self.fold: dict[bytes, int] = {}
        self.offsets = [0, 0]
        self.table = Table(
            rng.choice([1, 3, 100]), lambda: rng.random() < 0.3, rng.choice([3, 1_000, 1_000])
        )
        self.on_the_way: deque[Entry] = deque()
        row, limits = Board.create().row(0), History(max_frames=rng.choice([4, 15, 1_000]))
        self.ring = Ring(limits, from_offsets(EPOCH, [0, 0]), keyed=True)
        log: Any = self.log
        self.form = form or rng.choice([Form.PLAIN, Form.SSE, Form.DEFLATE])
        turns: Any = SimpleNamespace(fanouts=deque())
        self.fanouts = Fanouts(turns, log, row)
        self.fanouts.begin("energy", self.ring)
        self.clients: list[Client] = []

    @property
    def all(self) -> list[Fanout]:
        return self.fanouts.all("energy")

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
        self.table.values.put(key, at, data)
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
        self.table.begin_anew(record for each in self.log.partitions for record in each)

    def subscribe_somebody(self) -> None:
        self.subscribe(self.rng.choice(FILTERS))

    def subscribe(self, keys: KeyFilter | None) -> Client:
        client = Client(self, keys)
        self.clients.append(client)
        feed = self.table.feed(client.keys, self.head, client.subject)
        reply = self._subscribe(client, keys, feed)
        assert reply.position == str(self.head)
        assert reply.snapshot == feed.told
        client.since_ms = feed.told.since_ms or 0
        client.begins(keys, anew=False)
        return client

    def _subscribe(
        self, client: Client, keys: KeyFilter | None, feed: Feed | None = None
    ) -> Subscribed:
        filters = {} if keys is None else {"energy": keys}
        request = Subscribe(
            ("energy",), {}, None, OnLag.SKIP, filters=filters, snapshot=feed is not None
        )
        return self.fanouts.subscribe("energy", client, request, None, 0.0, feed)

    def subscribe_again(self) -> None:
        """Somebody wants other keys, perhaps amid a snapshot."""
        if self.clients and not (client := self.rng.choice(self.clients)).gone:
            before, keys = client.keys, self.rng.choice(FILTERS)
            reply = self._subscribe(client, keys)
            # Who never has had a filter begins anew.
            client.begins(keys, anew=before is None and keys is None)
            assert reply.snapshot is None or reply.snapshot.keys is None

    def answer_log(self) -> None:
        if self.log.requested:
            position = self.log.requested[0]
            self.log.answer(position)
            for fanout in self.all:
                fanout.catch_up.arrived(position)

    def work(self) -> None:
        for fanout in self.all:
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
            for fanout in self.all:
                fanout.leave(client)

    def settle(self) -> None:
        while self.on_the_way:
            self.deliver()
        for client in self.clients:
            if not client.writable:
                client.resume()
        for _ in range(10_000):
            self.table.answer()
            self.answer_log()
            self.work()
            if not (
                self.table.waits
                or self.log.requested
                or any(each.is_busy() or each.has_news() for each in self.all)
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
        world.subscribe_again,
        world.table.answer,
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
        has, known = client.fold()
        if client.gone or client.has_gap:
            # It begins anew, or was told what it lacks.
            continue
        fold = {key: at for key, at in world.fold.items() if key in has}
        since_ms = client.told_since_ms()
        assert known.items() <= fold.items()
        assert all(at < since_ms for key, at in fold.items() if key not in known)


@pytest.fixture
def world() -> World:
    """20 records that the worker has, and a scan takes many steps."""
    made = World(1, Form.PLAIN)
    made.table.slots = 1
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
    assert set(kinds[1:at]) == {"snapshot"}
    assert client.received[at] == {"type": "position", "stream": "energy", "id": begun}


def test_client_amid_a_snapshot_is_told_no_position(world: World) -> None:
    client = world.subscribe(FILTERS[2])
    world.work()
    assert world.fanouts.keyed["energy", Form.PLAIN].last_word(client) is None
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
    world.fanouts.plain["energy"].restart(other)
    world.fanouts.plain["energy"].work(100, 0.0)
    assert [message["type"] for message in client.received] == ["subscribed", "lagged"]


def _milliseconds(timestamp: str) -> int:
    return 1_000 * int(timestamp[17:19]) + int(timestamp[20:23])
