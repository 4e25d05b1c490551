"""Whether a token that no known key verifies is bad, or signed by a newly rotated key; no I/O.

An unfamiliar `kid` makes a verifier fetch the issuer's keys again (OpenID Connect Core section
10.1.1); until it has them, it cannot say that the token is bad. The same holds for a bad signature
under a familiar `kid`: the issuer may have replaced that key.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

# Some 300 bytes each.
MAX_UNKNOWN_KEYS: Final = 10_000
# Keys that were fetched longer ago prove nothing about a token of today. Longer than our clients
# wait between two attempts: otherwise a bad token would never be refused for good.
CONFIRMED_SECONDS: Final = 60.0


class UnknownKeys:
    """When each unknown key was first seen, for the newest `capacity`. Times: monotonic seconds.

    A key that was evicted counts as new when it comes again: its client is asked to try again once
    more, and never refused for good too early.
    """

    def __init__(self, capacity: int = MAX_UNKNOWN_KEYS) -> None:
        self._capacity = capacity
        self._first_seen: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._first_seen)

    def is_confirmed(self, key: bytes, fetched: float | None, now: float) -> bool:
        """Whether the issuer's keys were fetched after this key was first seen, and lately.

        If so, the token is bad; if not, the key is noted. fetched: when the newest successful fetch
        began; None: there was none.
        """
        first_seen = self._first_seen.get(key)
        if first_seen is not None:
            if fetched is None or fetched <= first_seen:
                return False
            if now - fetched <= CONFIRMED_SECONDS:
                return True
        self._first_seen[key] = now
        self._first_seen.move_to_end(key)
        if len(self._first_seen) > self._capacity:
            self._first_seen.popitem(last=False)
        return False


def unknown_key(issuer: str, kid: str | None, subject: object) -> bytes:
    """A digest of the key that this issuer used for this subject.

    With the subject, because an attacker who names a key before it is published must not have it
    confirmed for the clients that use it afterwards.
    """
    named = subject if isinstance(subject, str) else None
    text = repr((issuer, kid, named)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).digest()[:16]
