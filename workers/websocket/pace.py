"""How many bytes of the past a client may be sent: those of live frames are not counted.

A client that has had its share rests until the next tick, so that its pace is its limit, give or
take one write. Nobody else waits for it.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import Final, Protocol

from energyws.logs.events import Log
from energyws.logs.rate_limit import RateLimitedLog
from energyws.process.usage import Kind
from energyws.protocol.forms import Form
from workers.websocket.shares import Shares

_log = Log("hub")
_CLIENT: Final = "replay_bytes_per_client_per_second"
_SUBJECT: Final = "replay_bytes_per_subject_per_second"


class Recipient(Protocol):
    """A client of a fan-out."""

    form: Form

    @property
    def subject(self) -> str:
        """The subject of its token."""


class Pace:
    """Of all streams of a worker."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._limited = RateLimitedLog(_log, 1.0)
        # The bytes of this tick.
        self._sent: Counter[object] = Counter()

    def may_go_on(self, client: Recipient) -> bool:
        """Whether it may be sent more before the next tick."""
        shares = self._shares
        limit = shares.limits.replay_bytes_per_client_per_second
        if limit is not None and self._sent[_payer(client)] >= limit:
            return self._rests(client, _CLIENT)
        limit = shares.limits.replay_bytes_per_subject_per_second
        if limit is not None:
            now, mark = time.monotonic(), shares.mark(client.subject)
            if shares.usage.spent(Kind.REPLAYED, mark, now) >= limit:
                return self._rests(client, _SUBJECT)
        return True

    def sent(self, client: Recipient, size: int) -> None:
        """It was sent so many bytes."""
        shares = self._shares
        self._sent[_payer(client)] += size
        if shares.limits.replay_bytes_per_subject_per_second is not None:
            now, mark = time.monotonic(), shares.mark(client.subject)
            shares.usage.spend(Kind.REPLAYED, mark, size, now)

    def tick(self) -> None:
        """To be called about once a second."""
        self._sent.clear()

    def _rests(self, client: Recipient, limit: str) -> bool:
        self._shares.met(limit)
        self._limited.info("replay is slowed down", kind=limit, subject=client.subject, limit=limit)
        return False


def _payer(client: Recipient) -> object:
    """Whose share it is: each HTTP request is a client of its own, so those of a subject share."""
    return client.subject if client.form.ends else client
