"""The problems of a configuration, each with the location where its value was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

KeyPath = tuple[str | int, ...]

_MAX_SHOWN: Final = 60
_USER_INFO: Final = re.compile(r"//[^/@\s]*@")
_SECRET_OPTION: Final = re.compile(r"pass|secret|token|key|oauthbearer\.config", re.IGNORECASE)
_SECRETS: Final = (
    ("auth", "jwt_secret"),
    ("auth", "jwt_secret_previous"),
    ("admin", "token"),
    ("schema_registry", "password"),
)
REDACTED: Final = "***"


def dotted(path: KeyPath) -> str:
    """The path as operators write it: `auth.issuers[0].issuer`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)[1:]


def is_secret(path: KeyPath) -> bool:
    """Whether the value at this path must never be shown."""
    if path[:2] == ("kafka", "options"):
        return len(path) > 2 and _SECRET_OPTION.search(str(path[2])) is not None
    return path[:2] in _SECRETS


def without_user_info(text: str) -> str:
    """The text without the name and password that a URL in it may carry (RFC 3986, 3.2.1)."""
    return _USER_INFO.sub(f"//{REDACTED}@", text)


def shown(text: str) -> str:
    """A text fit for one line of a message: printable, short, no password inside a URL."""
    text = without_user_info(text)
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a value was written.

    rank: the order of locations (file by line, then environment, then flags).
    written: a scalar as it was typed, before any substitution; None for a mapping or a list.
    """

    rank: tuple[int, int]
    where: str
    written: str | None = field(default=None, repr=False)

    @property
    def in_file(self) -> bool:
        """Whether `$(VAR)` is substituted here."""
        return self.rank[0] == 0


class Problems:
    """Every problem found so far, and the location of each value."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._locations: dict[KeyPath, Location] = {(): Location((0, 0), source)}
        # With the path of the value that is wrong, if there is one.
        self._entries: list[tuple[Location, str, KeyPath]] = []
        self._wrong: set[KeyPath] = set()
        self._meant: set[KeyPath] = set()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def line(self, number: int, written: str | None = None) -> Location:
        """A location in the file."""
        return Location((0, number), f"{self._source}:{number}", written)

    def location(self, path: KeyPath) -> Location:
        """The location of the value, or of the smallest section that should have it."""
        return next(found for each in _upwards(path) if (found := self._locations.get(each)))

    def has(self, path: KeyPath) -> bool:
        """Whether the value at `path` was written anywhere."""
        return path in self._locations

    def put(self, path: KeyPath, location: Location) -> None:
        """Record that the value at `path`, and all inside it, now comes from `location`."""
        for each in [known for known in self._locations if known[: len(path)] == path]:
            del self._locations[each]
        self._locations[path] = location

    def add(self, path: KeyPath, text: str) -> None:
        """Add a problem: the value at `path` is wrong or missing."""
        self.add_text(f"{dotted(path)}: {text}" if path else text, self.location(path), path)
        self._wrong.add(path)

    def add_text(self, text: str, location: Location, path: KeyPath = ()) -> None:
        """Add a problem that leaves no value wrong or missing."""
        if (location, text, path) not in self._entries:
            self._entries.append((location, text, path))

    def keep(self, section: str) -> None:
        """Forget the problems outside a section."""
        self._entries = [entry for entry in self._entries if entry[2][:1] == (section,)]

    def add_meant(self, path: KeyPath) -> None:
        """Record that an unknown key was probably meant to be this one."""
        self._meant.add(path)

    def wrong(self, path: KeyPath) -> bool:
        """Whether the value at `path`, or a section around it, is known to be wrong."""
        return any(each in self._wrong for each in _upwards(path))

    def explain_absence(self, path: KeyPath) -> bool:
        """Whether a problem found already is the reason that `path` has no value."""
        return self.wrong(path) or any(each in self._meant for each in _upwards(path))

    def found(self, path: KeyPath, value: Any, *, scalar: bool = True) -> str:
        """The value at `path` as it was typed, if it may be shown; empty if there is none.

        scalar: whether a single value belongs there. If not, it may be a secret that lost its key.
        """
        if isinstance(value, dict):
            return "a mapping"
        if isinstance(value, list):
            return "a list"
        if is_secret(path):
            return REDACTED
        if not scalar:
            return "a single value"
        location = self._locations.get(path)
        return shown((location.written if location else str(value)) or "")

    def lines(self) -> list[str]:
        """A line per problem: the file's from top to bottom, then environment, then flags."""
        entries = sorted(self._entries, key=lambda entry: entry[0].rank)
        return [f"{location.where}: {text}" for location, text, _ in entries]


def _upwards(path: KeyPath) -> Iterator[KeyPath]:
    return (path[:length] for length in range(len(path), -1, -1))
