"""Records with schemas through the whole service, and a registry that comes and goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from http.client import HTTPConnection

import orjson
import pytest
from confluent_kafka import Producer

from energyws.testing import Broker, SchemaRegistry, Service, eventually, token
from tests.clients import Peer, open_peer
from tests.conftest import new_topic
from tests.schemas.samples import (
    AVRO,
    PROTO,
    avro,
    avro_json,
    frame,
    guid_header,
    proto,
    proto_json,
)

pytestmark = pytest.mark.e2e

WAITS = "the schema of its next record cannot be fetched"


class Topic:
    """A topic, and the registry that has the schemas of its records."""

    def __init__(self, broker: Broker, registry: SchemaRegistry) -> None:
        self.name = new_topic(broker)
        self.registry = registry
        self._producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0})

    def send(
        self, value: bytes, partition: int = 0, headers: list[tuple[str, bytes]] | None = None
    ) -> None:
        self._producer.produce(self.name, value, partition=partition, headers=headers)
        assert self._producer.flush(20) == 0


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as running:
        yield running


@pytest.fixture
def topics(broker: Broker, registry: SchemaRegistry) -> dict[str, Topic]:
    return {name: Topic(broker, registry) for name in ("avro", "protobuf", "json_schema")}


@pytest.fixture
def service(
    serve: Callable[..., Service], registry: SchemaRegistry, topics: dict[str, Topic]
) -> Service:
    """It has a stream of each format, by the format's name."""
    streams = {name: {"topic": topic.name, "format": name} for name, topic in topics.items()}
    asked = {"url": registry.url, "wait_seconds": 0.5}
    return serve(streams=streams, schema_registry=asked, server={"workers": 1}).ready()


def history(service: Service, stream: str) -> list[dict[str, object]]:
    """The `data` of the stream's messages, from the log."""
    connection = HTTPConnection("127.0.0.1", service.port, timeout=20)
    path = f"/history/{stream}?token={token()}&last=100"
    try:
        connection.request("GET", path)
        with connection.getresponse() as response:
            lines = response.read().splitlines()
    finally:
        connection.close()
    messages = [orjson.loads(line) for line in lines]
    return [each for each in messages if each["type"] == "data"]


def data(peer: Peer) -> dict[str, object]:
    return peer.until("data")


def skipped(service: Service) -> dict[str, float]:
    """The records that were skipped, by reason."""
    connection = HTTPConnection("127.0.0.1", service.admin_port, timeout=20)
    try:
        connection.request("GET", "/metrics")
        with connection.getresponse() as response:
            lines = response.read().decode().splitlines()
    finally:
        connection.close()
    name = 'energyws_skipped_records_total{reason="'
    rows = [line.removeprefix(name).split('"} ') for line in lines if line.startswith(name)]
    return {reason: float(count) for reason, count in rows if float(count)}


def test_each_format_arrives_as_json_live_and_from_the_log(
    service: Service, registry: SchemaRegistry, topics: dict[str, Topic]
) -> None:
    of_avro = registry.register(f"{topics['avro'].name}-value", AVRO)
    of_proto = registry.register(f"{topics['protobuf'].name}-value", PROTO, "PROTOBUF")
    with open_peer(service) as peer:
        peer.ask({"type": "subscribe", "streams": ["avro", "protobuf", "json_schema"]})
        topics["avro"].send(frame(of_avro, avro(1)))
        live = [data(peer)]
        topics["avro"].send(avro(2), headers=[guid_header(of_avro)])
        live.append(data(peer))
        assert [each["data"] for each in live] == [avro_json(1), avro_json(2)]
        assert history(service, "avro") == live

        topics["protobuf"].send(frame(of_proto, proto(1)))
        live = [data(peer)]
        assert live[0]["data"] == proto_json(1)
        assert history(service, "protobuf") == live

        topics["json_schema"].send(b'\0\0\0\0\1{"n": 1.0}')
        live = [data(peer)]
        assert live[0]["data"] == {"n": 1.0}
        assert history(service, "json_schema") == live
    # Once each, however many records; for JSON Schema, there is nothing to know.
    asked = [path for path in registry.requests if path.startswith("/schemas/")]
    assert sorted(asked) == ["/schemas/guids/" + of_avro.guid, "/schemas/ids/1", "/schemas/ids/2"]


def test_records_that_cannot_be_decoded_are_skipped_and_counted(
    service: Service, registry: SchemaRegistry, topics: dict[str, Topic]
) -> None:
    topic = topics["avro"]
    known = registry.register(f"{topic.name}-value", AVRO)
    with open_peer(service) as peer:
        peer.ask({"type": "subscribe", "streams": ["avro"]})
        topic.send(b'{"n": 1}')
        topic.send(b"\0\0\0\7\7" + avro(2))
        # Garbage to which registries answer as to a path that they do not have.
        registry.guids = False
        topic.send(b"\0\xff\xff\xff\xff")
        topic.send(b"\1" + bytes(16))
        topic.send(frame(known, avro(3) + b"x"))
        topic.send(frame(known, avro(4)))
        assert data(peer)["data"] == avro_json(4)
    assert skipped(service) == {"not_framed": 1, "unknown_schema": 3, "undecodable": 1}
    line = service.wait_logged("record skipped", "unknown_schema")
    assert "1799" in line
    assert history(service, "avro")[0]["data"] == avro_json(4)


def test_partition_waits_for_its_schema_and_others_go_on(
    service: Service, registry: SchemaRegistry, topics: dict[str, Topic]
) -> None:
    topic = topics["avro"]
    subject = f"{topic.name}-value"
    old = registry.register(subject, AVRO)
    new = registry.register(subject, {**AVRO, "doc": "the same, again"})
    with open_peer(service) as peer:
        peer.ask({"type": "subscribe", "streams": ["avro"]})
        topic.send(frame(old, avro(0)))
        assert data(peer)["data"] == avro_json(0)
        registry.down = True
        # One before it in the same partition, and one after it that is known.
        topic.send(frame(old, avro(1)))
        topic.send(frame(new, avro(2)))
        topic.send(frame(old, avro(3)))
        assert data(peer)["data"] == avro_json(1)
        topic.send(frame(old, avro(10)), partition=1)
        assert data(peer)["data"] == avro_json(10)
        # It says so, and still serves.
        reason = f"stream avro, partition 0: {WAITS}"
        eventually(lambda: reason in str(service.admin("/ready")[1]), "/ready names the partition")
        service.wait_logged("schema cannot be fetched", "503")
        topic.send(frame(old, avro(11)), partition=1)
        assert data(peer)["data"] == avro_json(11)
        registry.down = False
        assert [data(peer)["data"] for _ in range(2)] == [avro_json(2), avro_json(3)]
        eventually(lambda: service.admin("/ready")[0] == 200, "the service is ready again")
    assert skipped(service) == {}


def test_service_that_starts_without_the_registry_waits_and_skips_nothing(
    serve: Callable[..., Service], registry: SchemaRegistry, topics: dict[str, Topic]
) -> None:
    topic = topics["protobuf"]
    known = registry.register(f"{topic.name}-value", PROTO, "PROTOBUF")
    registry.down = True
    for n in range(3):
        topic.send(frame(known, proto(n)), partition=n)
    stream = {"topic": topic.name, "format": "protobuf"}
    asked = {"url": registry.url, "wait_seconds": 0.3}
    service = serve(streams={"protobuf": stream}, schema_registry=asked, server={"workers": 1})
    service.wait_logged("schema registry cannot be used as it is", "503")
    eventually(lambda: WAITS in str(service.admin("/ready")[1]), "/ready names the schema")
    assert service.admin("/ready")[0] == 503
    registry.down = False
    service.ready()
    with open_peer(service) as peer:
        peer.ask({"type": "subscribe", "streams": ["protobuf"], "last": 3})
        found = sorted(data(peer)["data"]["n"] for _ in range(3))  # type: ignore[index]
    assert found == [0, 1, 2]
    assert skipped(service) == {}


def test_each_client_gets_its_own_meter_of_a_topic_of_avro(
    serve: Callable[..., Service], registry: SchemaRegistry, topics: dict[str, Topic]
) -> None:
    topic = topics["avro"]
    known = registry.register(f"{topic.name}-value", AVRO)
    topic.send(frame(known, avro(0, "m2")))
    stream = {
        "topic": topic.name,
        "format": "avro",
        "key": "/meter",
        "access": "keyed",
        "snapshot": {"enabled": True},
    }
    asked = {"url": registry.url}
    service = serve(streams={"avro": stream}, schema_registry=asked, server={"workers": 1}).ready()
    bearer = {"Authorization": f"Bearer {token(keys=['m2'])}"}
    with open_peer(service, additional_headers=bearer) as peer:
        peer.send({"type": "subscribe", "streams": ["avro"], "snapshot": True})
        assert peer.until("snapshot")["data"]["n"] == 0
        topic.send(frame(known, avro(1, "m1")))
        topic.send(frame(known, avro(2, "m2")))
        found = data(peer)
    assert (found["key"], found["data"]) == ("m2", {**avro_json(2), "meter": "m2"})
