"""The deny list: tokens that count no more although they have not expired; no I/O.

Each line is a JSON object; empty lines and lines that begin with `#` are comments:

    {"jti": "9f1c"}                            the token with this id
    {"sub": "tenant-7", "before": 1798761600}  the tokens of this subject that are older
    {"sub": "tenant-7"}                        all tokens of this subject

`before` is in Unix seconds, and is compared with `iat`; a token without `iat` counts as older.
With `iss`, an entry is about the tokens of that issuer only: `jti` and `sub` are unique for one
issuer, not for several (RFC 7519 sections 4.1.2 and 4.1.7).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from energyws.auth.claims import TokenRefused, time
from energyws.auth.token_cache import VerifiedClaims
from energyws.errors import EnergywsError

# The file's name in the run's directory, where the supervisor leaves it for the workers.
FILE_NAME: Final = "denied"
# Some 80,000 entries, which are read in about a second.
MAX_DENIED_BYTES: Final = 4 << 20
_ANY: Final = (None,)
_KEYS: Final = frozenset({"jti", "sub", "before", "iss"})


class BadEntry(EnergywsError):
    """A line that is no entry; the message has the reason, and nothing of the line."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line. Of `jti` and `sub` one is None. before: Unix seconds; issuer None: any."""

    jti: str | None
    sub: str | None
    before: float
    issuer: str | None


@dataclass(frozen=True, slots=True)
class BadLine:
    """number: counted from 1."""

    number: int
    reason: str


class Denied:
    """The entries, so that a token is looked up in them at once."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        # Tuples: most have one item, and there may be many.
        self._ids: dict[int, tuple[str | None, ...]] = {}
        self._subjects: dict[str, tuple[tuple[str | None, float], ...]] = {}
        for each in entries:
            if each.jti is not None:
                number = token_id(each.jti)
                issuers = dict.fromkeys([*self._ids.get(number, ()), each.issuer])
                self._ids[number] = _ANY if len(issuers) == 1 and None in issuers else (*issuers,)
            elif each.sub is not None:
                times = dict(self._subjects.get(each.sub, ()))
                times[each.issuer] = max(each.before, times.get(each.issuer, -math.inf))
                self._subjects[each.sub] = (*times.items(),)

    def covers(self, token: VerifiedClaims) -> bool:
        """Whether this token is on the list."""
        issuers = () if token.id is None else self._ids.get(token.id, ())
        if None in issuers or token.issuer in issuers:
            return True
        times = self._subjects.get(token.subject)
        if times is None:
            return False
        issued = -math.inf if token.issued is None else token.issued
        return any(issued < before for who, before in times if who in (None, token.issuer))


def parse(data: bytes) -> tuple[list[Entry], list[BadLine]]:
    """The entries of a deny list, and the lines that are none."""
    entries, bad = [], []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        try:
            entries.append(_entry(line))
        except BadEntry as error:
            bad.append(BadLine(number, str(error)))
    return entries, bad


def dump(entries: Iterable[Entry]) -> bytes:
    """The inverse of `parse`."""
    lines = []
    for each in entries:
        before = None if math.isinf(each.before) else each.before
        fields = {"jti": each.jti, "sub": each.sub, "before": before, "iss": each.issuer}
        lines.append(json.dumps({key: value for key, value in fields.items() if value is not None}))
    return "".join(f"{line}\n" for line in lines).encode()


def token_id(jti: str) -> int:
    """A number for a `jti`: smaller than the text, and as good as unique."""
    digest = hashlib.blake2b(jti.encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return int.from_bytes(digest)


def _entry(line: bytes) -> Entry:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        raise BadEntry("not a JSON object") from None
    if not isinstance(found, dict):
        raise BadEntry("not a JSON object")
    if not found.keys() <= _KEYS:
        raise BadEntry("an unknown key: jti, sub, before and iss are known")
    jti, sub, issuer = (_text(found, key) for key in ("jti", "sub", "iss"))
    if (jti is None) == (sub is None):
        raise BadEntry("needs jti or sub, and not both")
    if jti is not None and "before" in found:
        raise BadEntry("before goes with sub, not with jti")
    return Entry(jti, sub, _before(found), issuer)


def _text(found: dict[str, Any], key: str) -> str | None:
    value = found.get(key)
    if key in found and not (isinstance(value, str) and value):
        raise BadEntry(f"{key} must be a text that is not empty")
    return value


def _before(found: dict[str, Any]) -> float:
    """Infinite if there is none: then all tokens are older."""
    if "before" not in found:
        return math.inf
    try:
        # It is compared with that claim.
        seconds = time({"iat": found["before"]}, "iat")
    except TokenRefused:
        seconds = None
    if seconds is None:
        raise BadEntry("before must be a number of Unix seconds")
    return seconds
