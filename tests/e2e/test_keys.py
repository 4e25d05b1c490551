"""Keys of records: in live frames, in history and in answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from energyws.testing import Broker, Records, Service, eventually
from tests.clients import Peer, open_peer
from tests.conftest import new_topic
from tests.http_clients import fetch

pytestmark = pytest.mark.e2e

Serve = Callable[..., Service]
KEYS = {"record": "record", "header": "header:meter", "value": "/tags/meter"}


class Topics:
    """Producers for a stream per place of a key; all write to one partition, so ids are exact."""

    def __init__(self, broker: Broker) -> None:
        self.records = {name: Records(broker.bootstrap, new_topic(broker)) for name in KEYS}

    def streams(self, **more: str) -> dict[str, dict[str, str]]:
        return {
            name: {"topic": self.records[name].topic, "key": key, **more}
            for name, key in KEYS.items()
        }

    def write(self, number: int, key: str | None) -> None:
        """A record with the same key in each stream."""
        raw = None if key is None else key.encode()
        tags = {} if key is None else {"meter": key}
        self.records["record"].raw(orjson.dumps({"n": number}), key=raw)
        headers = [("meter", b"x"), ("meter", raw), ("other", b"y")]
        self.records["header"].raw(orjson.dumps({"n": number}), headers=headers)
        self.records["value"].raw(orjson.dumps({"n": number, "tags": tags}))
        self.flush()

    def remove(self, key: str) -> None:
        self.records["record"].raw(None, key=key.encode())
        self.records["header"].raw(None, headers=[("meter", key.encode())])
        self.records["value"].raw(None)
        self.flush()

    def flush(self) -> None:
        for each in self.records.values():
            each.flush()


@pytest.fixture
def topics(broker: Broker) -> Topics:
    return Topics(broker)


def begin(peer: Peer, **fields: Any) -> dict[str, str]:
    """Subscribe to all streams; where each begins."""
    reply = peer.ask({"type": "subscribe", "streams": [*KEYS], **fields})
    return {name: each["position"] for name, each in reply["positions"].items()}


def texts(peer: Peer, counts: dict[str, int]) -> dict[str, list[bytes]]:
    """The next messages of each stream, byte by byte."""
    found: dict[str, list[bytes]] = {name: [] for name in counts}
    while any(len(found[name]) < count for name, count in counts.items()):
        text = peer.connection.recv(timeout=20, decode=False)
        found[orjson.loads(text)["stream"]].append(text)
    return found


def test_history_has_the_bytes_of_live_frames(serve: Serve, topics: Topics) -> None:
    history = {"max_frames": 2, "warm": 0}
    service = serve(kafka={"topic": None}, streams=topics.streams(), history=history).ready()
    counts = {"record": 32, "header": 32, "value": 30}
    with open_peer(service) as peer:
        start = begin(peer)
        for number in range(30):
            topics.write(number, None if number % 7 == 3 else f'm"{number % 5}é')
        topics.remove("m0")
        topics.remove("m\\1")
        live = texts(peer, counts)

    with open_peer(service) as peer:
        assert begin(peer, resume=start) == start
        assert texts(peer, counts) == live

    for name, lines in live.items():
        messages = [orjson.loads(line) for line in lines]
        expected = [None if n % 7 == 3 else f'm"{n % 5}é' for n in range(30)]
        assert [each.get("key") for each in messages[:30]] == expected
        assert [each["data"]["n"] for each in messages[:30]] == list(range(30))
        removed = [(each["type"], each["key"]) for each in messages[30:]]
        assert removed == ([] if name == "value" else [("removed", "m0"), ("removed", "m\\1")])
        assert fetch(service, f"/last/{name}?last=2").json["records"] == messages[-2:]


def test_nobody_gets_records_without_a_key_where_access_is_keyed(
    serve: Serve, topics: Topics
) -> None:
    streams = topics.streams(access="keyed")
    service = serve(kafka={"topic": None}, streams=streams).ready()
    for number in range(4):
        topics.write(number, f"m{number}" if number % 2 else None)
    for stream in streams.values():
        line = service.wait_logged("record without a key is not published", stream["topic"])
        assert "m1" not in line
    eventually(
        lambda: service.boards()["consumer"]["frames"] == 6, "records with a key are published"
    )
