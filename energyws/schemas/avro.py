"""Avro records as JSON, by the schema with which they were written (Avro 1.12, "Binary encoding").

Logical types as JSON people expect: timestamps in RFC 3339, decimals and UUIDs as strings, bytes as
Base64, a union's value as it is, NaN and infinity as null. fastavro gets logical types of ours for
these, so it makes the values while it reads. What a schema says of a logical type in vain (a
negative scale, say) is ignored, as the specification demands.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any, Final
from uuid import UUID

import orjson
from fastavro import _read_py, parse_schema  # what it reads with where it has no C
from fastavro import read as fastavro_read
from fastavro.io.binary_decoder import BinaryDecoder

from energyws.schemas import values
from energyws.schemas.avro_bounds import PRIMITIVE, Bounds, bounds, check_nesting
from energyws.schemas.values import BadSchema
from energyws.stream.record import BadRecord

# How many times kafka.max_record_bytes a record's JSON might have while it is made.
_EXPANSION: Final = 64
_DURATION_BYTES: Final = 12
_UUID_BYTES: Final = 16
# 64 bits, 7 in each.
_LONG_BYTES: Final = 10
_MILLI: Final = 1_000_000
_MICRO: Final = 1_000
_WRAPPER: Final = "_energyws"
# What is no name of a type that the schema defines.
_KINDS: Final = PRIMITIVE | {"bytes", "string", "record", "error", "enum", "array", "map", "fixed"}
# What Avro 1.12 knows besides a type's own name.
_KEPT: Final = ("type", "name", "namespace", "fields", "symbols", "items", "values", "size")


def _base64(data: bytes, schema: Any = None, reader: Any = None) -> str:
    return values.base64(data)


def _float32(value: float, schema: Any = None, reader: Any = None) -> float:
    return values.float32(value)


def _decimal(data: bytes, schema: Any = None, reader: Any = None) -> str:
    return values.decimal(data, schema["scale"])


def _duration(data: bytes, schema: Any = None, reader: Any = None) -> str:
    """ISO 8601, from months, days and milliseconds."""
    months, days, millis = (int.from_bytes(data[at : at + 4], "little") for at in (0, 4, 8))
    seconds, rest = divmod(millis, 1000)
    return f"P{months}M{days}DT{seconds}{values.fraction(rest * _MILLI)}S"


def _uuid(data: bytes, schema: Any = None, reader: Any = None) -> str:
    return str(UUID(bytes=data))


def _instants(unit: int, zone: str) -> Callable[..., str | float]:
    return lambda value, schema=None, reader=None: (
        values.instant(value * unit, zone) or values.NOTHING
    )


def _times(unit: int) -> Callable[..., str | float]:
    return lambda value, schema=None, reader=None: (
        values.time_of_day(value * unit) or values.NOTHING
    )


def _date(value: int, schema: Any = None, reader: Any = None) -> str | float:
    return values.day(value) or values.NOTHING


# By type and logical type; "": every value of the type.
_READERS: Final[dict[tuple[str, str], Callable[..., Any]]] = {
    ("bytes", ""): _base64,
    ("fixed", ""): _base64,
    ("float", ""): _float32,
    ("bytes", "decimal"): _decimal,
    ("fixed", "decimal"): _decimal,
    ("fixed", "duration"): _duration,
    ("fixed", "uuid"): _uuid,
    ("int", "date"): _date,
    ("int", "time-millis"): _times(_MILLI),
    ("long", "time-micros"): _times(_MICRO),
    ("long", "timestamp-millis"): _instants(_MILLI, "Z"),
    ("long", "timestamp-micros"): _instants(_MICRO, "Z"),
    ("long", "timestamp-nanos"): _instants(1, "Z"),
    ("long", "local-timestamp-millis"): _instants(_MILLI, ""),
    ("long", "local-timestamp-micros"): _instants(_MICRO, ""),
    ("long", "local-timestamp-nanos"): _instants(1, ""),
}
for (_kind, _logical), _reader in _READERS.items():
    for _module in (fastavro_read, _read_py):
        # Both have it, though only one says so.
        _module.LOGICAL_READERS[f"{_kind}-energyws.{_logical}"] = _reader

_read_data: Final[Callable[..., Any]] = _read_py.read_data


class _Decoder(BinaryDecoder):
    """Refuses integers without an end: of a megabyte, fastavro's own makes one in half a minute."""

    def __init__(self, source: BytesIO) -> None:
        self.fo: BytesIO = source

    def read_long(self) -> int:
        value = 0
        for at in range(_LONG_BYTES):
            (byte,) = self.fo.read(1)
            value |= (byte & 0x7F) << (7 * at)
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
        raise ValueError("an integer of more than 64 bits")

    read_int = read_long


class AvroSchema:
    """A schema, and those that it refers to, first those that others need. Raises BadSchema."""

    def __init__(self, text: str, references: Sequence[str] = (), *, max_bytes: int) -> None:
        named: dict[str, Any] = {}
        try:
            for each in references:
                parse_schema(_prepared(each), named)
            prepared = _prepared(text)
            self._wrapped = not (isinstance(prepared, dict) and prepared["type"] == "record")
            self._schema = parse_schema(_wrapped(prepared) if self._wrapped else prepared, named)
            self._bounds: Bounds = bounds(self._schema, named)
        except BadSchema:
            raise
        except Exception as error:
            # Whatever a schema has that is no schema.
            raise BadSchema(f"it cannot be used: {type(error).__name__}: {error}") from None
        self._max_bytes = max_bytes
        self._named = {"writer": named, "reader": {}}

    def read(
        self,
        indexes: tuple[int, ...],
        payload: bytes,
        on_null: Callable[[int], None] = lambda count: None,
    ) -> bytes:
        """The JSON object of a record; raises BadRecord. indexes: only Protobuf has any.

        on_null: called with the number of values that JSON cannot express, if there are any.
        """
        if len(payload) * self._bounds.width > _EXPANSION * self._max_bytes:
            raise BadRecord("oversized", "its JSON could be too large")
        source = BytesIO(payload)
        try:
            found = self._found(source)
            if self._wrapped:
                found = found[_WRAPPER]
            text = orjson.dumps(found)
        except Exception as error:
            # Bytes of anybody: the text of an error may have some of them.
            raise BadRecord("undecodable", f"not of its schema: {type(error).__name__}") from None
        if source.tell() != len(payload):
            raise BadRecord("undecodable", "not of its schema: there are bytes left")
        if type(found) is not dict:
            raise BadRecord("not_an_object", f"an Avro {type(found).__name__}, not a record")
        if count := values.inexpressible(found, text):
            on_null(count)
        return text

    def _found(self, source: BytesIO) -> Any:
        if self._bounds.recursive:
            # Python has a limit of recursion, at ten times the price.
            return _read_data(_Decoder(source), self._schema, self._named)
        return fastavro_read.schemaless_reader(source, self._schema, None)


def _wrapped(schema: Any) -> dict[str, Any]:
    """A record with a value of this schema.

    Only of a record does fastavro know the types that it refers to. A union of references is how
    records of several types are in one topic.
    """
    return {
        "type": "record",
        "name": _WRAPPER,
        "fields": [{"name": _WRAPPER, "type": schema}],
    }


def _prepared(text: str) -> Any:
    """A schema as fastavro gets it: with our logical types, and nothing that reading needs not."""
    try:
        schema = orjson.loads(text)
    except orjson.JSONDecodeError:
        # Registries may write the schema of a lone type without quotes.
        schema = text
    check_nesting(schema)
    return _rewritten(schema)


def _rewritten(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_rewritten(each) for each in schema]
    if isinstance(schema, str):
        return _with_reader(schema, {"type": schema}) if (schema, "") in _READERS else schema
    if not isinstance(schema, dict):
        raise BadSchema("it has a type that is neither a name, nor a list, nor an object")
    kind = schema.get("type")
    if not isinstance(kind, str):
        # {"type": {"type": …}}: what is around it says nothing.
        return _rewritten(kind)
    if kind not in _KINDS:
        # The name of a type, as an object.
        return kind
    kept = {key: schema[key] for key in _KEPT if key in schema}
    for key in ("items", "values"):
        if key in kept:
            kept[key] = _rewritten(kept[key])
    if kind in ("record", "error"):
        fields = kept.get("fields", [])
        kept["fields"] = [
            {"name": each["name"], "type": _rewritten(each["type"])} for each in fields
        ]
        return kept
    return _with_reader(kind, kept, schema)


def _with_reader(kind: str, kept: dict[str, Any], schema: Any = None) -> dict[str, Any]:
    logical = (schema or {}).get("logicalType")
    if isinstance(logical, str) and (kind, logical) in _READERS and _valid(logical, schema):
        kept["logicalType"] = f"energyws.{logical}"
        kept["scale"] = schema.get("scale", 0)
    elif (kind, "") in _READERS:
        kept["logicalType"] = "energyws."
    return kept


def _valid(logical: str, schema: Any) -> bool:
    match logical:
        case "decimal":
            scale = schema.get("scale", 0)
            return type(scale) is int and 0 <= scale <= values.MAX_SCALE
        case "duration":
            return bool(schema.get("size") == _DURATION_BYTES)
        case "uuid":
            return bool(schema.get("size") == _UUID_BYTES)
    return True
