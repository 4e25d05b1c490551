from __future__ import annotations

import contextlib
import io
import json
import math
from base64 import b64encode
from typing import Any

import fastavro
import orjson
import pytest
from fastavro.utils import generate_one
from hypothesis import given
from hypothesis import strategies as st

from energyws.schemas.avro import AvroSchema, _Decoder
from energyws.schemas.values import BadSchema
from energyws.stream.record import BadRecord, Reason
from tests.schemas.samples import AVRO, avro, avro_bytes, avro_json

MAX_BYTES = 1 << 20


def field(kind: object, name: str = "v") -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": name, "type": kind}]}


def read(schema: object, payload: bytes) -> Any:
    return orjson.loads(AvroSchema(json.dumps(schema), max_bytes=MAX_BYTES).read((), payload))


def logical(kind: str, of: str, **more: object) -> dict[str, object]:
    return {"type": kind, "logicalType": of, **more}


FIXED = {"name": "F", "size": 16}


@pytest.mark.parametrize(
    ("kind", "payload", "value"),
    [
        ("null", b"", None),
        ("boolean", b"\1", True),
        ("long", b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", 2**63 - 1),
        ("float", b"\xcd\xcc\xcc\x3d", 0.1),
        ("float", b"\0\0\xc0\x7f", None),
        ("double", b"\0\0\0\0\0\0\xf0\x7f", None),
        ("string", b"\4\xc3\xa9", "é"),
        ("bytes", b"\4ab", "YWI="),
        ({"type": "fixed", "name": "F", "size": 2}, b"ab", "YWI="),
        ({"type": "enum", "name": "E", "symbols": ["A", "B"]}, b"\2", "B"),
        (["null", "string"], b"\0", None),
        (["null", "string"], b"\2\2x", "x"),
        ({"type": "array", "items": "float"}, b"\2\xcd\xcc\xcc\x3d\0", [0.1]),
        ({"type": "map", "values": "int"}, b"\4\2b\2\2a\4\0", {"b": 1, "a": 2}),
        (logical("int", "date"), b"\0", "1970-01-01"),
        (logical("int", "time-millis"), b"\2", "00:00:00.001"),
        (logical("long", "time-micros"), b"\2", "00:00:00.000001"),
        (logical("long", "timestamp-millis"), b"\x01", "1969-12-31T23:59:59.999Z"),
        (logical("long", "timestamp-micros"), b"\x02", "1970-01-01T00:00:00.000001Z"),
        (logical("long", "timestamp-nanos"), b"\x02", "1970-01-01T00:00:00.000000001Z"),
        (logical("long", "local-timestamp-millis"), b"\0", "1970-01-01T00:00:00"),
        (logical("long", "timestamp-millis"), b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01", None),
        (logical("bytes", "decimal", precision=4, scale=2), b"\4\xfb\x2e", "-12.34"),
        (logical("bytes", "decimal", precision=4), b"\2\5", "5"),
        (logical("bytes", "decimal", precision=4, scale=-2), b"\2\5", "BQ=="),
        (logical("bytes", "decimal", precision=4, scale=10**9), b"\2\5", "BQ=="),
        (logical("fixed", "decimal", name="D", size=2, scale=1), b"\0\5", "0.5"),
        (logical("string", "uuid"), b"\2x", "x"),
        (
            logical("fixed", "uuid", **FIXED),
            bytes(15) + b"\1",
            "00000000-0000-0000-0000-000000000001",
        ),
        (
            logical("fixed", "duration", name="D", size=12),
            b"\1\0\0\0\2\0\0\0\xc4\x09\0\0",
            "P1M2DT2.500S",
        ),
        (logical("fixed", "duration", name="D", size=1), b"\0", "AA=="),
        (logical("int", "no-such-type"), b"\2", 1),
        (
            {"type": {"type": "long", "logicalType": "timestamp-millis"}},
            b"\0",
            "1970-01-01T00:00:00Z",
        ),
    ],
    ids=repr,
)
def test_each_type_is_what_readers_of_json_expect(
    kind: object, payload: bytes, value: object
) -> None:
    assert read(field(kind), payload) == {"v": value}


def test_record_of_a_meter() -> None:
    assert read(AVRO, avro(3)) == avro_json(3)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("float", b"\0\0\xc0\x7f"),
        ("double", b"\0\0\0\0\0\0\xf0\x7f"),
        (logical("long", "timestamp-millis"), b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
        (logical("int", "time-millis"), b"\1"),
        (logical("int", "date"), b"\xff\xff\xff\xff\x0f"),
    ],
    ids=repr,
)
def test_values_that_json_cannot_express_are_counted(kind: object, payload: bytes) -> None:
    counts: list[int] = []
    schema = AvroSchema(json.dumps(field(["null", kind])), max_bytes=MAX_BYTES)
    assert schema.read((), b"\0", counts.append) == b'{"v":null}'
    assert schema.read((), b"\2" + payload, counts.append) == b'{"v":null}'
    assert counts == [1]


def test_long_decimal_keeps_its_digits() -> None:
    kind = logical("bytes", "decimal", precision=60, scale=1)
    digits = 10**50 + 1
    data = digits.to_bytes(22, "big")
    assert read(field(kind), bytes([44]) + data) == {"v": f"{digits}"[:-1] + ".1"}


def test_types_of_other_schemas_and_of_other_namespaces() -> None:
    inner = {"type": "record", "name": "b.Inner", "fields": [{"name": "x", "type": "float"}]}
    middle = {"type": "record", "name": "a.Middle", "fields": [{"name": "in", "type": "b.Inner"}]}
    schema = AvroSchema(
        json.dumps(field(["null", "a.Middle"])),
        [json.dumps(inner), json.dumps(middle)],
        max_bytes=MAX_BYTES,
    )
    assert schema.read((), b"\2\0\0\0\x40") == b'{"v":{"in":{"x":2.0}}}'
    with pytest.raises(BadSchema, match="UnknownType"):
        AvroSchema(json.dumps(field("a.Middle")), [], max_bytes=MAX_BYTES)


@pytest.mark.parametrize(
    ("schema", "payload", "found"),
    [
        # Several types of records in one topic.
        (["a.First", "a.Second"], b"\0\2", b'{"x":1}'),
        (["a.First", "a.Second"], b"\2\2q", b'{"y":"q"}'),
        (["null", "a.List"], b"\2\2\0", b'{"next":{"next":null}}'),
        ("a.First", b"\2", b'{"x":1}'),
        ({"type": "a.Second"}, b"\2q", b'{"y":"q"}'),
        ({"type": "map", "values": "a.First"}, b"\2\2k\2\0", b'{"k":{"x":1}}'),
    ],
    ids=repr,
)
def test_schema_that_only_refers_to_others(schema: object, payload: bytes, found: bytes) -> None:
    references = [
        {**field("int", "x"), "name": "a.First"},
        {**field("string", "y"), "name": "a.Second"},
        {**field(["null", "a.List"], "next"), "name": "a.List"},
    ]
    made = AvroSchema(json.dumps(schema), list(map(json.dumps, references)), max_bytes=MAX_BYTES)
    assert made.read((), payload) == found


@pytest.mark.parametrize(
    ("schema", "payload", "reason"),
    [
        (field("string"), b"\4a", "undecodable"),
        (field("string"), b"\2a\0", "undecodable"),
        (field("string"), b"\2\xff", "undecodable"),
        (field(["null", "int"]), b"\4", "undecodable"),
        (field({"type": "enum", "name": "E", "symbols": ["A"]}), b"\2", "undecodable"),
        (
            field(logical("bytes", "decimal", scale=0)),
            b"\xa0\x9c\1" + b"\7" * 10_000,
            "undecodable",
        ),
        ("int", b"\2", "not_an_object"),
        ({"type": "array", "items": "int"}, b"\0", "not_an_object"),
    ],
    ids=repr,
)
def test_bytes_that_are_not_of_the_schema(schema: object, payload: bytes, reason: Reason) -> None:
    with pytest.raises(BadRecord) as bad:
        read(schema, payload)
    assert bad.value.reason == reason


def test_error_has_nothing_of_the_record() -> None:
    with pytest.raises(BadRecord) as bad:
        read(field("string"), b"\x10canary\xff\xff")
    assert "canary" not in str(bad.value)


LIST: dict[str, Any] = {
    "type": "record",
    "name": "List",
    "fields": [{"name": "n", "type": "float"}, {"name": "next", "type": ["null", "List"]}],
}


def test_type_that_contains_itself() -> None:
    one = b"\0\0\x80\x3f"
    assert read(LIST, one + b"\2" + one + b"\0") == {"n": 1.0, "next": {"n": 1.0, "next": None}}
    with pytest.raises(BadRecord) as bad:
        read(LIST, (one + b"\2") * 100_000 + one + b"\0")
    assert bad.value.reason in ("undecodable", "oversized")


def test_integer_without_an_end_is_read_no_further_than_64_bits() -> None:
    schema = {**LIST, "fields": [{"name": "n", "type": "long"}, LIST["fields"][1]]}
    assert read(schema, b"\xff" * 9 + b"\1\0") == {"n": -(2**63), "next": None}
    with pytest.raises(BadRecord) as bad:
        read(schema, b"\xff" * 100 + b"\1\0")
    assert bad.value.reason == "undecodable"
    # Of a megabyte of them, fastavro's own decoder would make one number for half a minute.
    source = io.BytesIO(b"\xff" * 100)
    with pytest.raises(ValueError, match="64 bits"):
        _Decoder(source).read_int()
    assert source.tell() == 10


def test_name_of_a_type_as_an_object() -> None:
    unit = {"type": "enum", "name": "Unit", "symbols": ["W"]}
    schema = AvroSchema(
        json.dumps(field({"type": "Unit", "doc": "x"})), [json.dumps(unit)], max_bytes=MAX_BYTES
    )
    assert schema.read((), b"\0") == b'{"v":"W"}'


def test_fault_of_a_schema_is_short_and_printable() -> None:
    with pytest.raises(BadSchema) as bad:
        AvroSchema('"\n\x00"' * 10_000, max_bytes=MAX_BYTES)
    assert len(str(bad.value)) <= 200
    assert str(bad.value).isprintable()


def test_record_that_would_be_too_large_as_json_is_not_made() -> None:
    items = field({"type": "array", "items": field("int", "n" * 1000)})
    schema = AvroSchema(json.dumps({**items, "name": "Outer"}), max_bytes=1000)
    assert len(schema.read((), b"\4\0\0\0")) > 2000
    with pytest.raises(BadRecord) as bad:
        schema.read((), b"\xd0\x0f" + bytes(1000) + b"\0")
    assert bad.value.reason == "oversized"


names = st.integers(0, 999).map("n{}".format)
leaves = st.sampled_from(["null", "boolean", "int", "long", "float", "double", "bytes", "string"])


def unions(kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return kinds.filter(lambda kind: not isinstance(kind, list) and kind != "null").map(
        lambda kind: ["null", kind]
    )


def inside(kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    made = kinds.filter(lambda kind: kind != "null")
    return st.one_of(
        made.map(lambda kind: {"type": "array", "items": kind}),
        made.map(lambda kind: {"type": "map", "values": kind}),
        unions(kinds),
    )


schemas = st.lists(st.recursive(leaves, inside, max_leaves=6), max_size=5).map(
    lambda kinds: {
        "type": "record",
        "name": "R",
        "fields": [{"name": f"f{at}", "type": kind} for at, kind in enumerate(kinds)],
    }
)


def same(written: Any, found: Any) -> bool:
    """Whether JSON has what was written."""
    match written:
        case bytes():
            return bool(found == orjson.loads(b'"%b"' % b64encode(written)))
        case float() if not math.isfinite(written):
            return found is None
        case float():
            return math.isclose(written, found, rel_tol=1e-6, abs_tol=1e-45)
        case dict():
            return written.keys() == found.keys() and all(
                same(each, found[key]) for key, each in written.items()
            )
        case list():
            return len(written) == len(found) and all(map(same, written, found))
    return bool(written == found)


@given(schemas)
def test_what_fastavro_writes_is_read(schema: dict[str, Any]) -> None:
    written = generate_one(fastavro.parse_schema(schema))
    found = read(schema, avro_bytes(schema, written))
    again = fastavro.schemaless_reader(
        io.BytesIO(avro_bytes(schema, written)), fastavro.parse_schema(schema), None
    )
    assert same(again, found)


@given(schemas, st.binary(max_size=60))
def test_any_bytes_are_an_object_or_a_bad_record(schema: dict[str, Any], payload: bytes) -> None:
    with contextlib.suppress(BadRecord):
        assert type(read(schema, payload)) is dict
