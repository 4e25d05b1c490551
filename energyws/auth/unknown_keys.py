"""Whether a token that no known key checks is bad, or comes from after a rotation of keys; pure.

An unfamiliar `kid` makes a verifier fetch the issuer's keys again (OpenID Connect Core section
10.1.1); before it has them, it cannot say that the token is bad. The same holds for a bad signature
by a familiar `kid`: the issuer may have put a new key in its place.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

# Some 300 bytes each.
MAX_DOUBTS: Final = 10_000
# Keys that were fetched longer ago say nothing about a token of today. Longer than our clients wait
# between two attempts, or no bad token would ever be refused for good.
SETTLED_SECONDS: Final = 60.0


class UnknownKeys:
    """When each doubt was first seen: the newest `most`. Times are monotonic seconds.

    A doubt that others have pushed out is a new one when it comes again: its client is answered
    with "try again" once more, and never refused for good too early.
    """

    def __init__(self, most: int = MAX_DOUBTS) -> None:
        self._most = most
        self._first: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._first)

    def settled(self, unknown_key: bytes, fetched: float | None, now: float) -> bool:
        """Whether the keys known now were fetched after this doubt was first seen.

        fetched: when the newest fetch that succeeded began; None: there was none.
        """
        first = self._first.get(unknown_key)
        answered = first is not None and fetched is not None and first < fetched
        if answered and fetched is not None and now - fetched <= SETTLED_SECONDS:
            return True
        if first is None or answered:
            self._first[unknown_key] = now
            self._first.move_to_end(unknown_key)
            if len(self._first) > self._most:
                self._first.popitem(last=False)
        return False


def unknown_key(issuer: str, kid: str | None, subject: object) -> bytes:
    """What is in doubt: the key that this issuer used for this subject.

    With the subject: an attacker who names a key before it is published must not settle the doubt
    for the clients that come with it afterwards.
    """
    named = subject if isinstance(subject, str) else None
    text = repr((issuer, kid, named)).encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).digest()[:16]
