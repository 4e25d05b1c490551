"""Which prefixes of a set a key begins with: one search among them, whatever lengths they have.

In sorted order, all that lies between a key and its longest prefix begins with that prefix. So the
last prefix that is not beyond the key either is its longest one or begins with it, and each knows
the longest other one that it begins with itself.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from operator import methodcaller
from typing import Final, Generic, TypeVar

from energyws.protocol.keys import shortest

T = TypeVar("T")
# Of more prefixes than these, a search takes less time than a look at each.
FEW: Final = 20


class Prefixes(Generic[T]):
    """A map from prefixes. Adding or removing one takes a step for each that begins with it."""

    __slots__ = ("_shorter", "_sorted", "_things")

    def __init__(self) -> None:
        self._sorted: list[bytes] = []
        self._things: dict[bytes, T] = {}
        # Of each prefix, the longest other one that it begins with.
        self._shorter: dict[bytes, bytes | None] = {}

    def __len__(self) -> int:
        return len(self._sorted)

    def get(self, prefix: bytes) -> T | None:
        return self._things.get(prefix)

    def __getitem__(self, prefix: bytes) -> T:
        return self._things[prefix]

    def __setitem__(self, prefix: bytes, thing: T) -> None:
        if prefix not in self._things:
            shorter = self._longest(prefix)
            self._sorted.insert(bisect_left(self._sorted, prefix), prefix)
            self._shorter[prefix] = shorter
            for longer in self._longer(prefix):
                if self._shorter[longer] == shorter:
                    self._shorter[longer] = prefix
        self._things[prefix] = thing

    def __delitem__(self, prefix: bytes) -> None:
        del self._things[prefix]
        shorter = self._shorter.pop(prefix)
        for longer in self._longer(prefix):
            if self._shorter[longer] == prefix:
                self._shorter[longer] = shorter
        del self._sorted[bisect_left(self._sorted, prefix)]

    def find(self, key: bytes) -> list[T]:
        """What the prefixes of this key lead to."""
        found = []
        prefix = self._longest(key)
        while prefix is not None:
            found.append(self._things[prefix])
            prefix = self._shorter[prefix]
        return found

    def _longest(self, key: bytes) -> bytes | None:
        at = bisect_right(self._sorted, key)
        prefix = self._sorted[at - 1] if at else None
        while prefix is not None and not key.startswith(prefix):
            prefix = self._shorter[prefix]
        return prefix

    def _longer(self, prefix: bytes) -> Iterator[bytes]:
        """The others that begin with one of them."""
        at = bisect_right(self._sorted, prefix)
        while at < len(self._sorted) and self._sorted[at].startswith(prefix):
            yield self._sorted[at]
            at += 1


def begins_with(prefixes: tuple[bytes, ...]) -> Callable[[bytes], bool]:
    """Whether a key begins with one of these."""
    if len(prefixes) <= FEW:
        return methodcaller("startswith", prefixes)
    least = shortest(prefixes)

    def begins(key: bytes) -> bool:
        at = bisect_right(least, key)
        return at > 0 and key.startswith(least[at - 1])

    return begins
