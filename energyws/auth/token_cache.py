"""The verified claims of tokens seen lately, so that a reconnect costs no signature check.

After a restart thousands of clients reconnect with the tokens that they already had. Only what
cannot change is cached, under a digest of the whole token; the times are compared anew each time.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from energyws.auth.jwks import Key
    from energyws.auth.key_rights import KeyRights


@dataclass(frozen=True, slots=True)
class VerifiedClaims:
    """The claims of a token with a good signature; only its times remain to be compared.

    rights: the keys that it allows; None where it names none.
    expires, not_before, issued: Unix seconds, as claimed, `expires` with the leeway added. issuer:
    its `iss`; None if a token of a shared secret has none. key, keys: that key, and
    the sequence of all of them. id: the number of its `jti` (energyws.auth.denied); None without
    one.
    """

    subject: str
    expires: float
    not_before: float | None
    issued: float | None
    streams: frozenset[str] | None
    issuer: str | None
    key: Key
    keys: Sequence[Key]
    id: int | None
    rights: KeyRights | None = None


class TokenCache:
    """The claims of the `capacity` tokens used last; the tokens themselves are not kept."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._claims: OrderedDict[bytes, VerifiedClaims] = OrderedDict()

    def __len__(self) -> int:
        return len(self._claims)

    def find(self, digest: bytes) -> VerifiedClaims | None:
        claims = self._claims.get(digest)
        if claims is not None:
            self._claims.move_to_end(digest)
        return claims

    def keep(self, digest: bytes, claims: VerifiedClaims) -> None:
        """Add a token; when the cache is full, the least recently used one is dropped."""
        self._claims[digest] = claims
        self._claims.move_to_end(digest)
        if len(self._claims) > self._capacity:
            self._claims.popitem(last=False)

    def forget(self, digest: bytes) -> None:
        self._claims.pop(digest, None)


def digest(token: str) -> bytes:
    """Distinct for distinct tokens, also for those with undecodable bytes."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
