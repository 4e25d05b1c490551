"""Reads the deny list: the supervisor's copy for the workers, or else the operator's own file."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from energyws.auth.denied import FILE_NAME, Denied, Entry, parsed
from energyws.errors import BootError
from energyws.settings import Auth

# Less than a millisecond's work, between which clients are served.
SLICE_LINES: Final = 200


class DenyFile:
    """directory: where the supervisor leaves the list.

    A cleaner of temporary files may have removed it from there. Both ways to read raise BootError
    if there should be a list that cannot be read.
    """

    def __init__(self, directory: Path) -> None:
        self._copy = directory / FILE_NAME
        self._seen = self._stamp()

    def changed(self) -> bool:
        """Whether the supervisor has left another list since the last call to read one began."""
        return self._stamp() not in (None, self._seen)

    def read(self, settings: Auth) -> Denied:
        """The list, at once."""
        denied = Denied()
        for _ in self._fill(denied, self._data(settings)):
            pass
        return denied

    async def read_in_slices(self, settings: Auth) -> Denied:
        """The list; others run meanwhile."""
        denied = Denied()
        for _ in self._fill(denied, await asyncio.to_thread(self._data, settings)):
            await asyncio.sleep(0)
        return denied

    def _fill(self, denied: Denied, data: bytes) -> Iterator[None]:
        """Fill the list; yields after each slice."""
        for number, each in enumerate(parsed(data)):
            if isinstance(each, Entry):
                denied.add(each)
            if number % SLICE_LINES == 0:
                yield

    def _data(self, settings: Auth) -> bytes:
        # Before it is read, so that a change meanwhile is noticed afterwards.
        self._seen = self._stamp()
        if settings.denied_file is None:
            return b""
        for path in (self._copy, Path(settings.denied_file)):
            try:
                return path.read_bytes()
            except FileNotFoundError:
                continue
            except OSError as error:
                why = f"auth.denied_file: cannot read {path}: {error.strerror}"
                raise BootError(why) from None
        raise BootError(f"auth.denied_file: there is no file {settings.denied_file}")

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            found = self._copy.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size
