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
from energyws.stream.prefixes import begins_with
from energyws.stream.ring_partition import SPARE

_NONE: Final = -1


class Selection(Protocol):
    """Keys, escaped (energyws.protocol.keys): these, and those that begin with a prefix.

    With an empty prefix, also what has no key. conflates: whether newer records supersede older
    ones of the same key.
    """

    @property
    def exact(self) -> Collection[bytes]: ...

    @property
    def prefixes(self) -> tuple[bytes, ...]: ...

    @property
    def conflates(self) -> bool: ...


class KeyIndex:
    """The keys of a ring's entries, by the same indexes. None: an entry without a key.

    first: the index of the entry that is added first.
    """

    __slots__ = ("_begin", "_first", "_keys", "_newest", "_previous")

    def __init__(self, first: int = 0) -> None:
        self._first = first
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
        if begin >= SPARE and 2 * begin >= len(self._keys):
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

    def newest(self, found: list[int], most: int, stop: int) -> tuple[list[int], list[int], int]:
        """Of these indexes, which are all up to `stop`, the first `most` that are their keys' last.

        And how many of the others lie before each of them, and after the last one; and the index up
        to which that is all.
        """
        seen: set[bytes | None] = set()
        places = []
        for place in range(len(found) - 1, -1, -1):
            key = self[found[place]]
            if key == EVERYBODY or key not in seen:
                seen.add(key)
                places.append(place)
        places.reverse()
        end = len(found)
        if len(places) > most:
            end = places[most]
            stop = found[end]
            del places[most:]
        begins = [0, *(place + 1 for place in places)]
        superseded = [place - begin for begin, place in zip(begins, [*places, end], strict=True)]
        return [found[place] for place in places], superseded, stop

    def _scan(self, selection: Selection, start: int, stop: int) -> list[int]:
        exact, prefixes = frozenset((*selection.exact, EVERYBODY)), selection.prefixes
        begins = begins_with(prefixes)
        return [
            index
            for index, key in enumerate(self.read(start, stop), start)
            if (b"" in prefixes if key is None else key in exact or begins(key))
        ]


class ChunkKeys:
    """The keys of the frames in `data`, which are whole and joined."""

    __slots__ = ("_ends", "_numbers")

    def __init__(self, data: bytes) -> None:
        # Where each frame ends, after where the first one begins; and by key the frames' numbers.
        self._ends = array("Q", [0])
        self._numbers: dict[bytes | None, list[int]] = {}
        for number, (whole, payload) in enumerate(frame.split(data)):
            self._ends.append(self._ends[-1] + len(whole))
            self._numbers.setdefault(key_of(payload), []).append(number)

    def find(self, selection: Selection, data: bytes) -> tuple[list[bytes], int]:
        """The frames that are for it, in order, as clients get them that get some keys only.

        And how many of them newer ones supersede, and are left out.
        """
        everybody = self._numbers.get(EVERYBODY, [])
        lists = [self._numbers.get(key, []) for key in self._wanted(selection)]
        superseded = 0
        if selection.conflates:
            superseded = sum(len(each) - 1 for each in lists if each)
            lists = [each[-1:] for each in lists]
        numbers = sorted(chain(everybody, *lists))
        ends = self._ends
        frames = (data[ends[number] : ends[number + 1]] for number in numbers)
        if not everybody:
            return list(frames), superseded
        return [
            frame.uncounted(each) if number in everybody else each
            for number, each in zip(numbers, frames, strict=True)
        ], superseded

    def _wanted(self, selection: Selection) -> Collection[bytes | None]:
        prefixes = selection.prefixes
        if not prefixes:
            return selection.exact
        with_prefix = (
            key
            for key in self._numbers
            if (b"" in prefixes if key is None else key.startswith(prefixes))
        )
        return {*selection.exact, *with_prefix} - {EVERYBODY}
