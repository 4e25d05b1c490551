"""The newest value of each key of a stream: what a snapshot is made of.

Rules of this file:

1. Live records come in the order of the stream, and the last one of a key counts. Old ones, which
   are read at the start, never replace those. Among old ones the later one of the same partition
   counts, or by timestamp that of another: nothing else orders partitions.
2. The table is bounded, with what it remembers of absent keys until the old records are read. That
   goes first, and then the key that has been unchanged for longest. The table still knows since
   when it has all keys: each record that it drops, or does not take, counts.
3. Each value has a slot that does not move, and the number of its last change. So a scan can go
   from slot to slot in small steps while values change. It leaves out what has changed since it
   began: whoever scans gets those changes live.
"""

from __future__ import annotations

import math
from array import array
from collections import OrderedDict
from typing import Final, NamedTuple

from energyws.protocol.keys import KeyFilter

# What a value costs besides its own bytes and those of its key (bench/snapshot.py).
ENTRY_BYTES: Final = 256
# The same of an absent key, for two entries of a dictionary.
ABSENT_BYTES: Final = 256
_LIVE: Final = -(1 << 32)


class Value(NamedTuple):
    """The newest record of a key (escaped): its timestamp, and the JSON object in it."""

    key: bytes
    timestamp_ms: int
    data: bytes


class Scanned(NamedTuple):
    """A step of a scan. next_slot: where the next one begins; None: it is over."""

    values: list[Value]
    next_slot: int | None


class LastValues:
    """Of one stream, in one epoch of its topic.

    warm: whether the old records have been read. changes: how often values have changed. bytes:
    about how much memory it takes.
    """

    def __init__(self, max_keys: int, max_bytes: int) -> None:
        self.warm = False
        self.changes = 0
        self.bytes = 0
        self._max_keys = max_keys
        self._max_bytes = max_bytes
        # The slot of each key, in the order of their changes; those first that have not changed
        # since the start.
        self._old: OrderedDict[bytes, int] = OrderedDict()
        self._new: OrderedDict[bytes, int] = OrderedDict()
        # By slot.
        self._keys: list[bytes] = []
        self._data: list[bytes | None] = []
        self._times = array("q")
        self._changed = array("Q")
        self._free: list[int] = []
        # Until it is warm: where each key's newest record is from: _LIVE, p: an old record of
        # partition p, ~p: one that was read back into the ring. And when absent keys had theirs;
        # apart those of _LIVE and ~p, before whose records others may still come.
        self._origins: dict[bytes, int] = {}
        self._absent: OrderedDict[bytes, int] = OrderedDict()
        self._absent_newer: OrderedDict[bytes, int] = OrderedDict()
        # Absent keys have been forgotten: of keys that it does not know, old records from before
        # this are not taken. Of those from before the ones that are read back, and of these.
        self._forgotten_ms = [0.0, 0.0]
        self._since_ms = 0
        self._lacks_some = False

    def __len__(self) -> int:
        """The number of keys."""
        return len(self._old) + len(self._new)

    @property
    def complete(self) -> bool:
        """Whether a key that is not here has no record in the log."""
        return self.warm and not self._since_ms and not self._lacks_some

    @property
    def since_ms(self) -> int | None:
        """All keys with a record since then are here, in Unix milliseconds; None: unknown."""
        return self._since_ms if self.warm and self._since_ms and not self._lacks_some else None

    def put(self, key: bytes, timestamp_ms: int, data: bytes | None) -> None:
        """The stream's next record; data None: it removes its key."""
        if not self.warm:
            self._origins[key] = _LIVE
        self._write(self._new, key, timestamp_ms, data)

    def put_old(
        self, key: bytes, timestamp_ms: int, data: bytes | None, partition: int, *, read_back: bool
    ) -> None:
        """A record from before the live ones; those of a partition in order, in two rows.

        read_back: one of those that the ring begins with; the others come before these.
        """
        assert not self.warm
        origin = self._origins.get(key)
        if origin == _LIVE or (origin == ~partition and not read_back):
            return
        if origin is None and timestamp_ms < self._forgotten_ms[read_back]:
            # Its key may have had a later one.
            if data is not None:
                self._lacks_until(timestamp_ms)
            # And this may be later than others of it that are to come.
            self._forgotten_ms[True] = max(self._forgotten_ms[True], timestamp_ms)
            return
        if origin not in (None, partition, ~partition) and timestamp_ms <= self._time(key):
            return
        self._origins[key] = ~partition if read_back else partition
        self._write(self._old, key, timestamp_ms, data)

    def warmed(self, since_ms: int | None) -> None:
        """All old records since a time were read; None: all that the log has."""
        self.warm = True
        self._since_ms = max(self._since_ms, since_ms or 0)
        for key in (*self._absent, *self._absent_newer):
            self.bytes -= ABSENT_BYTES + len(key)
        self._origins = {}
        self._absent.clear()
        self._absent_newer.clear()

    def lacks(self) -> None:
        """Records were left out, nobody knows of which keys."""
        self._lacks_some = True

    def find(self, key: bytes) -> Value | None:
        slot = self._new.get(key)
        if slot is None:
            slot = self._old.get(key)
        return None if slot is None else self._value(slot)

    def scan(
        self, slot: int, changes: int, keys: KeyFilter | None, most: int, max_bytes: int
    ) -> Scanned:
        """The values in up to `most` slots from `slot` on; it begins at 0.

        Those only that have not changed since there were `changes`, and that are for `keys` (None:
        all of them). It ends early once it has max_bytes.
        """
        end = min(slot + most, len(self._keys))
        values: list[Value] = []
        size = 0
        while slot < end and size < max_bytes:
            data = self._data[slot]
            if data is not None and self._changed[slot] <= changes:
                value = self._value(slot)
                if keys is None or keys.admits(value.key):
                    values.append(value)
                    size += len(data)
            slot += 1
        return Scanned(values, slot if slot < len(self._keys) else None)

    def _value(self, slot: int) -> Value:
        data = self._data[slot]
        assert data is not None
        return Value(self._keys[slot], self._times[slot], data)

    def _time(self, key: bytes) -> int:
        """When a key had its newest record, while this is not warm."""
        value = self.find(key)
        if value is not None:
            return value.timestamp_ms
        return self._absent[key] if key in self._absent else self._absent_newer[key]

    def _write(
        self, order: OrderedDict[bytes, int], key: bytes, timestamp_ms: int, data: bytes | None
    ) -> None:
        slot = self._new.get(key)
        if slot is not None:
            self._new.move_to_end(key)
        else:
            slot = self._old.pop(key, None)
            if slot is not None:
                order[key] = slot
        self.changes += 1
        if not self.warm:
            self._forget(key)
        if data is None:
            if slot is not None:
                self._remove(key)
            self._note_absent(key, timestamp_ms)
            self._keep_within_bounds()
            return
        if slot is None:
            slot = order[key] = self._new_slot(key)
        old = self._data[slot]
        self.bytes += len(data) - (0 if old is None else len(old))
        self._data[slot] = data
        self._times[slot] = timestamp_ms
        self._changed[slot] = self.changes
        self._keep_within_bounds()

    def _keep_within_bounds(self) -> None:
        while (
            len(self) + len(self._absent) + len(self._absent_newer) > self._max_keys
            or self.bytes > self._max_bytes
        ):
            if absent := self._absent or self._absent_newer:
                key, timestamp_ms = next(iter(absent.items()))
                origin = self._origins.pop(key)
                self._forget(key)
                # Records that come later, or are of other partitions, can be told by their time;
                # those that come from before it cannot.
                before, read_back = self._forgotten_ms
                self._forgotten_ms = [
                    max(before, timestamp_ms if origin >= 0 else math.inf),
                    max(read_back, timestamp_ms if origin != _LIVE else math.inf),
                ]
            else:
                self._drop()

    def _note_absent(self, key: bytes, timestamp_ms: int) -> None:
        """Until it is warm: this was the newest record of a key that it does not have."""
        if not self.warm:
            newer = self._origins[key] < 0
            (self._absent_newer if newer else self._absent)[key] = timestamp_ms
            self.bytes += ABSENT_BYTES + len(key)

    def _forget(self, key: bytes) -> None:
        for absent in (self._absent, self._absent_newer):
            if absent.pop(key, None) is not None:
                self.bytes -= ABSENT_BYTES + len(key)

    def _lacks_until(self, timestamp_ms: int) -> None:
        """A record of this time was left out, which may be the newest of its key."""
        self._since_ms = max(self._since_ms, timestamp_ms + 1)

    def _new_slot(self, key: bytes) -> int:
        self.bytes += ENTRY_BYTES + len(key)
        if self._free:
            slot = self._free.pop()
            self._keys[slot] = key
            return slot
        self._keys.append(key)
        self._data.append(None)
        self._times.append(0)
        self._changed.append(0)
        return len(self._keys) - 1

    def _drop(self) -> None:
        """Forget the key that has been unchanged for longest."""
        key, slot = next(iter((self._old or self._new).items()))
        timestamp_ms = self._times[slot]
        self._lacks_until(timestamp_ms)
        self._remove(key)
        self._note_absent(key, timestamp_ms)

    def _remove(self, key: bytes) -> None:
        slot = self._new.pop(key, None)
        if slot is None:
            slot = self._old.pop(key)
        data = self._data[slot]
        assert data is not None
        self.bytes -= ENTRY_BYTES + len(key) + len(data)
        self._data[slot] = None
        self._keys[slot] = b""
        self._free.append(slot)
