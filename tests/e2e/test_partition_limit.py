"""Topics with very many partitions: served up to the limit, refused with a reason beyond it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from energyws.protocol.position import MAX_PARTITIONS
from energyws.testing import Broker, ExternalBroker, Records, Service, eventually
from tests.clients import Peer, open_peer

pytestmark = pytest.mark.e2e

Serve = Callable[..., Service]
SHALLOW = {"max_frames": 5, "warm": 2}
TOO_MANY = "stream wide: the topic has too many partitions"


@pytest.fixture
def wide(broker: Broker, topic: str) -> str:
    """A topic with as many partitions as can be served."""
    name = f"{topic}-wide"
    broker.create_topic(name, MAX_PARTITIONS)
    return name


def send(records: Records, count: int) -> list[int]:
    """Numbered records to partitions from the first to the last."""
    numbers = list(range(records.sent, records.sent + count))
    places = [0, MAX_PARTITIONS - 1, *random.sample(range(MAX_PARTITIONS), count)][:count]
    for number, partition in zip(numbers, places, strict=True):
        records.raw(orjson.dumps({"n": number}), partition)
    records.sent += count
    records.flush()
    return numbers


def reasons(service: Service) -> list[str]:
    """The service's reasons not to be ready."""
    answer: dict[str, Any] = service.admin("/ready")[1]
    found: list[str] = answer.get("reasons", [])
    return found


@pytest.mark.parametrize("history", [SHALLOW, {}], ids=["log", "memory"])
def test_as_many_partitions_as_a_position_holds_are_served(
    serve: Serve, broker: Broker, wide: str, history: dict[str, int]
) -> None:
    records = Records(broker.bootstrap, wide)
    service = serve(kafka={"topic": wide}, history=history).ready()
    with open_peer(service) as peer:
        begin = peer.subscribe()["position"]
        numbers = send(records, 30)
        assert sorted(peer.numbers(30)) == numbers
    for query in ("", f"?subscribe=energy&resume={begin}"):
        with open_peer(service, query=query) as peer:
            reply = subscribed(peer, begin, query)
            assert (reply["recovered"], reply["replayed"]) == (True, 30)
            assert sorted(peer.numbers(30)) == numbers


def subscribed(peer: Peer, begin: str, query: str) -> dict[str, Any]:
    """The stream's part of `subscribed`, after a message or a query in the URL."""
    if not query:
        return peer.subscribe(resume={"energy": begin})
    reply: dict[str, Any] = peer.until("subscribed")["positions"]["energy"]
    return reply


def test_one_partition_more_is_refused_with_a_reason_and_other_streams_continue(
    serve: Serve, broker: Broker, topic: str, records: Records
) -> None:
    wide = f"{topic}-wider"
    broker.create_topic(wide, MAX_PARTITIONS + 1)
    streams = {"energy": {"topic": topic}, "wide": {"topic": wide}}
    service = serve(streams=streams)
    with open_peer(service) as peer:
        peer.subscribe()
        numbers = records.send(3)
        assert sorted(peer.numbers(3)) == numbers
        service.wait_logged("topic cannot be read", "it has 1025 partitions, more than 1024")
        eventually(lambda: TOO_MANY in reasons(service), "/ready names it")
        peer.send({"type": "subscribe", "streams": ["wide"]})
        assert peer.ask({"type": "ping"})["type"] in ("notice", "error", "pong")
    assert not service.logged("Traceback")


def test_a_topic_that_outgrows_the_limit_keeps_its_known_partitions(
    serve: Serve, broker: Broker, wide: str
) -> None:
    if not isinstance(broker, ExternalBroker):
        pytest.skip("the embedded broker cannot add a partition to a topic")
    records = Records(broker.bootstrap, wide)
    service = serve(
        streams={"wide": {"topic": wide}}, history=SHALLOW, server={"workers": 1}
    ).ready()
    subscribe: dict[str, Any] = {"type": "subscribe", "streams": ["wide"]}
    with open_peer(service) as peer:
        peer.send(subscribe)
        begin = peer.until("subscribed")["positions"]["wide"]["position"]
        broker.add_partitions(wide, MAX_PARTITIONS + 1)
        eventually(lambda: TOO_MANY in reasons(service), "/ready names it")
        numbers = send(records, 30)
        assert sorted(peer.numbers(30)) == numbers
    with open_peer(service) as peer:
        peer.send({**subscribe, "resume": {"wide": begin}})
        assert peer.until("subscribed")["positions"]["wide"]["recovered"]
        assert sorted(peer.numbers(30)) == numbers
    assert not service.logged("Traceback")
