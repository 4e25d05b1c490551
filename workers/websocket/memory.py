"""Memory upkeep: the collector and the allocator need help with many connections.

A connection is some twenty objects that the collector tracks, and is in no reference cycle once it
is closed. With ten thousand of them a full collection stops the event loop for a tenth of a second,
to find nothing. So they are frozen (gc.freeze) as they come: the collector does not look at them
again, and reference counting frees them all the same.

malloc keeps freed memory that lies below anything still in use: after a crowd has left, all that it
held. malloc_trim(3) gives that back; and when few connections are left, the frozen objects are
collected once more.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

FREEZE_AFTER: Final = 500
TRIM_AFTER: Final = 1_000
# Collections of the middle generation before a full one, instead of CPython's ten: a crowd that
# connects within a second must not cause one before it is frozen.
FULL_EVERY: Final = 100

_libc: Final = ctypes.CDLL(None)


class MemoryUpkeep:
    def __init__(self) -> None:
        self._frozen = 0
        self._highest = 0
        self._last = 0
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, FULL_EVERY)

    def begin(self) -> None:
        """Freeze everything that exists now."""
        gc.collect()
        gc.freeze()

    def tick(self, connections: int, most: int = 0) -> None:
        """To be called about once a second, with the number of connections.

        most: the highest since the last call, since a flood of half requests may be gone by now.
        Freezes after FREEZE_AFTER more of them; trims when TRIM_AFTER have left, and no more leave.
        """
        leaving, self._last = connections < self._last, connections
        self._frozen = min(self._frozen, connections)
        self._highest = max(self._highest, connections, most)
        if connections - self._frozen >= FREEZE_AFTER:
            self._frozen = connections
            # The oldest generation has survived a collection before.
            gc.collect(1)
            gc.freeze()
        if self._highest - connections >= TRIM_AFTER and not leaving:
            self._highest = connections
            if connections < FREEZE_AFTER:
                gc.unfreeze()
                self.begin()
            trim()


def trim() -> None:
    """Give free memory back to the kernel, where the C library knows how (glibc)."""
    if hasattr(_libc, "malloc_trim"):
        _libc.malloc_trim(0)
