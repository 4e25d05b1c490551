"""Who has more connections than its share, and where new ones go; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import ceil
from typing import Any, Final

# Chance alone spreads 1,000 clients over 4 workers within 1.05 of the mean, over 16 within 1.26:
# what is less than a tenth over the mean is not worth a reconnect.
TOLERANCE: Final = 1.1


def share(loads: Mapping[Any, int]) -> int:
    """The connections that each would have if all had the same, rounded up."""
    return ceil(sum(loads.values()) / len(loads)) if loads else 0


def surplus(loads: Mapping[str, int]) -> dict[str, int]:
    """How many connections each of those that have too many should shed."""
    fair = share(loads)
    return {name: load - fair for name, load in loads.items() if load > fair * TOLERANCE}


class Steering:
    """Which slots get new connections: those that are ready, have room, and do not shed clients."""

    def __init__(self) -> None:
        self._steered: tuple[int, ...] = ()
        self._shedding: set[int] = set()
        self._shedding_until = 0.0

    @property
    def shedding(self) -> bool:
        """Whether somebody sheds clients."""
        return bool(self._shedding)

    def shed(self, slots: Iterable[int], until: float) -> None:
        """These get no new connections until then, or until they have their share."""
        self._shedding.update(slots)
        self._shedding_until = until

    def step(
        self,
        now: float,
        loads: Mapping[int, int],
        wanted: Sequence[int],
        full: Collection[int] = (),
    ) -> tuple[int, ...] | None:
        """The slots that get new ones from now on; None: as before.

        loads: the connections of those that are ready. While none is, newcomers wait in the queues
        of all that are wanted. full: those of them that accept nobody for want of descriptors.
        """
        fair = share(loads)
        if now >= self._shedding_until:
            self._shedding.clear()
        self._shedding = {slot for slot in self._shedding if loads.get(slot, 0) > fair}
        roomy = [slot for slot in loads if slot not in full] or list(loads)
        open_ = [slot for slot in roomy if slot not in self._shedding] or roomy
        slots = tuple(open_ or wanted)
        if slots == self._steered:
            return None
        self._steered = slots
        return slots
