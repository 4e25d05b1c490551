"""Whose turn it is where one answer costs more than another; no I/O, no clock.

Start-time fair queueing (Goyal, Vin and Cheng, SIGCOMM 1996): each subject has an account, and the
next turn is that of the subject whose account is lowest. So a subject that asks for much, or often,
or over many connections, delays another by one answer at most; one that asks for little comes
first. A subject that had nothing to ask for begins at the account of the last one served: nobody
saves up.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Hashable
from itertools import count
from typing import Final, Generic, TypeVar

Entry = TypeVar("Entry", bound=Hashable)

# When there are more accounts, all begin anew.
MOST_ACCOUNTS: Final = 1_000


class FairTurns(Generic[Entry]):
    """Entries of subjects that wait for their turn; those of one stay in their order."""

    def __init__(self) -> None:
        self._accounts: dict[bytes, int] = {}
        self._served = 0
        self._waiting: dict[bytes, OrderedDict[Entry, None]] = {}
        # (account, order, subject) of those that wait, but for one whose entry was taken.
        self._heap: list[tuple[int, int, bytes]] = []
        self._order = count()

    def __bool__(self) -> bool:
        """Whether any entry waits."""
        return bool(self._waiting)

    def join(self, subject: bytes, entry: Entry) -> None:
        """Let an entry wait; one that waits already keeps its place."""
        if subject in self._waiting:
            self._waiting[subject][entry] = None
            return
        self._waiting[subject] = OrderedDict({entry: None})
        self._push(subject)

    def take(self) -> tuple[bytes, Entry]:
        """The next subject and its entry, which waits no longer. Then call `charge`."""
        self._served, _, subject = heapq.heappop(self._heap)
        entry, _ = self._waiting[subject].popitem(last=False)
        return subject, entry

    def charge(self, subject: bytes, cost: int) -> None:
        """What the answer to the entry that was taken last has cost."""
        self._accounts[subject] = self._served + cost
        if self._waiting[subject]:
            self._push(subject)
        else:
            del self._waiting[subject]
        if len(self._accounts) > MOST_ACCOUNTS:
            # With more subjects than that, each has few turns anyway.
            self._accounts.clear()

    def _push(self, subject: bytes) -> None:
        account = max(self._accounts.get(subject, 0), self._served)
        heapq.heappush(self._heap, (account, next(self._order), subject))
