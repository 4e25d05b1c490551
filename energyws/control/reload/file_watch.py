"""Whether a file has changed, also by a link on the way to it that points elsewhere now.

Kubernetes replaces a mounted secret by one rename of a link (`..data`), whatever the file's own
time says; certbot writes certificate and key one after the other. So what counts is the file that
a path leads to, and only what looks the same twice in a row.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

# Device, inode, time of change, size; None: it is not there.
Stamp = tuple[int, int, int, int] | None


def stamp(path: str) -> Stamp:
    """What tells one content of a path from another without reading it."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


class WatchedFiles:
    """Some files; `changed` is to be asked every second or so."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.follow(paths)

    def follow(self, paths: Iterable[str]) -> None:
        """Look at these from now on; what they hold at present is known."""
        self._known = {path: stamp(path) for path in paths}
        self._maybe = self._known

    @property
    def paths(self) -> list[str]:
        """Those that are looked at."""
        return list(self._known)

    def changed(self) -> bool:
        """Whether they hold something else than at the last True, and have for two looks."""
        seen = {path: stamp(path) for path in self._known}
        settled, self._maybe = seen == self._maybe, seen
        if seen == self._known or not settled:
            return False
        self._known = seen
        return True
