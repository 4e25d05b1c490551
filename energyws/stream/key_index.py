"""Which entries of a ring, or of a chunk of the log, have which key.

Finding the entries of a few keys takes as many steps as they are, however many others there are. In
a ring, those of one key are a chain, from the newest back to older ones: an entry costs two numbers
and its key, and adding or dropping one takes the same time in any ring.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection
from itertools import chain
from typing import Final, Protocol

from energyws.protocol import frame
from energyws.protocol.keys import EVERYBODY, key_of

_NONE: Final = -1
# The room of dropped entries is given back when it is this many, and half of all.
_SPARE: Final = 1_024


class Selection(Protocol):
    """Keys, escaped (energyws.protocol.keys): these, and those that begin with a prefix."""

    @property
    def exact(self) -> Collection[bytes]: ...

    @property
    def prefixes(self) -> tuple[bytes, ...]: ...


class KeyIndex:
    """The keys of a ring's entries, by the same indexes. None: an entry without a key."""

    __slots__ = ("_begin", "_first", "_keys", "_newest", "_previous")

    def __init__(self) -> None:
        self._first = 0
        # Where the oldest entry is in the two arrays: what is before it has been dropped.
        self._begin = 0
        self._keys: list[bytes | None] = []
        self._previous = array("q")
        self._newest: dict[bytes, int] = {}

    def __len__(self) -> int:
        """The number of keys."""
        return len(self._newest)

    def append(self, key: bytes | None) -> None:
        """The next entry has this key."""
        keys = self._keys
        if key is None:
            self._previous.append(_NONE)
        else:
            newest = self._newest
            self._previous.append(newest.get(key, _NONE))
            newest[key] = self._first + len(keys) - self._begin
        keys.append(key)

    def drop(self) -> None:
        """The oldest entry is gone."""
        begin = self._begin
        key = self._keys[begin]
        if key is not None and self._newest[key] == self._first:
            del self._newest[key]
        self._keys[begin] = None
        self._first += 1
        self._begin = begin = begin + 1
        if begin >= _SPARE and 2 * begin >= len(self._keys):
            del self._keys[:begin], self._previous[:begin]
            self._begin = 0

    def __getitem__(self, index: int) -> bytes | None:
        """The key of the entry at `index`."""
        return self._keys[index + self._begin - self._first]

    def read(self, start: int, stop: int) -> list[bytes | None]:
        """The keys of the entries from `start` up to `stop`."""
        shift = self._begin - self._first
        return self._keys[start + shift : stop + shift]

    def find(self, selection: Selection, start: int, stop: int) -> list[int]:
        """The indexes from `start` up to `stop` of entries that are for it, in order.

        Those for everybody are among them.
        """
        if selection.prefixes:
            return self._scan(selection, start, stop)
        shift = self._begin - self._first
        previous = self._previous
        found = []
        for key in chain(selection.exact, (EVERYBODY,)):
            index = self._newest.get(key, _NONE)
            while index >= start:
                if index < stop:
                    found.append(index)
                index = previous[index + shift]
        found.sort()
        return found

    def _scan(self, selection: Selection, start: int, stop: int) -> list[int]:
        exact, prefixes = frozenset((*selection.exact, EVERYBODY)), selection.prefixes
        return [
            index
            for index, key in enumerate(self.read(start, stop), start)
            if key is not None and (key in exact or key.startswith(prefixes))
        ]


class ChunkKeys:
    """The keys of the frames in `data`, which are whole and joined."""

    __slots__ = ("_ends", "_numbers")

    def __init__(self, data: bytes) -> None:
        # Where each frame ends, after where the first one begins; and by key the frames' numbers.
        self._ends = array("Q", [0])
        self._numbers: dict[bytes, list[int]] = {}
        for number, (whole, payload) in enumerate(frame.split(data)):
            self._ends.append(self._ends[-1] + len(whole))
            if (key := key_of(payload)) is not None:
                self._numbers.setdefault(key, []).append(number)

    def find(self, selection: Selection, data: bytes) -> list[bytes]:
        """The frames that are for it, in order, as clients get them that get some keys only."""
        wanted: Collection[bytes] = selection.exact
        if prefixes := selection.prefixes:
            wanted = {*wanted, *(key for key in self._numbers if key.startswith(prefixes))}
        everybody = self._numbers.get(EVERYBODY, ())
        numbers = sorted(chain(everybody, *(self._numbers.get(key, ()) for key in wanted)))
        ends = self._ends
        frames = (data[ends[number] : ends[number + 1]] for number in numbers)
        if not everybody:
            return list(frames)
        return [
            frame.uncounted(each) if number in everybody else each
            for number, each in zip(numbers, frames, strict=True)
        ]
