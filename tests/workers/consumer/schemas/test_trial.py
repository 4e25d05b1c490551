from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from energyws.settings import Kafka, Settings, Stream
from energyws.settings import SchemaRegistry as Where
from energyws.testing import SchemaRegistry
from tests.schemas.samples import AVRO, PROTO
from workers.consumer.schemas import trial as module
from workers.consumer.schemas.trial import trial


@pytest.fixture
def server() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as running:
        yield running


def tried(url: str | None, **settings: object) -> list[tuple[str, str]]:
    found = Settings(
        kafka=Kafka(brokers="b"),
        streams={
            "a": Stream(topic="ta", format="avro"),
            "j": Stream(topic="tj", format="json_schema"),
            "p": Stream(topic="tp", format="protobuf"),
        },
        schema_registry=Where(url=url, **settings),  # type: ignore[arg-type]
    )
    return list(trial(found))


def test_good_registry_with_and_without_schemas(server: SchemaRegistry) -> None:
    assert tried(server.url) == []
    server.register("ta-value", AVRO)
    server.register("tp-value", PROTO, "PROTOBUF")
    assert tried(server.url) == []
    assert len(server.requests) == 4


def test_format_that_the_topic_does_not_have(server: SchemaRegistry) -> None:
    server.register("ta-value", PROTO, "PROTOBUF")
    assert tried(server.url) == [
        (
            "configuration",
            "streams.a.format: avro, but the registry's ta-value is PROTOBUF",
        )
    ]


def test_wrong_password_and_wrong_address(server: SchemaRegistry) -> None:
    server.password = "right"
    ((kind, text),) = tried(server.url, username="energyws", password="canary")
    assert (kind, "schema_registry.username" in text) == ("configuration", True)
    assert "canary" not in text
    server.password, server.wrong = None, True
    ((kind, text),) = tried(server.url)
    assert (kind, "check schema_registry.url" in text) == ("configuration", True)


def test_registry_that_is_away_is_a_warning(server: SchemaRegistry) -> None:
    server.down = True
    assert tried(server.url) == [
        ("warning", "schema_registry.url: cannot be used: HTTP status 503")
    ]
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    assert tried(f"http://127.0.0.1:{port}") == [
        ("warning", "schema_registry.url: cannot be used: Connection refused")
    ]


def test_slow_registry_is_a_warning(
    server: SchemaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_SECONDS", 0.0)
    ((kind, text),) = tried(server.url)
    assert (kind, "slowly" in text) == ("warning", True)


def test_authorities_that_cannot_be_read() -> None:
    ((kind, text),) = tried("https://registry.example", ca="/no/such/file")
    assert kind == "configuration"
    assert text.startswith("schema_registry.ca: ")


def test_streams_of_json_ask_nobody() -> None:
    assert list(trial(Settings(kafka=Kafka(brokers="b"), streams={"s": Stream(topic="t")}))) == []
