"""A reading of a meter in Avro and in Protobuf, framed as serializers frame it."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any, Final
from uuid import UUID

import fastavro
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from energyws.testing.registry import Registered
from workers.consumer.schemas.protoc import compile_descriptors

AVRO: Final = {
    "type": "record",
    "name": "Reading",
    "namespace": "meters",
    "fields": [
        {"name": "n", "type": "int"},
        {"name": "meter", "type": ["null", "string"], "default": None},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {
            "name": "price",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
        },
        {"name": "volts", "type": "float"},
    ],
}
AT: Final = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
PROTO: Final = """
syntax = "proto3";
package meters;
import "google/protobuf/timestamp.proto";
message Other {}
message Reading {
  int32 n = 1;
  optional string meter = 2;
  google.protobuf.Timestamp at = 3;
  float volts = 4;
  int64 total_wh = 5;
}
"""
# The second message of the file: one index, 1, each as a zigzag varint.
INDEXES: Final = b"\x02\x02"


def frame(registered: Registered, payload: bytes) -> bytes:
    """What stands before each payload: 0 and the schema's id."""
    return b"\0" + registered.schema_id.to_bytes(4, "big") + payload


def guid_header(registered: Registered, indexes: bytes = b"") -> tuple[str, bytes]:
    """The newer form, as a header."""
    return "__value_schema_id", b"\1" + UUID(registered.guid).bytes + indexes


def avro(n: int, meter: str | None = "m1") -> bytes:
    """The payload of a reading."""
    record = {"n": n, "meter": meter, "at": AT, "price": Decimal("12.30"), "volts": 230.1}
    return avro_bytes(AVRO, record)


def avro_bytes(schema: Any, record: object) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), record)
    return out.getvalue()


def avro_json(n: int) -> dict[str, Any]:
    at = "2026-01-31T12:00:00.250Z"
    return {"n": n, "meter": "m1", "at": at, "price": "12.30", "volts": 230.1}


def proto(n: int) -> bytes:
    """The payload of a reading, with its message's index before it."""
    message = proto_class(PROTO, "meters.Reading")(n=n, volts=230.1, total_wh=2**53)
    message.at.FromMilliseconds(int(AT.timestamp() * 1000))
    return INDEXES + bytes(message.SerializeToString())


def proto_json(n: int) -> dict[str, Any]:
    return {"n": n, "at": "2026-01-31T12:00:00.250Z", "volts": 230.1, "totalWh": 2**53}


@cache
def proto_class(text: str, name: str) -> Any:
    """The class of a message, by the library itself."""
    pool = descriptor_pool.DescriptorPool()
    for each in descriptor_pb2.FileDescriptorSet.FromString(compile_descriptors(text, {})).file:
        pool.Add(each)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
