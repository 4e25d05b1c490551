"""Protobuf messages as JSON, by the descriptors of their schema.

ProtoJSON (protobuf.dev/programming-guides/json), except where it was made for programs that share a
schema and not for dashboards: 64-bit integers are numbers; a field without presence is always
written, since 0 W is a reading; NaN and infinity are null. A google.protobuf.Any stays packed,
unknown fields and extensions are left out, and a map has its keys in order, so that the same record
always has the same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from energyws.schemas import values
from energyws.schemas.protobuf_bounds import Bounds, Shape
from energyws.schemas.values import NANOSECONDS, BadSchema
from energyws.stream.record import BadRecord, check_size

_Indexes = tuple[int, ...]
_Convert = Callable[[Any, "_Budget"], Any]
# Name in JSON, name in Protobuf, how its value is converted; and if the field may be absent, how
# many bytes of JSON its name takes, else 0.
_Field = tuple[str, str, _Convert | None, int]

# How many times kafka.max_record_bytes a record's messages might have while they are read.
_EXPANSION: Final = 64
_MAX_SECONDS: Final = 315_576_000_000


class ProtobufSchema:
    """The messages of one file. descriptors: a FileDescriptorSet, the file itself at its end.

    Raises BadSchema.
    """

    def __init__(self, descriptors: bytes, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._types: dict[_Indexes, tuple[type[Message], _Converter, Shape]] = {}
        self._others: dict[_Indexes, tuple[type[Message], _Converter, Shape]] = {}
        self._bounds = Bounds(_EXPANSION * max_bytes)
        self._converters: dict[str, _Converter] = {}
        try:
            files = descriptor_pb2.FileDescriptorSet.FromString(descriptors).file
            self._pool = descriptor_pool.DescriptorPool()
            for each in files:
                self._pool.Add(each)
            # All at once: later, several threads read with it.
            package = f"{files[-1].package}." if files[-1].package else ""
            self._learn(files[-1].message_type, package, (), ())
            self._free = self._bounds.free
        except Exception as error:
            raise BadSchema(f"it cannot be used: {type(error).__name__}: {error}") from None

    def read(
        self,
        indexes: tuple[int, ...],
        payload: bytes,
        on_null: Callable[[int], None] = lambda count: None,
    ) -> bytes:
        """The JSON object of the message at `indexes` in the file; raises BadRecord.

        on_null: called with the number of values that JSON cannot express, if there are any.
        """
        found = self._types.get(indexes) or self._others.get(indexes)
        if found is None:
            raise BadRecord("undecodable", "its schema has no message at its indexes")
        kind, converter, shape = found
        if len(payload) > self._free:
            self._bounds.check(shape, payload)
        try:
            message = kind.FromString(payload)
            record = converter.convert(message, _Budget(self._max_bytes))
            text = orjson.dumps(record)
        except BadRecord:
            raise
        except Exception as error:
            # Bytes of anybody: the text of an error may have some of them.
            raise BadRecord("undecodable", f"not of its schema: {type(error).__name__}") from None
        if count := values.inexpressible(record, text):
            on_null(count)
        return text

    def converter(self, descriptor: Descriptor) -> _Converter:
        found = self._converters.get(descriptor.full_name)
        if found is None:
            # Known before its fields are, since a message may contain itself.
            found = self._converters[descriptor.full_name] = _Converter()
            found.learn(descriptor, self)
        return found

    def _learn(self, kinds: Iterable[Any], scope: str, above: _Indexes, counted: _Indexes) -> None:
        """above, counted: the indexes of the message around, without and with entries of maps.

        These are no messages of the file's author, and Java's serializer, the first one, does not
        count them; those that have no text of the file do. So theirs are good for what is left.
        """
        own = 0
        for every, each in enumerate(kinds):
            if each.options.map_entry:
                continue
            name, indexes, others = f"{scope}{each.name}", (*above, own), (*counted, every)
            own += 1
            descriptor = self._pool.FindMessageTypeByName(name)
            kind = message_factory.GetMessageClass(descriptor)
            shape = self._bounds.shape(descriptor)
            self._types[indexes] = kind, self.converter(descriptor), shape
            self._others[others] = self._types[indexes]
            self._learn(each.nested_type, f"{name}.", indexes, others)


class _Budget:
    """How many more bytes of JSON a record may have, counted by what each message has at least.

    Names are only in the schema: two bytes of a record could become thousands.
    """

    __slots__ = ("left", "most")

    def __init__(self, most: int) -> None:
        self.left = self.most = most

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            check_size(self.most - self.left, self.most)


class _Converter:
    """Converts messages of one type. least: the bytes of JSON of one without any field set."""

    __slots__ = ("fields", "least", "special")

    def __init__(self) -> None:
        self.fields: tuple[_Field, ...] = ()
        self.least = 2
        self.special: _Convert | None = None

    def learn(self, descriptor: Descriptor, schema: ProtobufSchema) -> None:
        self.special = _SPECIAL.get(descriptor.full_name)
        self.fields = tuple(_field(each, schema) for each in descriptor.fields)
        self.least += sum(_width(name) for name, _, _, absent in self.fields if not absent)

    def convert(self, message: Message, budget: _Budget) -> Any:
        if self.special is not None:
            budget.take(self.least)
            return self.special(message, budget)
        found = {}
        least = self.least
        for name, attribute, convert, absent in self.fields:
            if absent:
                if not message.HasField(attribute):
                    continue
                least += absent
            value = getattr(message, attribute)
            found[name] = value if convert is None else convert(value, budget)
        budget.take(least)
        return found


def _field(field: FieldDescriptor, schema: ProtobufSchema) -> _Field:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        keys, inner = kind.fields_by_name["key"], kind.fields_by_name["value"]
        return field.json_name, field.name, _map(keys, _single(inner, schema)), 0
    single = _single(field, schema)
    if field.is_repeated:
        return field.json_name, field.name, _repeated(single), 0
    absent = _width(field.json_name) if field.has_presence else 0
    return field.json_name, field.name, single, absent


def _width(name: str) -> int:
    """Quotes, a colon and a comma, besides the name."""
    return len(name) + 4


def _single(field: FieldDescriptor, schema: ProtobufSchema) -> _Convert | None:
    """How one value of the field is converted; None: it is JSON's already."""
    match field.type:
        case FieldDescriptor.TYPE_MESSAGE | FieldDescriptor.TYPE_GROUP:
            assert field.message_type is not None
            return schema.converter(field.message_type).convert
        case FieldDescriptor.TYPE_ENUM:
            assert field.enum_type is not None
            return _enum(field.enum_type)
        case FieldDescriptor.TYPE_BYTES:
            return lambda value, _: values.base64(value)
        case FieldDescriptor.TYPE_FLOAT:
            return lambda value, _: values.float32(value)
    return None


def _enum(kind: EnumDescriptor) -> _Convert:
    if kind.full_name == "google.protobuf.NullValue":
        return lambda value, _: None
    names: dict[int, str] = {}
    for each in kind.values:
        # Of names for the same number, the first.
        names.setdefault(each.number, each.name)

    def convert(value: int, budget: _Budget) -> str | int:
        name = names.get(value)
        if name is None:
            return value
        budget.take(len(name))
        return name

    return convert


def _repeated(single: _Convert | None) -> _Convert:
    if single is None:
        return lambda found, _: list(found)
    return lambda found, budget: [single(each, budget) for each in found]


def _map(keys: FieldDescriptor, single: _Convert | None) -> _Convert:
    boolean = keys.type == FieldDescriptor.TYPE_BOOL

    def convert(found: Any, budget: _Budget) -> dict[str, Any]:
        return {
            str(key).lower() if boolean else str(key): (
                found[key] if single is None else single(found[key], budget)
            )
            for key in sorted(found)
        }

    return convert


def _timestamp(message: Any, budget: _Budget) -> str | float:
    if not 0 <= message.nanos < NANOSECONDS:
        return values.NOTHING
    return values.instant(message.seconds * NANOSECONDS + message.nanos) or values.NOTHING


def _duration(message: Any, budget: _Budget) -> str | float:
    whole = message.seconds * NANOSECONDS + message.nanos
    seconds, rest = divmod(abs(whole), NANOSECONDS)
    if seconds > _MAX_SECONDS:
        return values.NOTHING
    return f"{'-' * (whole < 0)}{seconds}{values.fraction(rest)}s"


def _wrapped(message: Any, budget: _Budget) -> Any:
    found = message.value
    return values.base64(found) if isinstance(found, bytes) else found


def _wrapped_float(message: Any, budget: _Budget) -> float:
    return values.float32(message.value)


def _mask(message: Any, budget: _Budget) -> str:
    """Paths in lowerCamelCase, as ProtoJSON has them."""
    return ",".join(_UNDERSCORE.sub(lambda found: found[1].upper(), each) for each in message.paths)


def _struct(message: Any, budget: _Budget) -> dict[str, Any]:
    return {key: _value(message.fields[key], budget) for key in sorted(message.fields)}


def _list(message: Any, budget: _Budget) -> list[Any]:
    return [_value(each, budget) for each in message.values]


def _value(message: Any, budget: _Budget) -> Any:
    match message.WhichOneof("kind"):
        case "struct_value":
            return _struct(message.struct_value, budget)
        case "list_value":
            return _list(message.list_value, budget)
        case None | "null_value":
            return None
        case kind:
            return getattr(message, kind)


def _any(message: Any, budget: _Budget) -> dict[str, str]:
    return {"@type": message.type_url, "value": values.base64(message.value)}


def _decimal(message: Any, budget: _Budget) -> str | float:
    """Confluent's: of a scale that no measure has, JSON could have gigabytes of zeros."""
    if abs(message.scale) > values.MAX_SCALE:
        return values.NOTHING
    budget.take(abs(message.scale))
    return values.decimal(message.value, message.scale)


_UNDERSCORE: Final = re.compile(r"_([a-z0-9])")
_SPECIAL: Final[dict[str, _Convert]] = {
    f"google.protobuf.{name}": convert
    for name, convert in {
        "Any": _any,
        "Duration": _duration,
        "FieldMask": _mask,
        "FloatValue": _wrapped_float,
        "ListValue": _list,
        "Struct": _struct,
        "Timestamp": _timestamp,
        "Value": _value,
        "BytesValue": _wrapped,
        "BoolValue": _wrapped,
        "DoubleValue": _wrapped,
        "Int32Value": _wrapped,
        "Int64Value": _wrapped,
        "StringValue": _wrapped,
        "UInt32Value": _wrapped,
        "UInt64Value": _wrapped,
    }.items()
} | {"confluent.type.Decimal": _decimal}
