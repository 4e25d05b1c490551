"""The frame that serializers put around a record: which schema it has, and where its bytes begin.

Confluent's wire format: byte 0, the schema's id (4 bytes, big-endian), for Protobuf the message's
indexes, then the payload. The newer one has byte 1 and the schema's GUID (16 bytes) in place of
byte 0 and the id, mostly in the header `__value_schema_id`: the value is then the payload alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple
from uuid import UUID

from energyws.stream.record import BadRecord

HEADER: Final = "__value_schema_id"
# An id, or a GUID as the registry writes it.
SchemaId = int | str
# Registries count in Java's int, and know nothing of the other half.
MAX_ID: Final = (1 << 31) - 1

_ID_BYTES: Final = 5
_GUID_BYTES: Final = 17
# How deep messages can be nested in a .proto file, and more than any has.
_MAX_INDEXES: Final = 32
_VARINT_BYTES: Final = 5


class Framed(NamedTuple):
    """The schema of a value, the message in it (Protobuf), and where its payload begins."""

    schema_id: SchemaId
    indexes: tuple[int, ...]
    begin: int


def unframe(
    value: bytes, headers: Sequence[tuple[str, bytes | str | None]], *, indexed: bool
) -> Framed:
    """The frame of a value. indexed: whether it has a message's indexes; raises BadRecord."""
    if headers:
        # Of several, the last: who copies a record may leave the header of the one before.
        found = next((found for name, found in reversed(headers) if name == HEADER), None)
        if isinstance(found, bytes):
            schema_id, at = _schema_id(found, f"the header {HEADER}")
            return Framed(schema_id, _indexes(found, at)[0] if indexed else (), 0)
    schema_id, at = _schema_id(value, "the value")
    indexes, at = _indexes(value, at) if indexed else ((), at)
    return Framed(schema_id, indexes, at)


def _schema_id(data: bytes, where: str) -> tuple[SchemaId, int]:
    match data[:1]:
        case b"\0" if len(data) >= _ID_BYTES:
            return int.from_bytes(data[1:_ID_BYTES], "big"), _ID_BYTES
        case b"\1" if len(data) >= _GUID_BYTES:
            return str(UUID(bytes=bytes(data[1:_GUID_BYTES]))), _GUID_BYTES
    raise BadRecord("not_framed", f"{where} does not begin with the id of a schema")


def _indexes(data: bytes, at: int) -> tuple[tuple[int, ...], int]:
    """The path to a message in its file, and what follows it; a lone 0 is short for [0]."""
    count, at = _varint(data, at)
    if not 0 <= count <= _MAX_INDEXES:
        raise BadRecord("not_framed", f"{count} message indexes")
    indexes = []
    for _ in range(count):
        index, at = _varint(data, at)
        indexes.append(index)
    return tuple(indexes) or (0,), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A zigzag-encoded integer, and what follows it."""
    value = 0
    for shift, byte in enumerate(data[at : at + _VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at + shift + 1
    raise BadRecord("not_framed", "the message's indexes do not end")
