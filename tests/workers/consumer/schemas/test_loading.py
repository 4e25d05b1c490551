from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator

import orjson
import pytest

from energyws.errors import BootError
from energyws.schemas.answers import MAX_REFERENCES, Missing
from energyws.schemas.values import BadSchema
from energyws.settings import Kafka, Settings, Stream
from energyws.settings import SchemaRegistry as Where
from energyws.testing import SchemaRegistry
from workers.consumer.schemas import loading
from workers.consumer.schemas.loading import check_installed, load
from workers.consumer.schemas.registry import Registry


@pytest.fixture
def server() -> Iterator[SchemaRegistry]:
    with SchemaRegistry() as running:
        yield running


def loaded(server: SchemaRegistry, form: str, schema_id: int) -> loading.Schema:
    return load(Registry(Where(url=server.url)), form, schema_id, 1000)[0]


def record(name: str, **fields: object) -> dict[str, object]:
    kinds = [{"name": key, "type": kind} for key, kind in fields.items()]
    return {"type": "record", "name": name, "fields": kinds}


def test_avro_with_references_of_references(server: SchemaRegistry) -> None:
    unit = server.register("unit", {"type": "enum", "name": "Unit", "symbols": ["W"]})
    value = server.register("value", record("Value", unit="Unit"), "AVRO", ("Unit", unit))
    top = server.register(
        "top", record("Top", value="Value", unit="Unit"), "AVRO", ("Value", value), ("Unit", unit)
    )
    found = loaded(server, "avro", top.schema_id).read((), b"\0\0")
    assert orjson.loads(found) == {"value": {"unit": "W"}, "unit": "W"}
    # Each is asked for once.
    assert len(server.requests) == 3


def test_protobuf_with_references_of_references(server: SchemaRegistry) -> None:
    head = 'syntax = "proto3"; '
    unit = server.register("unit", head + "message Unit { int32 u = 1; }", "PROTOBUF")
    value = server.register(
        "value",
        head + 'import "unit.proto"; message Value { Unit unit = 1; }',
        "PROTOBUF",
        ("unit.proto", unit),
    )
    top = server.register(
        "top",
        head + 'import "m/value.proto"; message Top { Value value = 1; }',
        "PROTOBUF",
        ("m/value.proto", value),
    )
    found = loaded(server, "protobuf", top.schema_id).read((0,), b"\x0a\4\x0a\2\x08\1")
    assert found == b'{"value":{"unit":{"u":1}}}'


def test_references_without_an_end(server: SchemaRegistry) -> None:
    last = server.register("s", '"int"')
    for _ in range(MAX_REFERENCES + 1):
        last = server.register("s", '"int"', "AVRO", ("S", last))
    with pytest.raises(BadSchema, match="more than"):
        loaded(server, "avro", last.schema_id)


def test_what_a_schema_refers_to_is_bounded_in_bytes(
    server: SchemaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "MAX_ANSWER_BYTES", 100)
    parts = [server.register(f"s{n}", record(f"S{n}", n="int")) for n in range(3)]
    named = [(f"S{n}", each) for n, each in enumerate(parts)]
    text = record("T", a="S0")
    found, size = load(
        Registry(Where(url=server.url)),
        "avro",
        server.register("t", text, "AVRO", named[0]).schema_id,
        1000,
    )
    assert found.read((), b"\2") == b'{"a":{"n":1}}'
    assert size == sum(len(json.dumps(each)) for each in (text, record("S0", n="int")))
    with pytest.raises(BadSchema, match="more than 100 bytes"):
        loaded(server, "avro", server.register("t", text, "AVRO", *named).schema_id)


def test_reference_to_itself_is_asked_for_once(server: SchemaRegistry) -> None:
    made = server.register("s", '"int"')
    made.answer["references"] = [{"name": "S", "subject": "s", "version": 1}]
    loaded(server, "avro", made.schema_id)
    assert len(server.requests) == 2


def test_reference_that_is_missing(server: SchemaRegistry) -> None:
    made = server.register("s", '"int"')
    made.answer["references"] = [{"name": "T", "subject": "t", "version": 1}]
    with pytest.raises(Missing):
        loaded(server, "avro", made.schema_id)


def test_schema_of_another_type(server: SchemaRegistry) -> None:
    server.register("s", "{}", "JSON")
    with pytest.raises(BadSchema, match="type JSON, and the stream's format is avro"):
        loaded(server, "avro", 1)


@pytest.mark.parametrize(
    ("form", "module"), [("avro", "fastavro"), ("protobuf", "google.protobuf")]
)
def test_what_is_not_installed_is_named_with_what_installs_it(
    form: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Stream(topic="t", format=form)  # type: ignore[arg-type]
    settings = Settings(kafka=Kafka(brokers="b"), streams={"s": stream})
    check_installed(settings)

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(loading, "find_spec", missing)
    with pytest.raises(BootError, match=rf"streams\.s\.format: {form} needs {module}.*\[schemas\]"):
        check_installed(settings)
    json_schema = Stream(topic="t", format="json_schema")
    check_installed(Settings(kafka=Kafka(brokers="b"), streams={"s": json_schema}))
    assert importlib.util.find_spec("fastavro")
