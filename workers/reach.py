"""Whether a broker can be reached: one line per change, with the reason in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError

from energyws.flood import Limited
from energyws.log import Log

# How long after an error of one connection the loss of all of them still is its doing.
SAME_SECONDS: Final = 2.0
# How long what a connection said last explains why nobody answers.
RECENT_SECONDS: Final = 15.0

# What may end with no broker at all; the first two are no matter of the network.
_KINDS: Final = {
    KafkaError._AUTHENTICATION: "authentication",
    KafkaError._SSL: "tls",
    KafkaError._TRANSPORT: "network",
    KafkaError._RESOLVE: "network",
    KafkaError._TIMED_OUT: "network",
}

_log = Log("kafka")


class Reach:
    """Told by any thread; on_change(up) is called by the one that brought the news.

    The client library says of a lost broker that a connection broke, and then that none is left:
    the first is the reason of the second, and a line of its own only where others are left.
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
        self._limited = Limited(_log, 10.0, clock)
        self._lock = threading.Lock()
        self._up: bool | None = None
        # The last thing that a connection said, when, and whether that has been written.
        self._last: tuple[float, str, str] | None = None
        self._waits = False
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
        if changed:
            _log.info("broker is reachable", brokers=self._brokers)
            self._on_change(True)

    def lost(self, reason: str) -> None:
        """No broker answers."""
        with self._lock:
            changed, self._up = self._up is not False, False
            self._waits = False
            self._told_kind = "network"
            if self._last is not None and self._clock() - self._last[0] < RECENT_SECONDS:
                _, self._told_kind, reason = self._last
        if changed:
            _log.warning(
                "broker is not reachable: trying again", brokers=self._brokers, reason=reason
            )
            self._on_change(False)

    def error(self, error: KafkaError) -> bool:
        """What the client library reports; whether it may be news of the cluster."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.lost(error.str())
            return True
        kind = _KINDS.get(error.code())
        if kind is None:
            self._limited.warning("Kafka client reports", reason=error.str())
            return False
        with self._lock:
            self._last = self._clock(), kind, error.str()
            self._waits = self._up is not False
            another = not self._waits and kind != self._told_kind
            if another:
                self._told_kind = kind
        if another:
            self._limited.warning("Kafka client reports", kind=kind, reason=error.str())
        return True

    def tell(self) -> None:
        """Write what a connection said, if others are left; to be called every now and then."""
        if not self._waits:
            return
        with self._lock:
            if not self._waits or self._last is None:
                return
            since, _, reason = self._last
            if self._clock() - since < SAME_SECONDS:
                return
            self._waits = False
        self._limited.warning("Kafka client reports", reason=reason)
