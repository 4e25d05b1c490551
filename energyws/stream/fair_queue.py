"""A bounded queue in which subjects take turns: one's many entries never delay another's first.

Rules of this file:

1. A subject's entries stay in their order; subjects with waiting entries are served round-robin.
2. Weights are bytes. An entry counts from `join` to `leave`, even after `take`.
3. A subject may hold as much as is free (the dynamic threshold of Choudhury and Hahne, 1998): a
   single subject gets half of the capacity, and there is always room for another one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from energyws.errors import EnergywsError

Entry = TypeVar("Entry", bound=Hashable)


class QueueFull(EnergywsError):
    """There is no room for another entry of this subject."""


def _any(subject: str) -> bool:
    return True


class FairQueue(Generic[Entry]):
    """capacity: bytes. An entry belongs to one subject."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held: dict[str, int] = {}
        self._weights: dict[Entry, tuple[str, int]] = {}
        self._waiting: OrderedDict[str, OrderedDict[Entry, None]] = OrderedDict()
        self.weight = 0

    def __len__(self) -> int:
        return len(self._weights)

    def join(self, subject: str, entry: Entry, weight: int) -> None:
        """Queue an entry that is not in the queue yet; raises QueueFull."""
        held = self._held.get(subject, 0)
        if held + weight > self._capacity - self.weight:
            raise QueueFull(
                f"{subject!r} holds {held} of {self.weight} bytes: {weight} more do not fit"
            )
        self.weight += weight
        self._held[subject] = held + weight
        self._weights[entry] = subject, weight
        self._wait(subject, entry)

    def take(self, may: Callable[[str], bool] = _any) -> tuple[str, Entry] | None:
        """The next subject for which `may` is true, and its next entry, which waits no longer."""
        subject = next((subject for subject in self._waiting if may(subject)), None)
        if subject is None:
            return None
        entries = self._waiting.pop(subject)
        entry, _ = entries.popitem(last=False)
        if entries:
            self._waiting[subject] = entries
        return subject, entry

    def requeue(self, entry: Entry) -> None:
        """Let an entry that was taken wait once more, after its subject's others."""
        self._wait(self._weights[entry][0], entry)

    def leave(self, entry: Entry) -> None:
        """Remove an entry, whether it waits or was taken."""
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
