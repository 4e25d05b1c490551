"""The cost of making JSON of a record with a schema, beside that of checking one that is JSON.

    python -m bench.schemas --out bench/results/schemas.json

Each record is read as the consumer reads it: frame, schema, JSON. Rounds of all kinds alternate,
and the least time of each counts. `flat` is a reading of 20 numbers and a time; `nested` is the
record of a real meter, with objects in objects.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, Final, NamedTuple

import fastavro
import orjson
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

from bench.kit.results import arguments, collected, save
from energyws.demo.meter import Meter
from energyws.process.board import Board
from energyws.settings import Kafka, SchemaRegistry, Settings, Stream
from energyws.stream.record import decode
from energyws.testing import SchemaRegistry as Registry
from workers.consumer.schemas.protoc import compile_descriptors
from workers.consumer.schemas.store import Awaited, Schemas

ROUNDS: Final = 9
TURNS: Final = 4_000
MAX_BYTES: Final = 1 << 20
AT_MS: Final = 1_764_706_667_888


class Message(NamedTuple):
    """A message of Kafka, as far as it is read."""

    data: bytes

    def value(self) -> bytes:
        return self.data

    def headers(self) -> None:
        return None


class Sample(NamedTuple):
    shape: str
    form: str
    message: Message


def flat() -> dict[str, Any]:
    """A reading of 20 numbers, and its time in milliseconds."""
    found: dict[str, Any] = {"device": "9MANZWNG"}
    found |= {f"power_{phase}_{at}": 638 + at for at in range(6) for phase in ("in", "out")}
    found |= {f"voltage_{at}": 230.1 + at for at in range(7)}
    return {**found, "at": AT_MS}


def nested() -> dict[str, Any]:
    """A meter's record as it is in production."""
    return dict(orjson.loads(Meter(1).record(AT_MS * 1_000_000)))


def avro_schema(value: Any, name: str = "Reading") -> Any:
    """The schema of Avro that a value has; `at` is a time."""
    match value:
        case dict():
            fields = [
                {"name": key, "type": avro_schema(each, f"{name}_{key}")}
                for key, each in value.items()
            ]
            return {"type": "record", "name": name, "fields": fields}
        case bool():
            return "boolean"
        case int() if value == AT_MS:
            return {"type": "long", "logicalType": "timestamp-millis"}
        case int():
            return "long"
        case float():
            return "double"
        case str():
            return "string"
    return ["null", "string"]


def proto_schema(value: dict[str, Any]) -> str:
    """The same as the text of a .proto file."""
    head = 'syntax = "proto3"; import "google/protobuf/timestamp.proto"; '
    return head + _proto_message(value, "Reading")


def _proto_message(value: dict[str, Any], name: str) -> str:
    inner, fields = "", ""
    for at, (key, each) in enumerate(value.items(), 1):
        kind = "string"
        if isinstance(each, dict):
            kind = f"M{at}"
            inner += _proto_message(each, kind)
        elif isinstance(each, int):
            kind = "google.protobuf.Timestamp" if each == AT_MS else "int64"
        elif isinstance(each, float):
            kind = "double"
        fields += f'{kind} f{at} = {at} [json_name = "{key}"]; '
    return f"message {name} {{ {inner}{fields}}} "


def avro_payload(value: dict[str, Any]) -> bytes:
    # Without its logical types, which would have it take something else than a number.
    plain = json.loads(json.dumps(avro_schema(value)).replace('"logicalType"', '"was"'))
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(plain), value)
    return out.getvalue()


def proto_payload(value: dict[str, Any]) -> bytes:
    pool = descriptor_pool.DescriptorPool()
    compiled = compile_descriptors(proto_schema(value), {})
    for each in descriptor_pb2.FileDescriptorSet.FromString(compiled).file:
        pool.Add(each)
    message = message_factory.GetMessageClass(pool.FindMessageTypeByName("Reading"))()
    dates = {"at": "2025-12-02T20:17:47.888Z"} if "at" in value else {}
    json_format.ParseDict({**value, **dates}, message, descriptor_pool=pool)
    return bytes(message.SerializeToString())


def samples(registry: Registry) -> Iterator[Sample]:
    for shape, value in (("flat", flat()), ("nested", nested())):
        text = orjson.dumps(value)
        yield Sample(shape, "json", Message(text))
        yield Sample(shape, "json_schema", Message(b"\0\0\0\0\1" + text))
        made = registry.register("s", avro_schema(value))
        frame = b"\0" + made.schema_id.to_bytes(4, "big")
        yield Sample(shape, "avro", Message(frame + avro_payload(value)))
        made = registry.register("s", proto_schema(value), "PROTOBUF")
        frame = b"\0" + made.schema_id.to_bytes(4, "big") + b"\0"
        yield Sample(shape, "protobuf", Message(frame + proto_payload(value)))


def reading(schemas: Schemas, sample: Sample) -> Callable[[], bytes]:
    """What the consumer does with a record until it is JSON."""
    message: Any = sample.message

    def read() -> bytes:
        reader = schemas.reader(sample.form, message)
        return decode(message.value(), max_bytes=MAX_BYTES, reader=reader)

    try:
        read()
    except Awaited:
        schemas.step()
    return read


def measured(rounds: int, turns: int = TURNS) -> Iterator[dict[str, Any]]:
    forms = ("json", "json_schema", "avro", "protobuf")
    with Registry() as registry:
        found = list(samples(registry))
        settings = Settings(
            kafka=Kafka(brokers="none"),
            streams={form: Stream(topic=form, format=form) for form in forms},  # type: ignore[arg-type]
            schema_registry=SchemaRegistry(url=registry.url),
        )
        schemas = Schemas(settings, Board.create().row(0))
        reads = [reading(schemas, sample) for sample in found]
    least = [float("inf")] * len(reads)
    for _ in range(rounds):
        for at, read in enumerate(reads):
            began = time.perf_counter()
            for _ in range(turns):
                read()
            least[at] = min(least[at], (time.perf_counter() - began) / turns * 1e6)
    beside = {
        sample.shape: us for sample, us in zip(found, least, strict=True) if sample.form == "json"
    }
    for sample, read, us in zip(found, reads, least, strict=True):
        yield {
            "shape": sample.shape,
            "format": sample.form,
            "record_bytes": len(sample.message.data),
            "json_bytes": len(read()),
            "us": us,
            "more_us": us - beside[sample.shape],
        }


def main() -> int:
    parser = arguments(__doc__, rounds=ROUNDS)
    options = parser.parse_args()
    rows = collected(measured(options.rounds))
    libraries = {name: version(name) for name in ("orjson", "fastavro", "protobuf")}
    save(options.out, {"rows": rows}, libraries)
    return 0


if __name__ == "__main__":
    sys.exit(main())
