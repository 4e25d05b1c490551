"""Which streams and partitions stall, and why: from metadata, from failed fetches, from silence."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from energyws.process.stalls import Stall
from workers.consumer.progress import Progress

# A partition from which neither a record nor its end has come for this long counts as stalled.
SILENCE_SECONDS: Final = 5.0

_Key = tuple[str, int]


class StallTracker:
    """Collects the stalls of all streams; `update_board` writes them where they have changed."""

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock
        self._partitions: dict[str, int] = {}
        # Partitions from which nothing has come since they were assigned, or since a fetch failed.
        # NONE: nothing is known to be wrong yet.
        self.silent: dict[_Key, Stall] = {}
        self._since: dict[_Key, float] = {}
        self._from_metadata: dict[_Key, Stall] = {}
        self._written: dict[_Key, Stall] = {}

    def restart(self, stream: str, partitions: int) -> None:
        """The stream starts over with this many partitions; nothing has come from them."""
        self._partitions[stream] = 0
        for key in [key for key in self.silent if key[0] == stream]:
            del self.silent[key]
        for _ in range(partitions):
            self.add_partition(stream)

    def add_partition(self, stream: str) -> None:
        """The stream has one more partition; nothing has come from it."""
        key = stream, self._partitions[stream]
        self._partitions[stream] += 1
        self.silent[key] = Stall.NONE
        self._since[key] = self._clock()

    def replace_metadata(self, stream: str, stalls: Mapping[int, Stall]) -> None:
        """Take these for everything that metadata say of the stream, by partition or WHOLE."""
        self._from_metadata = {
            key: stall for key, stall in self._from_metadata.items() if key[0] != stream
        }
        self._from_metadata.update({(stream, partition): s for partition, s in stalls.items()})

    def fetch_failed(self, stream: str, partition: int, stall: Stall) -> None:
        """A fetch was answered with an error."""
        self.silent[stream, partition] = stall

    def heard(self, keys: Collection[_Key]) -> bool:
        """Records, or their end, came from these partitions; True if any of them was silent."""
        news = self.silent.keys() & keys
        for key in news:
            del self.silent[key]
        return bool(news)

    def serves(self, stream: str) -> bool:
        """Whether some of the stream is read, and the reason is known why the rest is not."""
        keys = [(stream, partition) for partition in range(self._partitions.get(stream, 0))]
        return any(key not in self.silent for key in keys) and all(
            self.silent[key] or key in self._from_metadata for key in keys if key in self.silent
        )

    def update_board(self) -> None:
        """Count partitions that are silent for too long as stalled; write what has changed."""
        late = self._clock() - SILENCE_SECONDS
        for key, stall in self.silent.items():
            if stall is Stall.NONE and self._since[key] < late:
                self.silent[key] = Stall.NO_ANSWER
        stalls = {key: stall for key, stall in self.silent.items() if stall}
        # "No leader" is a better reason than silence.
        stalls.update(self._from_metadata)
        if stalls != self._written:
            self._written = stalls
            self._progress.stalls(stalls)
