"""A bounded queue in which subjects take turns: many entries of one never delay another's first.

Rules of this file:

1. One subject's entries stay in their order; subjects that wait are served in rotation.
2. Weights are bytes. An entry weighs from `join` to `leave`, also once it was taken.
3. A subject may hold as much as is free (the dynamic threshold of Choudhury and Hahne, 1998): one
   alone gets half of the room, and there is always some for another one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from energyws.errors import EnergywsError

Entry = TypeVar("Entry", bound=Hashable)


class QueueFull(EnergywsError):
    """There is no room for a further entry of this subject."""


def _everybody(subject: str) -> bool:
    return True


class FairQueue(Generic[Entry]):
    """Entries that wait, in turns. capacity: bytes. An entry belongs to one subject."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: dict[str, int] = {}
        self._weights: dict[Entry, tuple[str, int]] = {}
        self._waiting: OrderedDict[str, OrderedDict[Entry, None]] = OrderedDict()
        self.weight = 0

    def __len__(self) -> int:
        return len(self._weights)

    def join(self, subject: str, entry: Entry, weight: int) -> None:
        """Queue an entry that is not here yet; raises Full."""
        held = self._held.get(subject, 0)
        if held + weight > self._capacity - self.weight:
            raise QueueFull(
                f"{subject!r} holds {held} of {self.weight} bytes: {weight} more do not fit"
            )
        self.weight += weight
        self._held[subject] = held + weight
        self._weights[entry] = subject, weight
        self._wait(subject, entry)

    def take(self, may: Callable[[str], bool] = _everybody) -> tuple[str, Entry] | None:
        """The next subject that may and its next entry, which waits no longer."""
        subject = next((subject for subject in self._waiting if may(subject)), None)
        if subject is None:
            return None
        entries = self._waiting.pop(subject)
        entry, _ = entries.popitem(last=False)
        if entries:
            self._waiting[subject] = entries
        return subject, entry

    def again(self, entry: Entry) -> None:
        """An entry that was taken waits once more, behind its subject's others."""
        self._wait(self._weights[entry][0], entry)

    def leave(self, entry: Entry) -> None:
        """Forget an entry, whether it waits or was taken."""
        subject, weight = self._weights.pop(entry)
        self.weight -= weight
        left = self._held[subject] - weight
        if left:
            self._held[subject] = left
        else:
            del self._held[subject]
        entries = self._waiting.get(subject)
        if entries is not None:
            entries.pop(entry, None)
            if not entries:
                del self._waiting[subject]

    def _wait(self, subject: str, entry: Entry) -> None:
        self._waiting.setdefault(subject, OrderedDict())[entry] = None
