"""The directory of one run: made when the service starts, gone when it ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from energyws.errors import BootError

_PREFIX: Final = "energyws-"
_LOCK: Final = ".lock"
# Of a socket's path (unix(7): sun_path, without the null byte), and of what the bus puts below the
# directory: /consumer- and a process id, or /current; then /frames (workers/bus/rendezvous.py).
MAX_PATH_BYTES: Final = 107
BELOW_BYTES: Final = len("/consumer-4194304/frames")
# mkstemp's random part has eight characters.
_OWN_BYTES: Final = len(f"/{_PREFIX}12345678")
# Where the usual places are too long, or cannot be written: all that a Linux has.
_OTHERS: Final = ("/run", "/tmp", "/dev/shm", "/var/tmp")  # noqa: S108 - a new name, mode 0700


class RunDirectory:
    """Of mode 0700 and its own: binding an ipc path that is in use steals it.

    A lock beside it says that its supervisor lives; what a killed one has left is removed by
    whoever comes next. The lock is not in the directory, which may be removed and made again.
    Raises BootError if there is no place for it.
    """

    def __init__(self, base: Path | None = None) -> None:
        base = base or _base()
        _sweep(base)
        try:
            descriptor, name = tempfile.mkstemp(prefix=_PREFIX, suffix=_LOCK, dir=base)
        except OSError as error:
            raise BootError(f"cannot write in {base}: {error.strerror}") from None
        # Whoever sweeps in this very moment may win; then nothing is lost but the lock.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        self._lock = Path(name)
        self.path = Path(name.removesuffix(_LOCK))
        self.path.mkdir(mode=0o700)

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.unlink(missing_ok=True)
        os.close(self._descriptor)


def _base() -> Path:
    """The first place that can be written and leaves room for the paths of the bus's sockets."""
    for place in _places():
        length = len(os.fsencode(place)) + _OWN_BYTES + BELOW_BYTES
        if length <= MAX_PATH_BYTES and os.access(place, os.W_OK | os.X_OK):
            return Path(place)
    most = MAX_PATH_BYTES - _OWN_BYTES - BELOW_BYTES
    raise BootError(
        "no directory for the sockets of the bus: set XDG_RUNTIME_DIR to one that can be written "
        f"and whose path has at most {most} bytes"
    )


def _places() -> Iterator[str]:
    # The temporary directory may be cleaned under us; the runtime directory is not.
    yield os.path.abspath(os.environ.get("XDG_RUNTIME_DIR") or "/run")
    # FileNotFoundError: nothing can be written there.
    with contextlib.suppress(FileNotFoundError):
        yield os.path.abspath(tempfile.gettempdir())
    yield from _OTHERS


def _sweep(base: Path) -> None:
    for lock in base.glob(f"{_PREFIX}*{_LOCK}"):
        try:
            descriptor = os.open(lock, os.O_RDWR)
        except OSError:
            # It has just gone, or is another user's.
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(base / lock.name.removesuffix(_LOCK), ignore_errors=True)
            lock.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
