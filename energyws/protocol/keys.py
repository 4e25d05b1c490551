"""Keys of records, as they stand in frames, and which of them a subscription gets.

A key is compared in the form that it has in a frame: the text of a JSON string between its quotes,
as orjson writes it. It thus travels in the frame only, and what a client is told is the key is
what was compared. Two keys are equal where these bytes are, and one begins with another where they
do, since JSON escapes character by character.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Final

import orjson

# In bytes of UTF-8, before it is escaped.
MAX_KEY_BYTES: Final = 256
# What concerns everybody, whatever the filter: a gap. No record has this key.
EVERYBODY: Final = b""

_DATA: Final = b'{"type":"data",'
_REMOVED: Final = b'{"type":"removed",'
# Both messages end with the key and the position, in neither of which a quote is unescaped.
_KEY: Final = b',"key":"'
_ID: Final = b',"id":"'
# What follows the key in a `snapshot` message.
_TIMESTAMP: Final = b'","timestamp":"'


def escaped(key: str) -> bytes:
    """A key as it stands in a frame. Raises ValueError for one that no record can have."""
    try:
        text = orjson.dumps(key)[1:-1]
    except orjson.JSONEncodeError:
        # A lone surrogate.
        raise ValueError("a key must be valid Unicode") from None
    if not text or (len(text) > MAX_KEY_BYTES and len(key.encode()) > MAX_KEY_BYTES):
        raise ValueError(f"a key has 1 to {MAX_KEY_BYTES} bytes")
    return text


def key_of(payload: bytes) -> bytes | None:
    """The key in the payload of a keyed stream's frame, escaped; None where the record has none.

    EVERYBODY for other messages than `data` and `removed`.
    """
    if not payload.startswith((_DATA, _REMOVED)):
        return EVERYBODY
    end = payload.rindex(_ID)
    if payload[end - 1 : end] != b'"':
        # The record itself comes before the position: it is an object.
        return None
    return payload[payload.rindex(_KEY, 0, end) + len(_KEY) : end - 1]


def key_of_snapshot(payload: bytes) -> bytes:
    """The key in the payload of a `snapshot` frame, escaped."""
    begin = payload.index(_KEY) + len(_KEY)
    return payload[begin : payload.index(_TIMESTAMP, begin)]


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """The keys that a subscription gets, escaped: these, and those that begin with a prefix.

    A subscription without a filter gets everything, also records without a key.
    """

    exact: frozenset[bytes]
    prefixes: tuple[bytes, ...] = ()
    # Whether newer records supersede older ones of the same key (energyws.stream.key_index).
    conflates: ClassVar[bool] = False

    def __len__(self) -> int:
        return len(self.exact) + len(self.prefixes)

    def admits(self, key: bytes | None) -> bool:
        """Whether a message with this key (see `key_of`) is for it."""
        if key is None:
            return False
        return key == EVERYBODY or key in self.exact or key.startswith(self.prefixes)

    def common(self, other: KeyFilter) -> KeyFilter:
        """The keys that both get."""
        if self == other:
            return self
        named = {key for key in self.exact if other.admits(key)}
        named |= {key for key in other.exact if self.admits(key)}
        prefixes = {each for each in self.prefixes if each.startswith(other.prefixes)}
        prefixes |= {each for each in other.prefixes if each.startswith(self.prefixes)}
        # One that begins with another says nothing more: many such steps leave few of them.
        least = shortest(prefixes)
        return KeyFilter(frozenset(key for key in named if not key.startswith(least)), least)


def shortest(prefixes: Iterable[bytes]) -> tuple[bytes, ...]:
    """Those that begin with no other one, sorted: the same keys begin with them."""
    found: list[bytes] = []
    for prefix in sorted(prefixes):
        if not found or not prefix.startswith(found[-1]):
            found.append(prefix)
    return tuple(found)


# Also records without a key, in streams of either kind.
EVERYTHING: Final = KeyFilter(frozenset(), (b"",))
