"""Lines of the log that others can cause, at a limited rate: what is held back is counted."""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable

from energyws.logs.events import Log


class RateLimitedLog:
    """What others can cause: of each kind one line per `seconds`, and the rest counted.

    A kind is an event, or, of one that tells for example reasons apart, an event and `kind`: one
    of a few words of ours. `held_back` in a line is the number of those of its kind that were not
    written since the line before, where there are any. When the seconds are over and no other
    came, the newest one that was held back is written (`flush_suppressed`): the count does not wait
    for the next flood.
    """

    __slots__ = ("_clock", "_kinds", "_lock", "_log", "_seconds")

    def __init__(
        self, log: Log, seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._seconds = seconds
        self._clock = clock
        self._kinds: dict[tuple[str, str], _Kind] = {}
        # Any thread logs, and another one tells what is left.
        self._lock = threading.Lock()

    def debug(self, event: str, *, kind: str = "", **fields: object) -> None:
        """As Log's."""
        self._say(logging.DEBUG, event, kind, fields)

    def info(self, event: str, *, kind: str = "", **fields: object) -> None:
        """As Log's."""
        self._say(logging.INFO, event, kind, fields)

    def warning(self, event: str, *, kind: str = "", **fields: object) -> None:
        """As Log's."""
        self._say(logging.WARNING, event, kind, fields)

    def error(self, event: str, *, kind: str = "", **fields: object) -> None:
        """As Log's."""
        self._say(logging.ERROR, event, kind, fields)

    def fault(self, event: str, *, kind: str = "", **fields: object) -> None:
        """An error of ours that a client brought about, and where it is in the code.

        Not the exception's text, which may repeat what the client sent: a token, for example.
        """
        self._say(logging.ERROR, event, kind, fields, fault=True)

    def tell(self, *, at_once: bool = False) -> None:
        """Write what is held back and due; or all of it."""
        now = self._clock()
        due = []
        with self._lock:
            for (event, _), each in self._kinds.items():
                if each.held and (at_once or each.next <= now):
                    level, fields = each.newest
                    due.append((level, event, {**fields, **_count(each.held - 1)}))
                    each.held = 0
                    each.next = now + self._seconds
            if not any(each.held for each in self._kinds.values()):
                _holding.discard(self)
        for level, event, fields in due:
            self._log.emit(level, event, fields)

    def _say(
        self, level: int, event: str, kind: str, fields: dict[str, object], *, fault: bool = False
    ) -> None:
        now = self._clock()
        with self._lock:
            each = self._kinds.setdefault((event, kind), _Kind())
            if now < each.next:
                each.held += 1
                each.newest = level, fields
                _holding.add(self)
                return
            held, each.held = each.held, 0
            each.next = now + self._seconds
        fields |= _count(held)
        if fault:
            fields["traceback"] = _where()
        self._log.emit(level, event, fields)


def _count(held: int) -> dict[str, object]:
    return {"held_back": held} if held else {}


class _Kind:
    """What is known of one kind: when a line may be written, and what is held back until then."""

    __slots__ = ("held", "newest", "next")

    def __init__(self) -> None:
        self.next = float("-inf")
        self.held = 0
        self.newest: tuple[int, dict[str, object]] = (logging.DEBUG, {})


# Those that hold something back.
_holding: set[RateLimitedLog] = set()


def flush_suppressed(*, at_once: bool = False) -> None:
    """Write what any RateLimitedLog holds back and is due; to be called every now and then."""
    for each in _holding.copy():
        each.tell(at_once=at_once)


# Before logging's own, which was registered earlier: what is held back is not forgotten at the end.
atexit.register(flush_suppressed, at_once=True)


def _where() -> str:
    """The exception being handled: its type and where it came from, without its text."""
    kind, _, trace = sys.exc_info()
    assert kind is not None
    lines = ["Traceback (most recent call last):\n", *traceback.format_tb(trace), kind.__name__]
    return "".join(lines)
