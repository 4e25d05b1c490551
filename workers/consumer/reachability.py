"""Whether a broker can be reached: one log line per change, with the reason in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError

from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog

# How long the loss of all brokers waits for a connection's error to be its reason, and such an
# error for the loss that it explains.
PAIRING_SECONDS: Final = 2.0
# How long a connection's error explains why no broker answers.
RECENT_SECONDS: Final = 15.0

NO_REASON: Final = "no broker answers"

# Errors after which no broker may be left; the first two have other causes than the network.
_KINDS: Final = {
    KafkaError._AUTHENTICATION: "authentication",
    KafkaError._SSL: "tls",
    KafkaError._TRANSPORT: "network",
    KafkaError._RESOLVE: "network",
    KafkaError._TIMED_OUT: "network",
}

_log = Log("kafka")


class Reachability:
    """Thread-safe. on_change(up) is called at once, by the thread that reports the change.

    When a broker is lost, librdkafka reports that a connection broke and that no broker is left, in
    either order. The first is the reason of the second; it gets a line of its own only where other
    brokers are left.
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
        # The last error of a connection: when, of which kind, its text.
        self._last_error: tuple[float, str, str] | None = None
        # When that error, or the loss of all brokers, is logged unless the other comes first.
        self._error_due: float | None = None
        self._loss_due: float | None = None
        self._logged_kind = ""

    @property
    def up(self) -> bool:
        """Whether the last news was that a broker answers."""
        return bool(self._up)

    def answered(self) -> None:
        """A broker has answered."""
        if self._up:
            return
        with self._lock:
            changed, self._up = not self._up, True
            unlogged, self._loss_due = self._loss_due is not None, None
        if changed:
            if unlogged:
                self._log_loss(NO_REASON)
            _log.info("broker is reachable", brokers=self._brokers)
            self._on_change(True)

    def lost(self, reason: str | None = None) -> None:
        """No broker answers. A recent error of a connection is a better reason than `reason`."""
        with self._lock:
            changed, self._up = self._up is not False, False
            if not changed:
                return
            self._error_due = None
            now = self._clock()
            if self._last_error is not None and now - self._last_error[0] < RECENT_SECONDS:
                _, self._logged_kind, reason = self._last_error
            else:
                self._logged_kind = "network"
            if reason is None:
                self._loss_due = now + PAIRING_SECONDS
        if reason is not None:
            self._log_loss(reason)
        self._on_change(False)

    def error(self, error: KafkaError) -> bool:
        """librdkafka's error_cb; True if the cluster may have changed."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self.lost()
            return True
        kind = _KINDS.get(error.code())
        if kind is None:
            self._limited.warning("Kafka client reports", reason=error.str())
            return False
        with self._lock:
            now = self._clock()
            self._last_error = now, kind, error.str()
            explains, self._loss_due = self._loss_due is not None, None
            if self._up is not False:
                self._error_due = now + PAIRING_SECONDS
            another = self._up is False and kind != self._logged_kind
            if another:
                self._logged_kind = kind
        if explains:
            self._log_loss(error.str())
        elif another:
            self._limited.warning("Kafka client reports", kind=kind, reason=error.str())
        return True

    def log_due(self) -> None:
        """Log what has waited long enough; call this several times a second."""
        if self._error_due is None and self._loss_due is None:
            return
        with self._lock:
            now = self._clock()
            error = self._error_due is not None and now >= self._error_due
            loss = self._loss_due is not None and now >= self._loss_due
            if error:
                self._error_due = None
            if loss:
                self._loss_due = None
            last = self._last_error
        if error and last is not None:
            self._limited.warning("Kafka client reports", reason=last[2])
        if loss:
            self._log_loss(NO_REASON)

    def _log_loss(self, reason: str) -> None:
        _log.warning("broker is not reachable: trying again", brokers=self._brokers, reason=reason)
