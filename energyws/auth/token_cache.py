"""Tokens whose signature was checked already: what may be remembered of them, and how much.

A crowd that comes back at once brings the tokens that it had. What is kept never opens anything by
itself: only what cannot change is remembered, under a digest of the whole token, and the time is
looked at anew each time (energyws.auth).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class VerifiedClaims:
    """What a token with a good signature grants, whenever it may: all but the time is checked.

    expires, not_before, issued: Unix seconds, as claimed. keys: all those of its issuer at that
    time, None for the shared secret; with others in their place it says nothing any more.
    """

    subject: str
    expires: float
    not_before: float | None
    issued: float | None
    streams: frozenset[str] | None
    issuer: str | None
    keys: Sequence[Any] | None


class TokenCache:
    """The newest `most` grants, by their token; tokens themselves are not kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._grants: OrderedDict[bytes, VerifiedClaims] = OrderedDict()

    def __len__(self) -> int:
        return len(self._grants)

    def find(self, digest: bytes) -> VerifiedClaims | None:
        """What is remembered of a token."""
        grant = self._grants.get(digest)
        if grant is not None:
            self._grants.move_to_end(digest)
        return grant

    def keep(self, digest: bytes, grant: VerifiedClaims) -> None:
        """Remember a token; the one that was not asked about for longest may have to go."""
        self._grants[digest] = grant
        self._grants.move_to_end(digest)
        if len(self._grants) > self._most:
            self._grants.popitem(last=False)

    def forget(self, digest: bytes) -> None:
        """It is of no use any more."""
        self._grants.pop(digest, None)


def digest(token: str) -> bytes:
    """Another one for every other token, undecodable bytes and all."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
