"""The embedded broker with real Kafka clients."""

from __future__ import annotations

import importlib.util
import re
import socket
import time

import confluent_kafka
import orjson
import pytest
from confluent_kafka import (
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
    cimpl,
)
from confluent_kafka.admin import AdminClient

from energyws.testing import embedded_broker as broker_module
from energyws.testing.embedded_broker import (
    EXPECTED_VERSION,
    BrokerError,
    EmbeddedBroker,
    main,
    obey,
)
from tests.testing.readers import DEADLINE, Readers

# The API key of a Metadata request.
METADATA = 3


def produce(bootstrap: str, count: int, topic: str = "energy", partitions: int = 3) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "log_level": 0})
    for number in range(count):
        producer.produce(topic, b"%d" % number, partition=number % partitions)
    assert producer.flush(DEADLINE) == 0


def admin(bootstrap: str) -> AdminClient:
    return AdminClient(
        {"bootstrap.servers": bootstrap, "allow.auto.create.topics": False, "log_level": 0}
    )


def topic_id(bootstrap: str, topic: str) -> str:
    client = admin(bootstrap)
    described = client.describe_topics(TopicCollection([topic]), request_timeout=DEADLINE)
    return str(described[topic].result().topic_id)


def poll(consumer: Consumer) -> Message:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is not None:
            return message
    raise AssertionError(f"nothing polled in {DEADLINE} s")


def accepts(bootstrap: str) -> bool:
    host, port = bootstrap.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_records_reach_a_consumer_from_every_partition(
    embedded: EmbeddedBroker, readers: Readers
) -> None:
    produce(embedded.bootstrap, 30)
    records = readers.read(embedded.bootstrap, "energy", 3, 30)
    for partition in range(3):
        own = [record for record in records if record.partition() == partition]
        assert [record.offset() for record in own] == list(range(10))
        assert [record.value() for record in own] == [
            b"%d" % number for number in range(partition, 30, 3)
        ]


def test_topic_has_the_requested_number_of_partitions(embedded: EmbeddedBroker) -> None:
    embedded.create_topic("single", 1)
    topics = admin(embedded.bootstrap).list_topics(timeout=DEADLINE).topics
    assert {name: len(topic.partitions) for name, topic in topics.items()} == {
        "energy": 3,
        "single": 1,
    }


def test_recreated_topic_has_a_new_id_and_an_empty_log(embedded: EmbeddedBroker) -> None:
    produce(embedded.bootstrap, 3)
    before = topic_id(embedded.bootstrap, "energy")
    assert topic_id(embedded.bootstrap, "energy") == before
    embedded.delete_topic("energy")
    assert "energy" not in admin(embedded.bootstrap).list_topics(timeout=DEADLINE).topics
    embedded.create_topic("energy", 3)
    assert topic_id(embedded.bootstrap, "energy") != before


def test_trim_moves_the_low_watermark_past_a_consumer(
    embedded: EmbeddedBroker, readers: Readers
) -> None:
    produce(embedded.bootstrap, 30)
    embedded.trim("energy", 0, 4)
    consumer = readers.consumer(embedded.bootstrap)
    behind = TopicPartition("energy", 0, 1)
    assert consumer.get_watermark_offsets(behind, timeout=DEADLINE) == (4, 10)
    consumer.assign([behind])
    error = poll(consumer).error()
    assert error is not None
    assert error.code() == KafkaError._AUTO_OFFSET_RESET
    consumer.assign([TopicPartition("energy", 0, 4)])
    assert poll(consumer).value() == b"12"


def test_broker_keeps_its_port_and_log_after_an_outage(
    embedded: EmbeddedBroker, readers: Readers
) -> None:
    produce(embedded.bootstrap, 3)
    embedded.set_down(True)
    assert not accepts(embedded.bootstrap)
    embedded.set_down(False)
    assert accepts(embedded.bootstrap)
    assert len(readers.read(embedded.bootstrap, "energy", 3, 3)) == 3


def test_connected_consumer_continues_after_an_outage(
    embedded: EmbeddedBroker, readers: Readers
) -> None:
    consumer = readers.consumer(embedded.bootstrap)
    consumer.list_topics("energy", timeout=DEADLINE)
    consumer.assign([TopicPartition("energy", number, 0) for number in range(3)])
    produce(embedded.bootstrap, 1)
    assert poll(consumer).value() == b"0"
    embedded.set_down(True)
    assert consumer.poll(0.2) is None
    embedded.set_down(False)
    produce(embedded.bootstrap, 2)
    assert sorted(poll(consumer).value() or b"" for _ in range(2)) == [b"0", b"1"]


def test_rtt_delays_responses(embedded: EmbeddedBroker) -> None:
    client = admin(embedded.bootstrap)
    client.list_topics(timeout=DEADLINE)
    embedded.set_rtt(150)
    start = time.monotonic()
    client.list_topics(timeout=DEADLINE)
    assert time.monotonic() - start >= 0.15


def test_pushed_error_is_the_response_to_the_next_request_only(embedded: EmbeddedBroker) -> None:
    client = admin(embedded.bootstrap)
    client.list_topics("energy", timeout=DEADLINE)
    embedded.push_request_errors(METADATA, [KafkaError.TOPIC_AUTHORIZATION_FAILED])
    with pytest.raises(KafkaException) as raised:
        client.list_topics("energy", timeout=DEADLINE)
    assert raised.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert client.list_topics("energy", timeout=DEADLINE).topics["energy"].error is None


def test_metadata_has_the_advertised_address(embedded: EmbeddedBroker) -> None:
    before = embedded.bootstrap
    embedded.advertise("127.0.0.2", 4242)
    (advertised,) = admin(before).list_topics(timeout=DEADLINE).brokers.values()
    assert f"{advertised.host}:{advertised.port}" == "127.0.0.2:4242"
    assert embedded.bootstrap == before


def test_two_brokers_in_one_process_share_nothing(embedded: EmbeddedBroker) -> None:
    with EmbeddedBroker() as other:
        assert other.bootstrap != embedded.bootstrap
        assert list(admin(other.bootstrap).list_topics(timeout=DEADLINE).topics) == []
    assert accepts(embedded.bootstrap)


def test_closed_broker_refuses_connections_and_calls() -> None:
    broker = EmbeddedBroker()
    broker.close()
    broker.close()
    assert not accepts(broker.bootstrap)
    with pytest.raises(BrokerError, match="closed"):
        broker.create_topic("energy", 1)


# Command lines, and a part of the error for each.
REFUSED = [
    (b"", "empty document"),
    (b"[1]", "expected"),
    (b'{"op":"close"}', "create_topic, delete_topic, trim"),
    (b'{"op":"trim","topic":"energy"}', "trim takes topic: str, partition: int, low_offset: int"),
    (b'{"op":"set_down","down":1}', "set_down takes down: bool"),
    (b'{"op":"set_rtt","ms":1,"x":2}', "set_rtt takes ms: int"),
    (b'{"op":"create_topic","name":"energy","partitions":3}', "TOPIC_ALREADY_EXISTS"),
    (b'{"op":"create_topic","name":"a b","partitions":3}', "a name has"),
    (b'{"op":"create_topic","name":"new","partitions":0}', "0 partitions"),
    (b'{"op":"delete_topic","name":"new"}', "UNKNOWN_TOPIC_OR_PART"),
    (b'{"op":"trim","topic":"energy","partition":3,"low_offset":0}', "UNKNOWN_TOPIC_OR_PART"),
    (b'{"op":"trim","topic":"energy","partition":0,"low_offset":1}', "OFFSET_OUT_OF_RANGE"),
    (b'{"op":"trim","topic":"energy","partition":0,"low_offset":-1}', "-1 is no offset"),
    (b'{"op":"push_request_errors","api_key":1,"codes":["x"]}', "not error numbers"),
]


@pytest.mark.parametrize(("line", "error"), REFUSED)
def test_bad_command_is_refused_with_the_reason(
    embedded: EmbeddedBroker, line: bytes, error: str
) -> None:
    reply = obey(embedded, line)
    assert reply["ok"] is False
    assert error in str(reply["error"])


def test_good_commands_are_executed(embedded: EmbeddedBroker) -> None:
    commands: list[dict[str, object]] = [
        {"op": "create_topic", "name": "new", "partitions": 1},
        {"op": "set_rtt", "ms": 0},
        {"op": "push_request_errors", "api_key": METADATA, "codes": []},
        {"op": "set_down", "down": True},
        {"op": "set_down", "down": False},
        {"op": "trim", "topic": "new", "partition": 0, "low_offset": 0},
        {"op": "delete_topic", "name": "energy"},
        {"op": "advertise", "host": "127.0.0.1", "port": 9092},
    ]
    for command in commands:
        assert obey(embedded, orjson.dumps(command)) == {"ok": True}, command
    assert list(admin_topics(embedded)) == ["new"]


def admin_topics(embedded: EmbeddedBroker) -> list[str]:
    return list(admin(embedded.bootstrap).list_topics(timeout=DEADLINE).topics)


def find_extension(name: str) -> str:
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    return spec.origin


def test_library_without_the_mock_cluster_names_the_versions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cimpl, "__file__", find_extension("orjson.orjson"))
    with pytest.raises(BrokerError) as raised:
        EmbeddedBroker()
    message = str(raised.value)
    assert f"confluent-kafka {confluent_kafka.__version__} has no function rd_kafka_" in message
    assert f"install confluent-kafka {EXPECTED_VERSION}" in message


def test_library_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cimpl, "__file__", "/nonexistent/librdkafka.so")
    with pytest.raises(BrokerError, match=re.escape("/nonexistent/librdkafka.so")):
        EmbeddedBroker()


@pytest.mark.parametrize("text", ["energy", "energy:", ":3", "energy:0", "energy:-1", "energy:x"])
def test_topic_argument_must_be_name_and_partitions(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "EmbeddedBroker", None)
    with pytest.raises(SystemExit) as raised:
        main(["--topic", text])
    assert raised.value.code == 2
    assert "is not NAME:PARTITIONS" in capsys.readouterr().err
