"""How `energyws top` and `status` find the admin port of a demo that runs beside them.

A demo keeps one small file in a directory that only its user can write to, and holds a lock on it
(flock(2)): the kernel releases that even after a SIGKILL, so a file without a lock is a leftover.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_PREFIX: Final = "energyws-demo."


@contextlib.contextmanager
def announced(admin_port: int) -> Iterator[None]:
    """Make the port known as long as the block lasts; without a safe place for it, do nothing."""
    directory = _directory()
    if directory is None:
        yield
        return
    path = directory / f"{_PREFIX}{os.getpid()}"
    unlocked = path.with_name(f".{path.name}")
    with open(unlocked, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{admin_port}\n")
        file.flush()
        # Only now under the name that others look for: they remove what has no lock.
        unlocked.rename(path)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def find() -> int | None:
    """The admin port of the demo that this user has started last, if one runs."""
    directory = _directory()
    if directory is None:
        return None
    found: list[tuple[float, int]] = []
    for path in directory.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append((os.fstat(file.fileno()).st_mtime, int(file.read())))
            else:
                path.unlink()
    return max(found)[1] if found else None


def _directory() -> Path | None:
    """The user's runtime directory, else one of our own; None: neither is this user's alone."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and _is_private(Path(runtime)):
        return Path(runtime)
    own = Path(tempfile.gettempdir()) / f"energyws-{os.getuid()}"
    with contextlib.suppress(OSError):
        own.mkdir(mode=0o700)
    return own if _is_private(own) else None


def _is_private(directory: Path) -> bool:
    try:
        # Of the directory itself: in /tmp another user may have made a link of this name.
        status = directory.lstat()
    except OSError:
        return False
    writable = stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not writable
