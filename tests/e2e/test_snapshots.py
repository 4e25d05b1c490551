"""The newest record of each key first, then what follows: no gap, no overlap."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from energyws.testing import Records, Service, eventually
from tests.clients import Peer, open_peer
from tests.http_clients import EventSource, fetch

pytestmark = pytest.mark.e2e

Serve = Callable[..., Service]
Fold = dict[str, int]


def stream(topic: str, **snapshot: Any) -> dict[str, Any]:
    return {
        "kafka": {"topic": None},
        "streams": {
            "energy": {"topic": topic, "key": "record", "snapshot": {"enabled": True, **snapshot}}
        },
    }


class Writer:
    """Writes changes of random keys, and knows what is left of them. One partition: in order."""

    def __init__(self, records: Records, keys: int = 12) -> None:
        self._records = records
        self._keys = keys
        self._rng = random.Random(20261128)
        self.fold: Fold = {}
        self.count = 0

    def write(self, count: int) -> None:
        for _ in range(count):
            key = f"k{self._rng.randrange(self._keys)}"
            if self._rng.random() < 0.2:
                self._records.raw(None, key=key.encode())
                self.fold.pop(key, None)
            else:
                self._records.raw(orjson.dumps({"n": self.count}), key=key.encode())
                self.fold[key] = self.count
            self.count += 1
        self._records.flush()

    def end(self) -> None:
        """A last record, whose number ends each client's reading."""
        self._records.raw(orjson.dumps({"n": -1}), key=b"end")
        self._records.flush()


class Reader:
    """One client's state, made of a snapshot and what follows it."""

    def __init__(self, peer: Peer, **fields: Any) -> None:
        self._peer = peer
        self.fold: Fold = {}
        peer.send({"type": "subscribe", "streams": ["energy"], "snapshot": True, **fields})
        self.subscribed = peer.until("subscribed")
        self.told = self.subscribed.get("snapshots", {}).get("energy")
        self.position = self.subscribed["positions"]["energy"]["position"]
        self.keys = 0
        if self.told is None:
            return
        assert self.told["position"] == self.position
        while (message := peer.receive())["type"] == "snapshot":
            assert "id" not in message
            assert message["key"] not in self.fold
            self.fold[message["key"]] = message["data"]["n"]
            self.keys += 1
        assert message == {"type": "position", "stream": "energy", "id": self.position}

    def read_to_the_end(self) -> Fold:
        while True:
            message = self._peer.receive()
            match message["type"]:
                case "data" if message["key"] == "end":
                    return self.fold
                case "data":
                    # Never one from before what is known already.
                    assert message["data"]["n"] > self.fold.get(message["key"], -1)
                    self.fold[message["key"]] = message["data"]["n"]
                case "removed":
                    self.fold.pop(message["key"], None)
                case other:
                    assert other == "position"


@pytest.fixture
def writer(records: Records) -> Writer:
    return Writer(records)


@pytest.fixture
def peers(serve: Serve, topic: str) -> Iterator[Callable[..., Peer]]:
    """`peers(service)`: a client; all are closed at the end."""
    opened: list[Peer] = []

    def connect(service: Service) -> Peer:
        opened.append(open_peer(service))
        return opened[-1]

    yield connect
    for each in opened:
        each.close()


def only(fold: Fold, keys: list[str] | None) -> Fold:
    """What a client that asks for these keys has of it."""
    if keys is None:
        return fold
    return {key: number for key, number in fold.items() if key in keys}


@pytest.mark.parametrize("keys", [["k1", "k5", "k7", "none", "end"], None])
def test_snapshot_and_what_follows_are_the_fold_of_the_log_under_traffic(
    serve: Serve,
    topic: str,
    writer: Writer,
    peers: Callable[..., Peer],
    keys: list[str] | None,
) -> None:
    writer.write(300)
    service = serve(**stream(topic)).ready()
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.002):
            writer.write(3)

    thread = threading.Thread(target=write)
    thread.start()
    fields = {} if keys is None else {"keys": {"energy": keys}}
    try:
        readers = [Reader(peers(service), **fields) for _ in range(12)]
        # The consumer begins anew amid traffic, and reads old records again.
        service.children()["consumer"].kill()
        eventually(lambda: service.boards().get("consumer", {}).get("snapshot_state") == 2, "warm")
        readers += [Reader(peers(service), **fields) for _ in range(6)]
    finally:
        stop.set()
        thread.join()
    writer.end()
    for reader in readers:
        assert only(reader.read_to_the_end(), keys) == only(writer.fold, keys)
        assert reader.told["keys"] == reader.keys
    assert all(reader.told["complete"] for reader in readers[:12])


def test_quiet_topic_gives_what_it_has_and_then_nothing(
    serve: Serve, topic: str, writer: Writer, peers: Callable[..., Peer]
) -> None:
    writer.write(100)
    service = serve(**stream(topic)).ready()
    eventually(lambda: service.boards()["consumer"]["snapshot_state"] == 2, "it is warm")
    reader = Reader(peers(service))
    assert reader.fold == writer.fold
    assert reader.told == {
        "position": reader.position,
        "complete": True,
        "since": None,
        "keys": len(writer.fold),
    }


def test_client_that_recovers_gets_no_snapshot(
    serve: Serve, topic: str, writer: Writer, peers: Callable[..., Peer]
) -> None:
    writer.write(50)
    history = {"max_frames": 20, "warm": 5, "max_messages": 60}
    service = serve(**stream(topic), history=history).ready()
    first = Reader(peers(service))
    writer.write(40)
    again = Reader(peers(service), resume={"energy": first.position})
    assert again.told is None
    assert again.subscribed["positions"]["energy"]["recovered"]
    # One that was away for longer than it may ask back gets one, and is told why.
    writer.write(80)
    eventually(
        lambda: Reader(peers(service)).position.endswith("-170.0.0"), "everything has been read"
    )
    late = Reader(peers(service), resume={"energy": first.position})
    place = late.subscribed["positions"]["energy"]
    assert (place["recovered"], place["reason"]) == (False, "HISTORY_EXCEEDED")
    assert late.fold == writer.fold
    writer.end()
    again.fold = dict(first.fold)
    for reader in (first, again, late):
        assert reader.read_to_the_end() == writer.fold


def test_table_says_what_it_lacks(
    serve: Serve, topic: str, records: Records, peers: Callable[..., Peer]
) -> None:
    for number in range(30):
        records.raw(orjson.dumps({"n": number}), key=b"k%d" % number)
    records.flush()
    service = serve(**stream(topic, max_keys=10)).ready()
    eventually(lambda: service.boards()["consumer"]["snapshot_warm_ms"] > 0, "it is warm")
    reader = Reader(peers(service))
    assert reader.fold == {f"k{number}": number for number in range(20, 30)}
    assert not reader.told["complete"]
    assert reader.told["since"] is not None


def test_stream_without_snapshots_refuses(
    serve: Serve, topic: str, peers: Callable[..., Peer]
) -> None:
    sections = stream(topic)
    sections["streams"]["energy"]["snapshot"] = {"enabled": False}
    service = serve(**sections).ready()
    peer = peers(service)
    error = peer.ask({"type": "subscribe", "streams": ["energy"], "snapshot": True})
    assert (error["type"], error["code"]) == ("error", "SNAPSHOT_UNAVAILABLE")
    assert peer.subscribe()["position"]


def test_event_stream_begins_with_a_snapshot_whose_place_comes_at_its_end(
    serve: Serve, topic: str, writer: Writer
) -> None:
    writer.write(60)
    service = serve(**stream(topic)).ready()
    with EventSource(service, "?snapshot=1") as source:
        first = source.next()
        assert first is not None
        assert (first.name, first.id) == ("subscribed", "")
        found: Fold = {}
        while len(found) < len(writer.fold):
            event = source.next()
            assert event is not None
            assert event.name == "snapshot"
            found[event.json["key"]] = event.json["data"]["n"]
        assert found == writer.fold
        writer.end()
        event = source.next()
        assert event is not None
        assert event.json["key"] == "end"


@pytest.mark.parametrize("query", ["", "&key=k1&key=k5&key=none"])
def test_script_gets_the_newest_record_of_each_key_and_where_it_can_go_on(
    serve: Serve, topic: str, writer: Writer, query: str
) -> None:
    writer.write(300)
    service = serve(**stream(topic)).ready()
    eventually(lambda: service.boards()["consumer"]["snapshot_state"] == 2, "it is warm")
    wanted = ["k1", "k5", "none"] if query else None
    for _ in range(3):
        answer = fetch(service, f"/last/energy?snapshot=1{query}")
        assert (answer.status, answer.cut) == (200, False)
        found: Fold = {}
        for record in answer.json["records"]:
            found.pop(record["key"], None)
            if record["type"] != "removed":
                found[record["key"]] = record["data"]["n"]
        assert found == only(writer.fold, wanted)
        snapshot = answer.json["snapshot"]
        assert (snapshot["complete"], snapshot["since"]) == (True, None)
        # What it begins after is what comes next.
        resume = answer.json["position"]
        writer.write(20)
        eventually(
            lambda: all(
                board["frames"] >= writer.count
                for name, board in service.boards().items()
                if name != "consumer"
            ),
            "the workers have them",
        )
        keys = query.replace("&key=none", "")
        after = fetch(service, f"/history/energy?after={resume}{keys}").body.splitlines()
        fold = dict(found)
        for message in map(orjson.loads, after[:-1]):
            fold.pop(message["key"], None)
            if message["type"] == "data":
                fold[message["key"]] = message["data"]["n"]
        assert fold == only(writer.fold, wanted)


def test_client_that_wants_a_few_keys_amid_a_snapshot_of_all_has_these(
    serve: Serve, topic: str, records: Records, peers: Callable[..., Peer]
) -> None:
    count = 4_000
    for number in range(count):
        # Far more together than buffers on the way to a client take.
        record = orjson.dumps({"n": number, "pad": "x" * 600})
        records.raw(record, key=b"k%d" % number)
    records.flush()
    service = serve(**stream(topic, wait_seconds=60)).ready()
    peer = peers(service)
    peer.send({"type": "subscribe", "streams": ["energy"], "snapshot": True})
    first = peer.until("subscribed")
    keys = [f"k{number}" for number in range(0, count, 100)]
    peer.send({"type": "subscribe", "streams": ["energy"], "keys": {"energy": keys}})
    values: list[str] = []
    while (message := peer.receive())["type"] == "snapshot":
        values.append(message["key"])
    assert message["type"] == "subscribed"
    position = first["positions"]["energy"]["position"]
    assert message["positions"]["energy"]["position"] == position
    goes_on = {"position": position, "complete": True, "since": None, "keys": None}
    assert (message["keys"], message["snapshots"]) == ({"energy": len(keys)}, {"energy": goes_on})
    assert len(values) < count
    rest: list[str] = []
    while (message := peer.receive())["type"] == "snapshot":
        rest.append(message["key"])
    assert message == {"type": "position", "stream": "energy", "id": position}
    # Each of them came before or after it asked, and no other after it.
    assert set(rest) <= set(keys) <= {*values, *rest}
    assert len({*values, *rest}) == len(values) + len(rest)
    records.raw(b'{"n":0}', key=b"k1")
    records.raw(b'{"n":-1}', key=b"k100")
    records.flush()
    assert peer.until("data")["key"] == "k100"
