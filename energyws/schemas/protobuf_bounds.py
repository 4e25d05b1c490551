"""What the messages in a record of Protobuf may cost, before any of them is made.

Two bytes are enough to write a message, and it takes the memory and the time of all its fields: a
megabyte of messages with a hundred fields each would take half a gigabyte.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from google.protobuf.descriptor import Descriptor

from energyws.stream.record import BadRecord

# Bytes that a message takes without its fields, and for each of them, about: in the library, and
# as a dict.
_MESSAGE_BYTES: Final = 100
_FIELD_BYTES: Final = 16
# More than the library reads: it refuses what is nested more deeply.
_MAX_DEPTH: Final = 200
_VARINT_BYTES: Final = 10


class Shape:
    """A type of message. cost: bytes of one, without the messages in it; inner: their types, by the
    number of their field."""

    __slots__ = ("cost", "inner")

    def __init__(self, fields: int) -> None:
        self.cost = _MESSAGE_BYTES + _FIELD_BYTES * fields
        self.inner: dict[int, Shape] = {}


_UNKNOWN: Final = Shape(0)


class Bounds:
    """The types of one schema. most: how many bytes the messages of a record may take."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._shapes: dict[str, Shape] = {}
        self._widest = 0

    @property
    def free(self) -> int:
        """Payloads of so many bytes need no check."""
        return 2 * (self._most - self._widest) // max(1, self._widest)

    def shape(self, descriptor: Descriptor) -> Shape:
        """The shape of a type, which is one object for all its uses."""
        found = self._shapes.get(descriptor.full_name)
        if found is not None:
            return found
        found = self._shapes[descriptor.full_name] = Shape(len(descriptor.fields))
        for field in descriptor.fields:
            if field.message_type is not None:
                found.inner[field.number] = self.shape(field.message_type)
        if descriptor.GetOptions().map_entry:
            # The value is made also where the entry has none.
            found.cost += sum(inner.cost for inner in found.inner.values())
        self._widest = max(self._widest, found.cost)
        return found

    def check(self, shape: Shape, payload: bytes) -> None:
        """Raises BadRecord if the messages in a message would take too much."""
        if not shape.inner or len(payload) <= self.free:
            return
        # For what is no message, the library has the words.
        with suppress(IndexError):
            _Count(payload, self._most).take(0, len(payload), shape, 0)


class _Count:
    """Counts the messages in a record. Raises BadRecord for too many, IndexError for no message."""

    __slots__ = ("_left", "_payload")

    def __init__(self, payload: bytes, most: int) -> None:
        self._payload = payload
        self._left = most

    def take(self, at: int, end: int, shape: Shape, depth: int) -> int:
        """Count the message from `at` to `end`, or to the end of its group; where it ends."""
        self._left -= shape.cost
        if self._left < 0:
            raise BadRecord("oversized", "its messages would take too much memory")
        if depth > _MAX_DEPTH:
            raise IndexError
        while at < end:
            tag, at = self._varint(at)
            inner = shape.inner.get(tag >> 3)
            match tag & 7:
                # protobuf.dev/programming-guides/encoding#structure; 3 begins a group, 4 ends it.
                case 0:
                    _, at = self._varint(at)
                case 1:
                    at += 8
                case 2:
                    size, at = self._varint(at)
                    if at + size > end:
                        raise IndexError
                    if inner is not None:
                        self.take(at, at + size, inner, depth + 1)
                    at += size
                case 3:
                    at = self.take(at, end, inner or _UNKNOWN, depth + 1)
                case 4:
                    break
                case 5:
                    at += 4
                case _:
                    raise IndexError
        return at

    def _varint(self, at: int) -> tuple[int, int]:
        value = self._payload[at]
        if value < 0x80:
            return value, at + 1
        value = 0
        for place in range(_VARINT_BYTES):
            byte = self._payload[at + place]
            value |= (byte & 0x7F) << (7 * place)
            if byte < 0x80:
                return value, at + place + 1
        raise IndexError
