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
import io
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from energyws.auth.claims import TokenRefused, time
from energyws.auth.token_cache import VerifiedClaims
from energyws.errors import EnergywsError

# The file's name in the run's directory, where the supervisor leaves it for the workers.
FILE_NAME: Final = "denied"
# Some 170,000 entries of a UUID each.
MAX_DENIED_BYTES: Final = 8 << 20
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
            self.add(each)

    def add(self, entry: Entry) -> None:
        """Deny what this entry names, too."""
        issuer = entry.issuer
        if entry.jti is not None:
            number = token_id(entry.jti)
            issuers = self._ids.get(number, ())
            if issuer not in issuers:
                self._ids[number] = _ANY if issuer is None else (*issuers, issuer)
        elif entry.sub is not None:
            times = dict(self._subjects.get(entry.sub, ()))
            times[issuer] = max(entry.before, times.get(issuer, -math.inf))
            self._subjects[entry.sub] = (*times.items(),)

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
    entries: list[Entry] = []
    bad: list[BadLine] = []
    for each in parsed(data):
        if isinstance(each, Entry):
            entries.append(each)
        else:
            bad.append(each)
    return entries, bad


def parsed(data: bytes) -> Iterator[Entry | BadLine]:
    """One by one, as a long list takes a while."""
    for number, line in enumerate(io.BytesIO(data.removeprefix(b"\xef\xbb\xbf")), 1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        try:
            yield _entry(text)
        except BadEntry as error:
            yield BadLine(number, str(error))


def dump(entries: Iterable[Entry]) -> bytes:
    """The inverse of `parse`."""
    lines = []
    for each in entries:
        before = None if math.isinf(each.before) else each.before
        fields = {"jti": each.jti, "sub": each.sub, "before": before, "iss": each.issuer}
        lines.append(orjson.dumps({key: it for key, it in fields.items() if it is not None}))
    return b"".join(line + b"\n" for line in lines)


def token_id(jti: str) -> int:
    """A number for a `jti`: smaller than the text, and as good as unique."""
    digest = hashlib.blake2b(jti.encode("utf-8", "surrogatepass"), digest_size=7).digest()
    return int.from_bytes(digest)


def _entry(line: bytes) -> Entry:
    try:
        found = orjson.loads(line)
    except ValueError:
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
