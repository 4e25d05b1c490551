from __future__ import annotations

import contextlib
from functools import cache
from typing import Any

import orjson
import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from energyws.schemas.protobuf import ProtobufSchema
from energyws.schemas.values import BadSchema
from energyws.stream.record import BadRecord
from tests.schemas.samples import PROTO, proto, proto_class, proto_json
from workers.consumer.schemas.protoc import compile_descriptors

ALL = """
syntax = "proto3";
package all.of;
import "google/protobuf/any.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/field_mask.proto";
import "google/protobuf/struct.proto";
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum Phase { L1 = 0; L2 = 1; }
message All {
  int64 total_wh = 1;
  float volts = 2;
  optional double amps = 3;
  Phase phase = 4;
  repeated Phase phases = 5;
  map<string, int64> by_name = 6;
  map<bool, All> by_side = 7;
  bytes raw = 8;
  message Inner { uint64 n = 1; message Deep { bool on = 1; } }
  Inner inner = 9;
  oneof either { string text = 10; int32 number = 11; }
  google.protobuf.Timestamp at = 12;
  google.protobuf.Duration took = 13;
  google.protobuf.Struct extra = 14;
  google.protobuf.Value value = 15;
  google.protobuf.FloatValue maybe = 16;
  google.protobuf.BytesValue blob = 17;
  google.protobuf.Any packed = 18;
  google.protobuf.FieldMask mask = 19;
  repeated float series = 20;
  google.protobuf.NullValue nothing = 21;
  All self = 22;
  double ratio = 23;
}
"""
EMPTY = {
    "totalWh": 0,
    "volts": 0.0,
    "phase": "L1",
    "phases": [],
    "byName": {},
    "bySide": {},
    "raw": "",
    "series": [],
    "nothing": None,
    "ratio": 0.0,
}


@cache
def schema(max_bytes: int = 1 << 20) -> ProtobufSchema:
    return ProtobufSchema(compile_descriptors(ALL, {}), max_bytes=max_bytes)


def message(**fields: Any) -> Any:
    return proto_class(ALL, "all.of.All")(**fields)


def read(made: Any) -> Any:
    return orjson.loads(schema().read((0,), made.SerializeToString()))


def test_reading_of_a_meter() -> None:
    found = ProtobufSchema(compile_descriptors(PROTO, {}), max_bytes=1000)
    assert orjson.loads(found.read((1,), proto(4)[2:])) == proto_json(4)


def test_fields_without_presence_are_always_written() -> None:
    assert read(message()) == EMPTY


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"total_wh": 2**63 - 1}, {"totalWh": 2**63 - 1}),
        ({"volts": 230.1}, {"volts": 230.1}),
        ({"ratio": float("nan"), "amps": float("inf")}, {"ratio": None, "amps": None}),
        ({"phase": 7, "phases": [0, 1, 9]}, {"phase": 7, "phases": ["L1", "L2", 9]}),
        ({"by_name": {"b": 1, "a": 2}}, {"byName": {"a": 2, "b": 1}}),
        ({"by_side": {True: {}}}, {"bySide": {"true": EMPTY}}),
        ({"raw": b"ab"}, {"raw": "YWI="}),
        ({"number": 0}, {"number": 0}),
        ({"inner": {}}, {"inner": {"n": 0}}),
        ({"at": {"seconds": 1, "nanos": 5}}, {"at": "1970-01-01T00:00:01.000000005Z"}),
        ({"at": {"nanos": -1}}, {"at": None}),
        ({"at": {"seconds": 2**62}}, {"at": None}),
        ({"took": {"seconds": -1, "nanos": -500_000_000}}, {"took": "-1.500s"}),
        ({"took": {"seconds": 2**62}}, {"took": None}),
        (
            {"extra": {"b": [1, None], "a": {"c": "d"}}},
            {"extra": {"a": {"c": "d"}, "b": [1, None]}},
        ),
        ({"value": {}}, {"value": None}),
        ({"maybe": {"value": 0.1}}, {"maybe": 0.1}),
        ({"blob": {"value": b"a"}}, {"blob": "YQ=="}),
        (
            {"packed": {"type_url": "t/x", "value": b"a"}},
            {"packed": {"@type": "t/x", "value": "YQ=="}},
        ),
        ({"mask": {"paths": ["a_b.c", "d"]}}, {"mask": "aB.c,d"}),
        ({"series": [0.1, 2]}, {"series": [0.1, 2.0]}),
        ({"self": {"self": {}}}, {"self": {**EMPTY, "self": EMPTY}}),
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_each_type_is_what_readers_of_json_expect(
    fields: dict[str, Any], found: dict[str, Any]
) -> None:
    assert read(message(**fields)) == {**EMPTY, **found}


def test_values_that_json_cannot_express_are_counted() -> None:
    counts: list[int] = []
    made = message(
        ratio=float("nan"),
        series=[1, float("inf")],
        at={"nanos": -1},
        took={"seconds": 2**62},
        value={},
        nothing=0,
    )
    schema().read((0,), made.SerializeToString(), counts.append)
    schema().read((0,), message(text="null").SerializeToString(), counts.append)
    assert counts == [4]


def test_names_are_in_order_so_that_bytes_are_the_same_everywhere() -> None:
    keys = [f"k{n}" for n in range(50)]
    made = message(by_name=dict.fromkeys(keys, 1), extra=dict.fromkeys(keys, 1))
    data = schema().read((0,), made.SerializeToString())
    for part in ("byName", "extra"):
        assert list(orjson.loads(data)[part]) == sorted(keys)


def test_message_is_found_by_its_indexes() -> None:
    # Before Inner, protoc has the entries of both maps.
    assert schema().read((0, 0), b"\x08\1") == b'{"n":1}'
    assert schema().read((0, 0, 0), b"\x08\1") == b'{"on":true}'
    # Who counts these, too, as Python's and .NET's serializers do, has other indexes.
    assert schema().read((0, 2), b"\x08\1") == b'{"n":1}'
    assert schema().read((0, 2, 0), b"\x08\1") == b'{"on":true}'
    for indexes in ((1,), (0, 1), (0, 3), (0, 0, 0, 0), (-1,)):
        with pytest.raises(BadRecord, match="no message") as bad:
            schema().read(indexes, b"")
        assert bad.value.reason == "undecodable"


def test_unknown_fields_are_left_out() -> None:
    assert orjson.loads(schema().read((0, 0), b"\xf8\x07\1\x08\2")) == {"n": 2}


@pytest.mark.parametrize("payload", [b"\x08", b"\xff" * 20, b"\x52\2\xff\xff", b"\xa2\1\3\0\0\0"])
def test_bytes_that_are_no_message(payload: bytes) -> None:
    with pytest.raises(BadRecord) as bad:
        schema().read((0,), payload)
    assert bad.value.reason == "undecodable"


def test_nesting_is_bounded() -> None:
    nested = b""
    for _ in range(1000):
        size = len(nested)
        nested = (
            b"\xb2\1" + bytes([size & 0x7F | 0x80, size >> 7 & 0x7F | 0x80, size >> 14]) + nested
        )
    with pytest.raises(BadRecord) as bad:
        schema().read((0,), nested)
    assert bad.value.reason == "undecodable"


def test_record_that_would_be_too_large_as_json_is_not_made() -> None:
    text = 'syntax = "proto3"; message Many { repeated Wide all = 1; } message Wide {'
    text += "".join(f" int32 {'n' * 60}{at} = {at + 1};" for at in range(100)) + "}"
    wide = ProtobufSchema(compile_descriptors(text, {}), max_bytes=100_000)
    assert len(wide.read((0,), b"\x0a\0" * 10)) > 60_000
    with pytest.raises(BadRecord) as bad:
        wide.read((0,), b"\x0a\0" * 50_000)
    assert bad.value.reason == "oversized"


@pytest.mark.parametrize(
    ("text", "item"),
    [
        ("enum E { %s = 0; } message A { repeated E all = 1 [packed = false]; }", b"\x08\0"),
        ("message B { optional int32 %s = 1; } message A { repeated B all = 1; }", b"\x0a\2\x08\0"),
        ("message B { repeated int32 %s = 1; } message A { repeated B all = 1; }", b"\x0a\0"),
    ],
    ids=["enum", "optional", "repeated"],
)
def test_names_in_the_schema_count(text: str, item: bytes) -> None:
    compiled = compile_descriptors('syntax = "proto3"; ' + text % ("n" * 1000), {})
    made = ProtobufSchema(compiled, max_bytes=10_000)
    indexes = (text.count("message") - 1,)
    assert 9_000 < len(made.read(indexes, item * 9)) < 10_000
    with pytest.raises(BadRecord) as bad:
        made.read(indexes, item * 10)
    assert bad.value.reason == "oversized"


def test_messages_that_would_take_too_much_memory_are_not_made() -> None:
    text = 'syntax = "proto3"; message Many { repeated Wide all = 1; } message Wide {'
    text += "".join(f" optional int64 n{at} = {at + 1};" for at in range(1000)) + "}"
    wide = ProtobufSchema(compile_descriptors(text, {}), max_bytes=10_000)
    assert wide.read((0,), b"\x0a\0" * 30) == b'{"all":[' + b",".join([b"{}"] * 30) + b"]}"
    with pytest.raises(BadRecord, match="memory") as bad:
        wide.read((0,), b"\x0a\0" * 100)
    assert bad.value.reason == "oversized"


def test_descriptors_that_cannot_be_used() -> None:
    for descriptors in (b"", b"x", b"\x0a\3\x0a\1a"[:-1]):
        with pytest.raises(BadSchema):
            ProtobufSchema(descriptors, max_bytes=1000)


finite = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "volts": st.floats(width=32, allow_nan=False, allow_infinity=False),
            "amps": finite,
            "phase": st.sampled_from([0, 1]),
            "raw": st.binary(max_size=20),
            "text": st.text(max_size=20),
            "series": st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)),
            "at": st.builds(dict, seconds=st.integers(0, 2**33), nanos=st.integers(0, 999_999_999)),
            "by_side": st.dictionaries(st.booleans(), st.just({})),
        },
    )
)
def test_it_is_the_libraries_own_json_wherever_both_say_the_same(fields: dict[str, Any]) -> None:
    made = message(**fields)
    expected = json_format.MessageToDict(made, always_print_fields_with_no_presence=True)
    found = read(made)
    # 64-bit integers are text there.
    for each in (found, *found["bySide"].values()):
        each["totalWh"] = str(each["totalWh"])
    assert found == expected


@given(st.binary(max_size=100))
def test_any_bytes_are_an_object_or_a_bad_record(payload: bytes) -> None:
    with contextlib.suppress(BadRecord):
        assert type(orjson.loads(schema().read((0,), payload))) is dict
