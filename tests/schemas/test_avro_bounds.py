from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.schemas.avro import AvroSchema
from energyws.schemas.avro_bounds import Bounds, bounds, check_nesting
from energyws.schemas.values import BadSchema
from energyws.stream.record import BadRecord


def made(schema: object) -> AvroSchema:
    return AvroSchema(json.dumps(schema), max_bytes=1000)


def record(name: str, **fields: object) -> dict[str, Any]:
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": key, "type": kind} for key, kind in fields.items()],
    }


def chain(length: int) -> list[dict[str, Any]]:
    """Types, each of which has the next one."""
    types = [record("T0", n="int")]
    types += [record(f"T{n}", inner=f"T{n - 1}") for n in range(1, length)]
    return types


def test_nesting_is_bounded_without_recursion() -> None:
    deep: Any = "int"
    for _ in range(1_000_000):
        deep = [deep]
    with pytest.raises(BadSchema, match="nested"):
        check_nesting(deep)
    with pytest.raises(BadSchema, match="large"):
        check_nesting(["int"] * 100_001)
    # What is freed by recursion would end this process.
    while isinstance(deep, list):
        deep = deep.pop()


def test_types_nested_by_their_names_are_bounded() -> None:
    schema = AvroSchema(
        json.dumps(record("Top", inner="T20")),
        [json.dumps(each) for each in chain(21)],
        max_bytes=1000,
    )
    assert schema.read((), b"\2").startswith(b'{"inner":{"inner":')
    with pytest.raises(BadSchema, match="nested"):
        AvroSchema(
            json.dumps(record("Top", inner="T5000")),
            [json.dumps(each) for each in chain(5001)],
            max_bytes=1000,
        )


@pytest.mark.parametrize(
    "items",
    [
        "null",
        record("Empty"),
        record("Nulls", a="null", b="null"),
        {"type": "fixed", "name": "F", "size": 0},
        record("Outer", inner=record("Inner", n="null")),
    ],
    ids=repr,
)
def test_array_of_items_that_take_no_bytes_is_refused(items: object) -> None:
    with pytest.raises(BadSchema, match="no bytes"):
        made(record("R", v={"type": "array", "items": items}))
    # As a branch, each takes a byte.
    made(record("R", v={"type": "array", "items": ["int", items]}))


def test_types_that_double_at_each_level_are_refused() -> None:
    types = [record("L0", n="null")]
    types += [record(f"L{n}", a=f"L{n - 1}", b=f"L{n - 1}") for n in range(1, 40)]
    with pytest.raises(BadSchema, match="too large"):
        AvroSchema(
            json.dumps(record("R", v="L39")), [json.dumps(each) for each in types], max_bytes=1000
        )


def test_width_is_the_most_that_one_byte_becomes() -> None:
    item = record("Item", **{"a" * 100: "int", "b" * 50: "null"})
    assert bounds({"type": "array", "items": item}, {}) == Bounds(False, 2 + 108 + 58)
    assert bounds(record("R", v="int"), {}) == Bounds(False, 33)
    assert bounds(["null", {"type": "enum", "symbols": ["x" * 99]}], {}) == Bounds(False, 101)


@pytest.mark.parametrize("kind", ["bytes", "fixed"])
def test_digits_of_a_decimal_count(kind: str) -> None:
    scaled = {"type": kind, "name": "F", "size": 1, "logicalType": "decimal", "precision": 9}
    schema = made(record("R", v={"type": "array", "items": {**scaled, "scale": 900}}))
    # Each takes a byte or two, and becomes 905.
    assert len(schema.read((), b"\2\0\0")) > 900
    with pytest.raises(BadRecord) as bad:
        schema.read((), b"\x80\2" + bytes(128) + b"\0")
    assert bad.value.reason == "oversized"


def test_type_that_contains_itself_is_told() -> None:
    tree = record("Tree", **{"c" * 100: {"type": "array", "items": "Tree"}})
    assert bounds(tree, {"Tree": tree}) == Bounds(True, 2 + 104 + 2)


@given(
    st.recursive(
        st.sampled_from(["int", "null", "R", "string", 1, None, {"type": "R"}]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "items", "values", "fields", "name", "size", "symbols"]),
                inner | st.sampled_from(["record", "array", "map", "enum", "fixed"]),
            )
        ),
        max_leaves=10,
    )
)
def test_any_json_is_a_schema_or_a_bad_one(schema: object) -> None:
    with contextlib.suppress(BadSchema):
        made(schema)
