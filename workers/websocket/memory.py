"""What the collector and the allocator need to be told about a crowd of connections.

A connection is some twenty objects that the collector tracks, and refers to nothing that refers
back once it is closed. With ten thousand of them a full collection stops the event loop for a
tenth of a second, to find nothing. So they are frozen (gc.freeze) as they come: then the collector
does not look at them again, and they are freed all the same when nobody refers to them.

malloc keeps what is freed below anything that is still in use: after a crowd has left, all that
it held. It is told to give that back (malloc_trim(3)); and when few are left, what was frozen is
looked at once more.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Final

FREEZE_AFTER: Final = 500
TRIM_AFTER: Final = 1_000
# A full collection each so many of the middle generation, instead of CPython's ten: a crowd that
# comes within a second must not bring one about before it is frozen.
FULL_EVERY: Final = 100

_libc: Final = ctypes.CDLL(None)


class MemoryUpkeep:
    """Told how many connections there are, once a second or so."""

    def __init__(self) -> None:
        self._frozen = 0
        self._highest = 0
        self._last = 0
        young, middle, _ = gc.get_threshold()
        gc.set_threshold(young, middle, FULL_EVERY)

    def begin(self) -> None:
        """Everything that is here now stays."""
        gc.collect()
        gc.freeze()

    def tick(self, connections: int) -> None:
        """Freeze after FREEZE_AFTER more, trim when TRIM_AFTER have left and nobody leaves."""
        leaving, self._last = connections < self._last, connections
        self._frozen = min(self._frozen, connections)
        self._highest = max(self._highest, connections)
        if connections - self._frozen >= FREEZE_AFTER:
            self._frozen = connections
            # What is older has survived that before.
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
