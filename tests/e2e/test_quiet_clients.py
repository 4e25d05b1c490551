"""Clients of keys on which little comes: they know where they are, and lose nothing in a roll."""

from __future__ import annotations

import signal
from typing import Any

import orjson
import pytest

from energyws.protocol.position import parse
from energyws.testing import Broker, Records, Service, eventually
from tests.clients import Peer, open_peer
from tests.conftest import new_topic
from tests.e2e.test_keys import Serve

pytestmark = [pytest.mark.e2e, pytest.mark.edge]


@pytest.fixture
def records(broker: Broker) -> Records:
    return Records(broker.bootstrap, new_topic(broker))


def begin(serve: Serve, records: Records, **server: Any) -> Service:
    streams = {"energy": {"topic": records.topic, "key": "/meter"}}
    return serve(
        kafka={"topic": None},
        streams=streams,
        server={"workers": 1, "drain_seconds": 0.2, **server},
    ).ready()


def write(records: Records, *meters: str) -> None:
    for meter in meters:
        records.send(1, meter=meter)


def written(service: Service, count: int) -> None:
    eventually(lambda: service.boards()["worker-0"]["frames"] >= count, "the worker has them")


def test_quiet_client_hears_where_it_is(serve: Serve, records: Records) -> None:
    service = begin(serve, records, position_seconds=0.5)
    with open_peer(service) as peer:
        begins = peer.subscribe(keys={"energy": ["mine"]})["position"]
        write(records, "other", "another")
        written(service, 2)
        # By itself, and after a ping if there is more.
        place = peer.until("position")["id"]
        assert place != begins
        write(records, "other")
        written(service, 3)
        peer.send({"type": "ping"})
        assert peer.until("position")["id"] != place
        write(records, "mine")
        assert peer.receive()["key"] == "mine"


def test_roll_reads_no_log_and_repeats_nothing(serve: Serve, records: Records) -> None:
    service = begin(serve, records)
    with open_peer(service) as peer:
        peer.subscribe(keys={"energy": ["mine"]})
        write(records, "mine", *["other"] * 20)
        peer.until("data")
        written(service, 21)
        service.signal(signal.SIGUSR2)
        place = peer.receive()
        assert place["type"] == "position"
        assert peer.receive()["type"] == "reconnect"
    with open_peer(service) as peer:
        reply = peer.subscribe(keys={"energy": ["mine"]}, resume={"energy": place["id"]})
        assert (reply["recovered"], reply["replayed"]) == (True, 0)
        write(records, "other", "mine")
        assert peer.receive()["key"] == "mine"
    assert service.boards()["consumer"]["read_back"] == 0


def test_gauges_get_the_newest_and_the_count_of_the_rest(serve: Serve, records: Records) -> None:
    service = begin(serve, records)
    query = "?subscribe=energy&max_rate=0.5"
    with (
        open_peer(service, query=query) as any_key,
        open_peer(service, query=f"{query}&key=mine") as one,
    ):
        for peer in (any_key, one):
            peer.until("subscribed")
        for number in range(30):
            # In one partition: between two, their order is any.
            records.raw(orjson.dumps({"n": number, "meter": "mine"}))
        records.flush()
        for peer in (any_key, one):
            seen = _seen(peer, 30)
            numbers = [each["data"]["n"] for each in seen if each["type"] == "data"]
            assert numbers[-1] == 29
            assert len(numbers) <= 3
            assert len(numbers) + sum(each.get("conflated", 0) for each in seen) == 30


def _seen(peer: Peer, last: int) -> list[dict[str, Any]]:
    """Everything up to the position after this many records."""
    seen = []
    while True:
        seen.append(peer.receive())
        if seen[-1]["type"] == "position" and sum(parse(seen[-1]["id"]).offsets) == last:
            return seen
