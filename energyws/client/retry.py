"""Whether a client tries again after a failure, and when."""

from __future__ import annotations

from .backoff import Backoff
from .codes import FATAL, FATAL_ERRORS, UNAUTHORIZED
from .failure import Failure, Refused


class Retry:
    """has_fresh_tokens: whether every attempt gets a token of its own."""

    def __init__(self, has_fresh_tokens: bool) -> None:
        self._has_fresh_tokens = has_fresh_tokens
        self._backoff = Backoff()
        # Whether the last attempt ended with a refused token.
        self._unauthorized = False

    def succeeded(self) -> None:
        self._backoff.reset()
        self._unauthorized = False

    def seconds(self, failure: Failure, after_seconds: float | None) -> float:
        """Seconds until the next attempt; raises Refused where none would help.

        after_seconds: the service's request, if it made one.
        """
        unauthorized = failure.status in UNAUTHORIZED
        # A fresh token may still be good when the last one was refused, but not after two refusals.
        may_renew = self._has_fresh_tokens and not self._unauthorized
        if failure.code in FATAL_ERRORS:
            raise Refused(failure.text, failure.code)
        if failure.status in FATAL or (unauthorized and not may_renew):
            raise Refused(failure.text, failure.code, failure.status)
        self._unauthorized = unauthorized
        return self._backoff.next_seconds() if after_seconds is None else after_seconds
