from __future__ import annotations

import orjson
import pytest

from energyws.schemas.protobuf import ProtobufSchema
from energyws.stream.record import BadRecord
from tests.schemas.samples import proto_class
from workers.consumer.schemas.protoc import compile_descriptors

# As Kafka Connect writes it.
TEXT = """
syntax = "proto3";
import "confluent/meta.proto";
import "confluent/types/decimal.proto";
message Row {
  option (confluent.message_meta) = { doc: "a row" };
  confluent.type.Decimal price = 1 [(confluent.field_meta) = {
    params: [{ key: "precision", value: "9" }, { key: "scale", value: "2" }]
  }];
  repeated confluent.type.Decimal prices = 2;
}
"""


def test_schema_of_kafka_connect_needs_no_references() -> None:
    schema = ProtobufSchema(compile_descriptors(TEXT, {}), max_bytes=5_000)
    row = proto_class(TEXT, "Row")
    made = row(
        price={"value": b"\xfb\x2e", "scale": 2},
        prices=[{"value": b"\1", "scale": -3}, {}, {"scale": 2**31 - 1}],
    )
    counts: list[int] = []
    found = orjson.loads(schema.read((0,), made.SerializeToString(), counts.append))
    assert found == {"price": "-12.34", "prices": ["1000", "0", None]}
    assert counts == [1]
    many = row(prices=[{"scale": 999}] * 6)
    with pytest.raises(BadRecord) as bad:
        schema.read((0,), many.SerializeToString())
    assert bad.value.reason == "oversized"


def test_reference_has_the_say() -> None:
    text = 'syntax = "proto3"; import "confluent/meta.proto"; message A { B b = 1; }'
    own = 'syntax = "proto3"; message B { int32 n = 1; }'
    compiled = compile_descriptors(text, {"confluent/meta.proto": own})
    assert ProtobufSchema(compiled, max_bytes=100).read((0,), b"\x0a\0") == b'{"b":{"n":0}}'
