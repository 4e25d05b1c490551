"""Whether a broker can be reached: one line per change, with the reason in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError

from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog

# How long the loss of all brokers waits for its reason, and what a connection said waits to be one.
SAME_SECONDS: Final = 2.0
# How long what a connection said last explains why nobody answers.
RECENT_SECONDS: Final = 15.0

# Of a loss that nothing was said of.
UNKNOWN: Final = "no broker answers"

# What may end with no broker at all; the first two are no matter of the network.
_KINDS: Final = {
    KafkaError._AUTHENTICATION: "authentication",
    KafkaError._SSL: "tls",
    KafkaError._TRANSPORT: "network",
    KafkaError._RESOLVE: "network",
    KafkaError._TIMED_OUT: "network",
}

_log = Log("kafka")


class Reachability:
    """Told by any thread; on_change(up) is called at once, by the one that brought the news.

    The client library says of a lost broker that a connection broke, and that none is left, in
    either order: the first is the reason of the second, and a line of its own only where others
    are left.
    """

    def __init__(
        self,
        brokers: str,
        on_change: Callable[[bool], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._brokers = brokers
        self._on_change = on_change
        self._clock = clock
        self._limited = RateLimitedLog(_log, 10.0, clock)
        self._lock = threading.Lock()
        self._up: bool | None = None
        # The last thing that a connection said: when, of which kind, in which words.
        self._last: tuple[float, str, str] | None = None
        # What is to be written unless more comes of it, and when: that, or the loss.
        self._said_due: float | None = None
        self._lost_due: float | None = None
        self._told_kind = ""

    @property
    def up(self) -> bool:
        """Whether a broker answered last."""
        return bool(self._up)

    def seen(self) -> None:
        """A broker has answered."""
        if self._up:
            return
        with self._lock:
            changed, self._up = not self._up, True
            unsaid, self._lost_due = self._lost_due is not None, None
        if changed:
            if unsaid:
                self._tell_lost(UNKNOWN)
            _log.info("broker is reachable", brokers=self._brokers)
            self._on_change(True)

    def lost(self, reason: str | None = None) -> None:
        """No broker answers; the reason, if there is one better than what a connection said."""
        with self._lock:
            changed, self._up = self._up is not False, False
            if not changed:
                return
            self._said_due = None
            now = self._clock()
            if self._last is not None and now - self._last[0] < RECENT_SECONDS:
                _, self._told_kind, reason = self._last
            else:
                self._told_kind = "network"
            if reason is None:
                self._lost_due = now + SAME_SECONDS
        if reason is not None:
            self._tell_lost(reason)
        self._on_change(False)

    def error(self, error: KafkaError) -> bool:
        """What the client library reports; whether it may be news of the cluster."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.lost()
            return True
        kind = _KINDS.get(error.code())
        if kind is None:
            self._limited.warning("Kafka client reports", reason=error.str())
            return False
        with self._lock:
            now = self._clock()
            self._last = now, kind, error.str()
            reason, self._lost_due = self._lost_due is not None, None
            if self._up is not False:
                self._said_due = now + SAME_SECONDS
            another = self._up is False and kind != self._told_kind
            if another:
                self._told_kind = kind
        if reason:
            self._tell_lost(error.str())
        elif another:
            self._limited.warning("Kafka client reports", kind=kind, reason=error.str())
        return True

    def tell(self) -> None:
        """Write what is due; to be called every now and then."""
        if self._said_due is None and self._lost_due is None:
            return
        with self._lock:
            now = self._clock()
            said = self._said_due is not None and now >= self._said_due
            lost = self._lost_due is not None and now >= self._lost_due
            if said:
                self._said_due = None
            if lost:
                self._lost_due = None
            last = self._last
        if said and last is not None:
            self._limited.warning("Kafka client reports", reason=last[2])
        if lost:
            self._tell_lost(UNKNOWN)

    def _tell_lost(self, reason: str) -> None:
        _log.warning("broker is not reachable: trying again", brokers=self._brokers, reason=reason)
