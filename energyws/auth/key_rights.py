"""Which keys of keyed streams a token allows, and which of them a client gets; no I/O.

The claim that auth.keys_claim names is a string, a list of strings, both for every stream with
keys, or an object that has one of them per stream. A string is a key; one that ends in `*` allows
all keys that begin with the rest; `*` alone allows all. No key is ever part of an error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from energyws.auth.claims import TokenRefused
from energyws.errors import EnergywsError
from energyws.protocol.keys import KeyFilter, escaped
from energyws.settings import Auth, Stream

_ANY: Final = "*"


class ForbiddenKey(EnergywsError):
    """A client asks for a key that its token does not allow."""


class BadKey(EnergywsError):
    """Something that cannot be a key; says what can."""


@dataclass(frozen=True, slots=True)
class AllowedKeys:
    """The keys of one stream. everything: all of them, also those of records that have none."""

    everything: bool
    named: KeyFilter

    def allows(self, key: bytes) -> bool:
        """key: not empty."""
        return self.everything or self.named.admits(key)

    def allows_prefix(self, prefix: bytes) -> bool:
        """Whether all keys that begin with this are allowed."""
        return self.everything or prefix.startswith(self.named.prefixes)


@dataclass(frozen=True, slots=True)
class KeyRights:
    """What a token's claim says. general: of every stream that `streams` does not have."""

    general: AllowedKeys | None
    streams: Mapping[str, AllowedKeys]

    def of(self, stream: str) -> AllowedKeys | None:
        """None: the token names no keys of this stream."""
        return self.streams.get(stream, self.general)


def key_rights(claims: dict[str, Any], settings: Auth) -> KeyRights | None:
    """The claim in a token; None: it has none. Raises TokenRefused for one of another shape."""
    if settings.keys_claim not in claims:
        return None
    claim = claims[settings.keys_claim]
    try:
        if isinstance(claim, dict):
            return KeyRights(None, {stream: _allowed(keys) for stream, keys in claim.items()})
        return KeyRights(_allowed(claim), {})
    except BadKey:
        name = settings.keys_claim
        raise TokenRefused("claims", claim="keys", claim_name=name) from None


def _allowed(claim: object) -> AllowedKeys:
    """Raises BadKey."""
    names = [claim] if isinstance(claim, str) else claim
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadKey("keys are strings")
    return AllowedKeys(_ANY in names, _filter(name for name in names if name != _ANY))


def _filter(names: Iterable[str]) -> KeyFilter:
    """Raises BadKey."""
    exact, prefixes = set(), set()
    for name in names:
        try:
            if name.endswith(_ANY):
                prefixes.add(escaped(name[:-1]))
            else:
                exact.add(escaped(name))
        except ValueError as error:
            raise BadKey(str(error)) from None
    return KeyFilter(frozenset(exact), tuple(sorted(prefixes)))


def key_filter(
    stream: Stream, allowed: AllowedKeys | None, wanted: Collection[str] | None
) -> KeyFilter | None:
    """What a client gets of a stream with keys; None: everything.

    allowed: by its token. wanted: what it asks for; None: all that it may have. Raises ForbiddenKey
    if that is nothing, or if it asks for more; all or nothing, so that no answer tells which of
    several keys exist. Raises BadKey.
    """
    keyed = stream.access == "keyed"
    if wanted is None or _ANY in wanted:
        if not keyed or (allowed is not None and allowed.everything):
            return None
        if allowed is None or not allowed.named:
            raise ForbiddenKey
        return allowed.named
    asked = _filter(wanted)
    if keyed and not (allowed and all(map(allowed.allows, asked.exact))):
        raise ForbiddenKey
    # On an open stream as well: a prefix costs a worker more than a key.
    if asked.prefixes and not (allowed and all(map(allowed.allows_prefix, asked.prefixes))):
        raise ForbiddenKey
    return asked
