from __future__ import annotations

import contextlib
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.schemas.protobuf_bounds import Bounds, Shape
from energyws.stream.record import BadRecord
from tests.schemas.samples import proto_class

TEXT = """
syntax = "proto2";
message Top {
  optional int64 n = 1;
  optional double d = 2;
  optional float f = 3;
  optional string s = 4;
  optional Top one = 5;
  repeated Top many = 6;
  map<string, Top> named = 7;
  optional group Pair = 8 { optional int32 a = 9; optional Top top = 10; }
  repeated int32 packed = 11 [packed = true];
}
"""
MOST = 1 << 40

fields: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "n": st.integers(-(2**63), 2**63 - 1),
            "d": st.floats(),
            "f": st.floats(width=32),
            "s": st.text(max_size=200),
            "packed": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "one": inner,
            "many": st.lists(inner, max_size=3),
            "named": st.dictionaries(st.text(max_size=3), inner, max_size=3),
            "pair": st.fixed_dictionaries({}, optional={"a": st.just(1), "top": inner}),
        },
    ),
    max_leaves=8,
)


def top() -> Any:
    return proto_class(TEXT, "Top")


def bounds(most: int) -> tuple[Bounds, Shape]:
    made = Bounds(most)
    return made, made.shape(top().DESCRIPTOR)


def costs(shape: Shape, found: dict[str, Any]) -> int:
    """What the messages cost, by what they were made of."""
    numbers = {"one": 5, "many": 6, "named": 7, "pair": 8, "top": 10}
    total = shape.cost
    for name, value in found.items():
        if name in numbers:
            inner = shape.inner[numbers[name]]
            if name == "named":
                total += sum(inner.cost + costs(inner.inner[2], each) for each in value.values())
            else:
                each_of = value if name == "many" else [value]
                total += sum(costs(inner, each) for each in each_of)
    return total


@given(fields)
def test_messages_are_counted_as_they_are(found: dict[str, Any]) -> None:
    payload = top()(**found).SerializeToString()
    exact = costs(bounds(MOST)[1], found)
    made, shape = bounds(exact)
    made.check(shape, payload)
    made, shape = bounds(exact - 1)
    with pytest.raises(BadRecord) as bad:
        made.check(shape, payload)
    assert bad.value.reason == "oversized"


@given(st.binary(max_size=60))
def test_any_bytes_are_counted(payload: bytes) -> None:
    made, shape = bounds(3000)
    with contextlib.suppress(BadRecord):
        made.check(shape, payload)


@pytest.mark.parametrize(
    "payload",
    [b"\x32\xff", b"\x32\5\0", b"\x0e", b"\x08" + b"\xff" * 11, b"\x43" * 10_000, b"\x07"],
)
def test_what_is_no_message_is_left_to_the_library(payload: bytes) -> None:
    made, shape = bounds(sys.maxsize)
    made._widest = sys.maxsize
    made.check(shape, payload)


def test_message_without_messages_is_not_looked_at() -> None:
    made = Bounds(0)
    made.check(
        made.shape(proto_class("syntax = 'proto3'; message A { int32 n = 1; }", "A").DESCRIPTOR),
        b"\x08\1",
    )


def test_value_that_an_entry_of_a_map_does_not_have_counts() -> None:
    made, shape = bounds(MOST)
    entry = shape.inner[7]
    assert entry.cost > shape.cost
    made, shape = bounds(shape.cost + 2 * entry.cost)
    made.check(shape, b"\x3a\0" * 2)
    with pytest.raises(BadRecord):
        made.check(shape, b"\x3a\0" * 3)
