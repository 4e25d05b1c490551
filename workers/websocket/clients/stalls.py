"""Which clients have acknowledged nothing for too long. Pure.

The kernel would do it (TCP_USER_TIMEOUT), but also ends connections of clients that do read. Linux
counts from the first probe of a closed window, and forgets that time only when an acknowledgement
makes room for the whole next segment while nothing is in flight (tcp_ack_probe). A window that
opens by less leaves the time in place, and the next one that closes, however much later, ends the
connection with its first probe.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Stalls(Generic[T]):
    """Remembers only those that had bytes to acknowledge when they were last looked at."""

    __slots__ = ("_since",)

    def __init__(self) -> None:
        # What each had acknowledged, and when that was first seen.
        self._since: dict[T, tuple[int, float]] = {}

    def look(self, at: T, acknowledged: int | None, now: float, most: float) -> bool:
        """Whether it has acknowledged nothing for `most` seconds, although it was sent bytes.

        acknowledged: how many bytes, since it connected; None: everything.
        """
        if acknowledged is None:
            self._since.pop(at, None)
            return False
        before = self._since.get(at)
        if before is None or before[0] != acknowledged:
            self._since[at] = (acknowledged, now)
            return False
        return now - before[1] >= most

    def forget(self, one: T) -> None:
        """It is gone."""
        self._since.pop(one, None)
