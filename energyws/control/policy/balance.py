"""Which workers have more connections than their share, and which get new ones; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import ceil
from typing import Any, Final

# Chance alone spreads 1,000 clients over 4 workers within 1.05 of the mean, over 16 within 1.26: an
# excess of less than a tenth is not worth a reconnect.
TOLERANCE: Final = 1.1


def share(loads: Mapping[Any, int]) -> int:
    """The mean number of connections, rounded up."""
    return ceil(sum(loads.values()) / len(loads)) if loads else 0


def surplus(loads: Mapping[str, int]) -> dict[str, int]:
    """How many connections each worker that has too many should shed, by its name."""
    fair = share(loads)
    return {name: load - fair for name, load in loads.items() if load > fair * TOLERANCE}


class Steering:
    """Which slots get new connections: those of ready workers, or of the better ones."""

    def __init__(self) -> None:
        self._steered: tuple[int, ...] = ()
        self._shedding: set[int] = set()
        self._shedding_until = 0.0

    @property
    def shedding(self) -> bool:
        """Whether any worker sheds clients."""
        return bool(self._shedding)

    def shed(self, slots: Iterable[int], until: float) -> None:
        """Send these slots no new connections until `until`, or until they are at their share."""
        self._shedding.update(slots)
        self._shedding_until = until

    def step(
        self,
        now: float,
        loads: Mapping[int, int],
        wanted: Sequence[int],
        lesser: Collection[int] = (),
    ) -> tuple[int, ...] | None:
        """The slots that get new connections from now on; None: as before.

        loads: the connections of the workers that are ready, by slot. While none is ready, new
        connections wait in the queues of all `wanted` slots. lesser: slots whose workers accept no
        connection because their file descriptors have run out, or have a stream that stands still.
        """
        fair = share(loads)
        if now >= self._shedding_until:
            self._shedding.clear()
        self._shedding = {slot for slot in self._shedding if loads.get(slot, 0) > fair}
        best = [slot for slot in loads if slot not in lesser] or list(loads)
        open_ = [slot for slot in best if slot not in self._shedding] or best
        slots = tuple(open_ or wanted)
        if slots == self._steered:
            return None
        self._steered = slots
        return slots
