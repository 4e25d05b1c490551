"""What is known of schemas, for many threads: as much as there is room for."""

from __future__ import annotations

import threading
from typing import Final, Generic, TypeVar

from energyws.schemas.framing import SchemaId

# A format, and a schema.
Key = tuple[str, SchemaId]
_Value = TypeVar("_Value")


class _Entry(Generic[_Value]):
    __slots__ = ("size", "used", "value")

    def __init__(self, value: _Value, size: int) -> None:
        self.value: Final = value
        self.size: Final = size
        # Whether somebody has asked for it since room was last made.
        self.used = False


class Kept(Generic[_Value]):
    """Keeps `most` values whose sizes sum up to `most_size`, or a single larger one.

    What is in use outlives what is not ("clock" replacement): a producer who names schemas that
    nobody needs must not displace those of others.
    """

    def __init__(self, most: int, most_size: int) -> None:
        self._most = most
        self._most_size = most_size
        self._size = 0
        self._entries: dict[Key, _Entry[_Value]] = {}
        # Held while they change; a look at one needs no lock.
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> _Value | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.used = True
        return entry.value

    def keep(self, key: Key, value: _Value, size: int = 0) -> None:
        """Keep a value, in place of one that the key may have."""
        with self._changing:
            self._drop(key)
            while self._entries and (
                len(self._entries) >= self._most or self._size + size > self._most_size
            ):
                self._make_room()
            self._entries[key] = _Entry(value, size)
            self._size += size

    def _make_room(self) -> None:
        key = next(iter(self._entries))
        if self._entries[key].used:
            # Its turn comes again after the others.
            self._entries[key].used = False
            self._entries[key] = self._entries.pop(key)
        else:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= entry.size
