"""What one worker fetched, for all of them: a file for each JWKS in the run's own directory.

One worker fetches at a time, under a lock that the kernel releases when its process ends; the
others then find what it fetched. So nobody is chosen, and nobody has to be missed. The directory
belongs to this run and to this user only; the keys in it are public.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from energyws.settings import Issuer


@dataclass(frozen=True, slots=True)
class Attempt:
    """The state of a JWKS after the last attempt to fetch it; times in monotonic seconds.

    Monotonic time is the same for all processes of a machine. attempted: when the last attempt
    began. failures: how many attempts failed since the last that succeeded. began, ended: of that
    one, `ended` in Unix seconds; jwks: what it fetched; None and empty if there was none.
    """

    attempted: float
    failures: int
    began: float | None = None
    ended: float | None = None
    jwks: str = ""


class SharedKeys:
    """The file of one issuer's JWKS. If the directory cannot be used, each worker is on its own."""

    def __init__(self, directory: Path, issuer: Issuer) -> None:
        # With the URL: while settings change, workers may have different ones.
        name = hashlib.sha256(repr((issuer.issuer, issuer.jwks_url)).encode()).hexdigest()[:32]
        self._file = directory / f"keys-{name}"
        self._lock = directory / f"keys-{name}.lock"
        self._seen: tuple[int, int, int] | None = None

    def news(self) -> Attempt | None:
        """What another process, or this one, has written since the last call; None: nothing."""
        try:
            found = os.stat(self._file)
            stamp = found.st_ino, found.st_mtime_ns, found.st_size
            if stamp == self._seen:
                return None
            attempt = Attempt(**json.loads(self._file.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        self._seen = stamp
        return attempt

    def write(self, attempt: Attempt) -> None:
        """Replace the file as a whole. Only under the lock."""
        new = self._file.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):
            new.write_text(json.dumps(asdict(attempt)), "utf-8")
            new.replace(self._file)

    @contextlib.contextmanager
    def locked(self) -> Iterator[bool]:
        """Whether this process may fetch now; false while another one does."""
        try:
            # A cleaner of temporary files may have removed the directory.
            self._lock.parent.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield True
            return
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)
