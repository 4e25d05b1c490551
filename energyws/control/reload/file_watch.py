"""Whether files have changed, also because a link in their path points elsewhere now.

Kubernetes replaces a mounted secret by renaming a link (`..data`), without a new modification time
of the file; certbot writes certificate and key one after the other. So a change is that a path
leads to another file, and it counts once it looks the same twice in a row.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

# Device, inode, time of modification in ns, size; None: there is no such file.
Stamp = tuple[int, int, int, int] | None


def stamp(path: str) -> Stamp:
    """Tells whether a path has other content, without reading it."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


class WatchedFiles:
    """Some files; call `changed` about once a second."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.follow(paths)

    def follow(self, paths: Iterable[str]) -> None:
        """Watch these files instead; their present content is no change."""
        self._known = {path: stamp(path) for path in paths}
        self._maybe = self._known

    @property
    def paths(self) -> list[str]:
        """The files that are watched."""
        return list(self._known)

    def changed(self) -> bool:
        """Whether any has changed since the last True, and none since the last call."""
        seen = {path: stamp(path) for path in self._known}
        settled, self._maybe = seen == self._maybe, seen
        if seen == self._known or not settled:
            return False
        self._known = seen
        return True
