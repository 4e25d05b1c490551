"""Cursors of subscriptions to some keys of a stream: they find their entries by key."""

from __future__ import annotations

from array import array
from typing import Final

from energyws.protocol import frame
from energyws.protocol.keys import EVERYBODY
from energyws.protocol.messages import OnLag
from energyws.protocol.position import Position
from energyws.stream.key_index import Selection
from energyws.stream.ring import Cursor, Ring

# What a cursor remembers of its entries: with less, the way to them is gone again and again.
MOST_FOUND: Final = 1_024
# Looking for a prefix means looking at every entry, so it is done in pieces.
SCAN_ENTRIES: Final = 4_096
PREFIX_ENTRIES: Final = 65_536


class KeyedCursor(Cursor):
    """selection: the keys that its subscription gets.

    conflated: how many entries it has left out because newer ones supersede them, and its client is
    yet to be told of.
    """

    __slots__ = ("_found", "_selection", "_stop", "_superseded", "_until", "conflated")

    def __init__(self, index: int, position: Position, on_lag: OnLag, selection: Selection) -> None:
        super().__init__(index, position, on_lag)
        self._selection = selection
        # Indexes of its next entries, the nearest last, and up to where these are all.
        self._found = array("q")
        self._stop = 0
        # Up to where it takes the newest entry of each key only; and how many it leaves out before
        # each of those that it has found, and after the last one, the nearest last.
        self._until = 0
        self._superseded = array("q")
        self.conflated = 0

    def take(
        self, stream: str, ring: Ring, stop: int, max_bytes: int, now: float
    ) -> tuple[list[bytes], int]:
        gone = self.index < ring.first
        if gone and self.on_lag is OnLag.SKIP and self._selection.conflates:
            # The newest of each key is soon read, and who shows it must not go on with an old one.
            return self._jump(stream, ring, ring.first)
        return super().take(stream, ring, stop, max_bytes, now)

    def jump_to_newest(self, stream: str, ring: Ring, stop: int) -> tuple[list[bytes], int]:
        """OnLag.LATEST after a pause: of each key, only the newest entry counts."""
        lost = self._jump(stream, ring, ring.first) if self.index < ring.first else ([], 0)
        self._until = stop
        del self._found[:], self._superseded[:]
        return lost

    def _read(self, ring: Ring, stop: int, max_bytes: int) -> tuple[list[bytes], int]:
        assert ring.keys is not None
        found, superseded = self._found, self._superseded
        if not found:
            self._look(ring, stop)
        taken: list[bytes] = []
        size = 0
        while found:
            entry = ring[found[-1]]
            if self.skip is None or not self.skip.covers(entry.partition, entry.offset):
                size += len(entry.frame)
                if size > max_bytes and taken:
                    if superseded:
                        self.conflated += superseded[-1]
                        superseded[-1] = 0
                    return taken, found[-1]
                taken.append(told(ring, found[-1]))
            found.pop()
            if superseded:
                self.conflated += superseded.pop()
        if superseded:
            self.conflated += superseded.pop()
        return taken, self._stop

    def _look(self, ring: Ring, stop: int) -> None:
        assert ring.keys is not None
        # It may stand before what live clients have yet to get.
        stop = max(stop, self.index)
        if self._selection.prefixes:
            stop = min(stop, self.index + SCAN_ENTRIES)
        if self._selection.conflates and self.index >= self._until:
            self._until = stop
        conflating = self.index < self._until
        if conflating:
            stop = min(stop, self._until)
        indexes = ring.keys.find(self._selection, self.index, stop)
        if conflating:
            if (known := self.skip) is not None:
                covers = known.covers
                indexes = [n for n in indexes if not covers(ring[n].partition, ring[n].offset)]
            indexes, superseded, stop = ring.keys.newest(indexes, MOST_FOUND, stop)
            superseded.reverse()
            self._superseded.extend(superseded)
        elif len(indexes) > MOST_FOUND:
            stop = indexes[MOST_FOUND]
            del indexes[MOST_FOUND:]
        indexes.reverse()
        self._found.extend(indexes)
        self._stop = stop

    def _jump(self, stream: str, ring: Ring, index: int) -> tuple[list[bytes], int]:
        # How many of the frames on the way were its own is no longer known.
        frames, missed = super()._jump(stream, ring, index)
        del self._found[:]
        del self._superseded[:]
        self._until = 0
        return [frame.uncounted(each) for each in frames], missed


def told(ring: Ring, index: int) -> bytes:
    """The frame at this index, as clients get it that get some keys only."""
    assert ring.keys is not None
    sent = ring[index].frame
    return frame.uncounted(sent) if ring.keys[index] == EVERYBODY else sent


def replayed(ring: Ring, selection: Selection, known: Position) -> int | None:
    """How many frames for it the ring has after a position; None where counting takes too long."""
    assert ring.keys is not None
    located = ring.locate(known)
    coming = ring.end - located.start
    if selection.prefixes and coming > SCAN_ENTRIES:
        return None
    found = ring.keys.find(selection, located.start, ring.end)
    if located.replayed == coming:
        return len(found)
    # The position covers some of the entries on the way.
    entries = (ring[index] for index in found)
    return sum(not known.covers(entry.partition, entry.offset) for entry in entries)


def newest(ring: Ring, selection: Selection, count: int) -> tuple[int, int]:
    """From which index on there are `count` frames for it, or as many as are found, and how many.

    Those with a prefix are looked for among the newest PREFIX_ENTRIES only.
    """
    assert ring.keys is not None
    first = ring.first
    if selection.prefixes:
        first = max(first, ring.end - PREFIX_ENTRIES)
    found = ring.keys.find(selection, first, ring.end)
    if len(found) < count:
        return first, len(found)
    return [*found, ring.end][-1 - count], count
