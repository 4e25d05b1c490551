"""Which streams and partitions are not read now, and why: by metadata, by fetches, by silence."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Final

from energyws.process.stalls import Stall
from workers.consumer.progress import Progress

# How long a partition may say nothing, not even where it ends, before nobody waits for it.
STALLED_SECONDS: Final = 5.0

_Key = tuple[str, int]


class StallTracker:
    """Written on the board by `tell`, where it has changed."""

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self._progress = progress
        self._clock = clock
        self._partitions: dict[str, int] = {}
        # Of which nothing has come since it was assigned or failed. NOTHING: not yet, all is well.
        self.silent: dict[_Key, Stall] = {}
        self._since: dict[_Key, float] = {}
        self._looked: dict[_Key, Stall] = {}
        self._told: dict[_Key, Stall] = {}

    def found(self, stream: str, partitions: int) -> None:
        """The stream starts over with so many partitions; nothing has been heard of them."""
        self._partitions[stream] = 0
        for key in [key for key in self.silent if key[0] == stream]:
            del self.silent[key]
        for _ in range(partitions):
            self.grown(stream)

    def grown(self, stream: str) -> None:
        """One more partition."""
        key = stream, self._partitions[stream]
        self._partitions[stream] += 1
        self.silent[key] = Stall.NOTHING
        self._since[key] = self._clock()

    def looked(self, stream: str, waits: Mapping[int, Stall]) -> None:
        """What metadata say of a stream: all of it."""
        self._looked = {key: wait for key, wait in self._looked.items() if key[0] != stream}
        self._looked.update({(stream, partition): wait for partition, wait in waits.items()})

    def trouble(self, stream: str, partition: int, wait: Stall) -> None:
        """A fetch has failed."""
        self.silent[stream, partition] = wait

    def heard(self, keys: Collection[_Key]) -> bool:
        """Records came of these, or where they end; whether that is news of any."""
        news = self.silent.keys() & keys
        for key in news:
            del self.silent[key]
        return bool(news)

    def serves(self, stream: str) -> bool:
        """Whether some of it is read, and it is known why the rest is not."""
        keys = [(stream, partition) for partition in range(self._partitions.get(stream, 0))]
        return any(key not in self.silent for key in keys) and all(
            self.silent[key] or key in self._looked for key in keys if key in self.silent
        )

    def tell(self) -> None:
        """Give up waiting for those that are silent for too long; write what has changed."""
        late = self._clock() - STALLED_SECONDS
        for key, wait in self.silent.items():
            if wait is Stall.NOTHING and self._since[key] < late:
                self.silent[key] = Stall.NO_ANSWER
        waits = {key: wait for key, wait in self.silent.items() if wait}
        # No leader is a better reason than silence.
        waits.update(self._looked)
        if waits != self._told:
            self._told = waits
            self._progress.waits(waits)
