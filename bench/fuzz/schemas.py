"""What of schemas is fuzzed: records by schemas of every kind, schemas themselves, and answers."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import cache
from typing import Any, Final

from energyws.schemas import answers
from energyws.schemas.avro import AvroSchema
from energyws.schemas.framing import unframe
from energyws.schemas.protobuf import ProtobufSchema
from energyws.schemas.values import BadSchema
from energyws.stream.record import BadRecord
from workers.consumer.schemas.protoc import compile_descriptors

_MAX_BYTES: Final = 10_000
# The JSON of a record may be so many times as large while it is made.
_MOST_TIMES: Final = 64
_LIST: Final = {
    "type": "record",
    "name": "List",
    "fields": [{"name": "n", "type": "float"}, {"name": "next", "type": ["null", "List"]}],
}
_ALL: Final = {
    "type": "record",
    "name": "All",
    "fields": [
        {"name": f"f{at}", "type": kind}
        for at, kind in enumerate(
            [
                "boolean",
                "long",
                "double",
                "string",
                ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 3}],
                {"type": "long", "logicalType": "timestamp-micros"},
                {"type": "int", "logicalType": "date"},
                {"type": "long", "logicalType": "time-micros"},
                {"type": "enum", "name": "E", "symbols": ["A", "B"]},
                {"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"},
                {"type": "map", "values": {"type": "array", "items": ["null", "int", "float"]}},
            ]
        )
    ],
}
_WIDE: Final = {
    "type": "record",
    "name": "Wide",
    "fields": [
        {
            "name": "items",
            "type": {
                "type": "array",
                "items": {
                    "type": "record",
                    "name": "Item",
                    "fields": [
                        {"name": "n", "type": "int"},
                        *[{"name": f"{'x' * 40}{at}", "type": "null"} for at in range(20)],
                    ],
                },
            },
        }
    ],
}
# What a few bytes make much of: digits of a decimal, and integers in a type that contains itself.
_COSTLY: Final = {
    "type": "record",
    "name": "Costly",
    "fields": [
        {
            "name": "prices",
            "type": {
                "type": "array",
                "items": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 900},
            },
        },
        {"name": "n", "type": "long"},
        {"name": "kids", "type": {"type": "map", "values": "Costly"}},
    ],
}
_PROTO = """
syntax = "proto3";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
enum E { A = 0; B = 1; }
message All {
  int64 n = 1; double d = 2; float f = 3; string s = 4; bytes b = 5; E e = 6; All all = 7;
  repeated All many = 8; map<string, All> named = 9; google.protobuf.Timestamp at = 10;
  google.protobuf.Struct extra = 11; repeated sint32 packed = 12; optional bool o = 13;
  repeated Wide wide = 14; repeated MUCH_LONGER_THAN_ITS_NUMBER names = 15;
}
enum MUCH_LONGER_THAN_ITS_NUMBER { MUCH_LONGER_THAN_ITS_NUMBER_0 = 0; }
"""
_PROTO += f"message Wide {{ {' '.join(f'optional int64 n{at} = {at};' for at in range(1, 300))} }}"


def avro(data: bytes) -> str:
    """A record, by one of some schemas: JSON that is not too large, or a reason."""
    schemas = _avro_schemas()
    return _read(schemas[data[0] % len(schemas)] if data else schemas[0], (), data[1:])


def protobuf(data: bytes) -> str:
    """The same, of Protobuf."""
    return _read(_protobuf_schema(), (0,), data)


def avro_schema(data: bytes) -> str:
    """A schema, and a record by it."""
    try:
        schema = AvroSchema(data.decode("latin-1"), max_bytes=_MAX_BYTES)
    except BadSchema:
        return "refused"
    return _read(schema, (), data)


def answer(data: bytes) -> str:
    """A registry's answer, and the frame of a record."""
    for indexed in (False, True):
        with suppress(BadRecord):
            assert 0 <= unframe(data, (), indexed=indexed).begin <= len(data)
    try:
        answers.document(200, data)
    except answers.Unavailable:
        return "refused"
    return "accepted"


def _read(schema: Any, indexes: tuple[int, ...], payload: bytes) -> str:
    try:
        text = schema.read(indexes, payload)
    except BadRecord as bad:
        return bad.reason
    assert len(text) <= _MOST_TIMES * _MAX_BYTES
    assert type(json.loads(text)) is dict
    return "accepted"


@cache
def _avro_schemas() -> list[AvroSchema]:
    return [
        AvroSchema(json.dumps(each), max_bytes=_MAX_BYTES) for each in (_ALL, _LIST, _WIDE, _COSTLY)
    ]


@cache
def _protobuf_schema() -> ProtobufSchema:
    return ProtobufSchema(compile_descriptors(_PROTO, {}), max_bytes=_MAX_BYTES)
