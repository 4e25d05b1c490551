"""A log for events that clients or a broken dependency can cause in any number."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable

from energyws.logs.events import Levels, Log


class RateLimitedLog(Levels):
    """Writes one line of each kind per `seconds` and counts the others.

    A kind is an event, or an event and the field `kind` (one of a few fixed words, such as a reason
    for refusal), which is not written. `held_back` in a line is the number of events of its kind
    that were not written since the line before it, if there were any. If no further event comes,
    `flush_suppressed` writes the newest one that was held back.
    """

    __slots__ = ("_clock", "_kinds", "_lock", "_log", "_seconds")

    def __init__(
        self, log: Log, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._seconds = seconds
        self._clock = clock
        self._kinds: dict[tuple[str, object], _Kind] = {}
        # Any thread logs, while the main loop flushes.
        self._lock = threading.Lock()

    def fault(self, event: str, **fields: object) -> None:
        """An error of ours that a client triggered, with its place in the code.

        Without the exception's text, which may repeat what the client sent: a token, for example.
        """
        self.emit(logging.ERROR, event, fields, fault=True)

    def emit(
        self, level: int, event: str, fields: dict[str, object], *, fault: bool = False
    ) -> None:
        """fault: with the traceback of the exception being handled, without its text."""
        now = self._clock()
        key = event, fields.pop("kind", "")
        with self._lock:
            kind = self._kinds.setdefault(key, _Kind())
            if now < kind.next:
                kind.held += 1
                kind.newest = level, fields
                _holding.add(self)
                return
            held, kind.held = kind.held, 0
            kind.next = now + self._seconds
        fields |= _count(held)
        if fault:
            fields["traceback"] = _traceback()
        self._log.emit(level, event, fields)

    def flush(self, *, at_once: bool = False) -> None:
        """Write the newest held-back event of each kind whose `seconds` have passed.

        at_once: of every kind.
        """
        now = self._clock()
        due = []
        with self._lock:
            for (event, _), kind in self._kinds.items():
                if kind.held and (at_once or kind.next <= now):
                    level, fields = kind.newest
                    due.append((level, event, {**fields, **_count(kind.held - 1)}))
                    kind.held = 0
                    kind.next = now + self._seconds
            if not any(kind.held for kind in self._kinds.values()):
                _holding.discard(self)
        for level, event, fields in due:
            self._log.emit(level, event, fields)


class _Kind:
    """When the next line of one kind may be written, and what is held back until then."""

    __slots__ = ("held", "newest", "next")

    def __init__(self) -> None:
        self.next = float("-inf")
        self.held = 0
        self.newest: tuple[int, dict[str, object]] = (logging.DEBUG, {})


# The logs that hold something back.
_holding: set[RateLimitedLog] = set()


def flush_suppressed(*, at_once: bool = False) -> None:
    """Write the held-back events whose time has come, of every RateLimitedLog of this process.

    Every process that has a RateLimitedLog must call this every few seconds: otherwise the count
    of a flood is written only with the next event of its kind, or when the process ends.
    """
    for each in _holding.copy():
        each.flush(at_once=at_once)


# Runs before logging's own handler, which was registered earlier: nothing held back is lost.
atexit.register(flush_suppressed, at_once=True)


def _count(held: int) -> dict[str, object]:
    return {"held_back": held} if held else {}


def _traceback() -> str:
    """The type and the origin of the exception being handled, without its text."""
    kind, _, trace = sys.exc_info()
    assert kind is not None
    lines = ["Traceback (most recent call last):\n", *traceback.format_tb(trace), kind.__name__]
    return "".join(lines)
