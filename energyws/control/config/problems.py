"""What is wrong with a configuration: collected key by key, told with the place it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

KeyPath = tuple[str | int, ...]

_MAX_SHOWN: Final = 60
_USER_INFO: Final = re.compile(r"//[^/@\s]*@")
_SECRET_OPTION: Final = re.compile(r"pass|secret|token|key|oauthbearer\.config", re.IGNORECASE)
_SECRETS: Final = (("auth", "jwt_secret"), ("auth", "jwt_secret_previous"), ("admin", "token"))
REDACTED: Final = "***"


def dotted(path: KeyPath) -> str:
    """A path as operators read it: `auth.issuers[0].issuer`."""
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

    rank: sorts places (file by line, then environment, then flags).
    written: a scalar as it was typed, before any substitution; None for a mapping or a list.
    """

    rank: tuple[int, int]
    where: str
    written: str | None = field(default=None, repr=False)

    @property
    def in_file(self) -> bool:
        """Whether `$(VAR)` means something here."""
        return self.rank[0] == 0


class Problems:
    """Every problem found so far, and where each value was written.

    places: what is missing has the place of the section that it is missing from.
    """

    def __init__(self, source: str) -> None:
        self.places: dict[KeyPath, Location] = {(): Location((0, 0), source)}
        self._entries: list[tuple[Location, str]] = []
        self._wrong: set[KeyPath] = set()
        self._meant: set[KeyPath] = set()

    def __bool__(self) -> bool:
        return bool(self._entries)

    def place(self, path: KeyPath) -> Location:
        """Where the value was written, or the nearest thing around it."""
        return next(place for each in _upwards(path) if (place := self.places.get(each)))

    def put(self, path: KeyPath, place: Location) -> None:
        """Take note that the value at `path`, and all inside it, now comes from `place`."""
        for each in [p for p in self.places if p[: len(path)] == path]:
            del self.places[each]
        self.places[path] = place

    def add(self, path: KeyPath, text: str) -> None:
        """The value at `path` is wrong, or missing."""
        self.add_text(f"{dotted(path)}: {text}", self.place(path))
        self._wrong.add(path)

    def add_text(self, text: str, place: Location) -> None:
        """Something is wrong that leaves no value wrong or missing."""
        if (place, text) not in self._entries:
            self._entries.append((place, text))

    def add_meant(self, path: KeyPath) -> None:
        """An unknown key was taken for this one."""
        self._meant.add(path)

    def wrong(self, path: KeyPath) -> bool:
        """Whether the value at `path`, or one that it is part of, is known to be wrong."""
        return any(each in self._wrong for each in _upwards(path))

    def explain_absence(self, path: KeyPath) -> bool:
        """Whether a problem found already is why there is no value at `path`."""
        return self.wrong(path) or any(each in self._meant for each in _upwards(path))

    def found(self, path: KeyPath, value: Any, *, scalar: bool = True) -> str:
        """What stands at `path`, as far as it may be shown.

        scalar: whether a single value belongs there; where none does, its text stays untold,
        since it could be a secret that lost its key.
        """
        if isinstance(value, dict):
            return "a mapping"
        if isinstance(value, list):
            return "a list"
        if is_secret(path):
            return REDACTED
        if not scalar:
            return "a single value"
        place = self.places.get(path)
        written = place.written if place else str(value)
        return shown(written) if written else "nothing"

    def lines(self) -> list[str]:
        """One line for each problem: the file's from top to bottom, then environment and flags."""
        entries = sorted(self._entries, key=lambda entry: entry[0].rank)
        return [f"{place.where}: {text}" for place, text in entries]


def _upwards(path: KeyPath) -> Iterator[KeyPath]:
    return (path[:length] for length in range(len(path), -1, -1))
