"""The directory of one run of the service; the next run removes it if this one cannot."""

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
# The longest path of a Unix socket (unix(7): sun_path, without the null byte), and the part of it
# that the bus puts below the directory: /consumer-PID or /current, then /frames
# (workers/bus/rendezvous.py).
MAX_PATH_BYTES: Final = 107
BELOW_BYTES: Final = len("/consumer-4194304/frames")
# mkstemp's random part has eight characters.
_OWN_BYTES: Final = len(f"/{_PREFIX}12345678")
# Used if the usual directories have long paths or are not writable; every Linux has some of these.
_OTHERS: Final = ("/run", "/tmp", "/dev/shm", "/var/tmp")  # noqa: S108 - a new name, mode 0700


class RunDirectory:
    """A new directory of mode 0700, since binding an ipc path that is in use steals it.

    A lock file beside it shows that its supervisor is alive; the next supervisor removes what a
    killed one has left. The lock is not in the directory, which may be removed and made again.
    Raises BootError if no directory is suitable.
    """

    def __init__(self, base: Path | None = None) -> None:
        base = base or _base()
        _sweep(base)
        try:
            descriptor, name = tempfile.mkstemp(prefix=_PREFIX, suffix=_LOCK, dir=base)
        except OSError as error:
            raise BootError(f"cannot write in {base}: {error.strerror}") from None
        # Another supervisor may sweep the file away at this moment; then only the lock is lost.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        self._descriptor = descriptor
        self._lock = Path(name)
        self.path = Path(name.removesuffix(_LOCK))
        self.path.mkdir(mode=0o700)

    def close(self) -> None:
        """Remove the directory and its lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.unlink(missing_ok=True)
        os.close(self._descriptor)


def _base() -> Path:
    """The first directory that is writable and short enough for the paths of the bus's sockets."""
    for path in _candidates():
        length = len(os.fsencode(path)) + _OWN_BYTES + BELOW_BYTES
        if length <= MAX_PATH_BYTES and os.access(path, os.W_OK | os.X_OK):
            return Path(path)
    most = MAX_PATH_BYTES - _OWN_BYTES - BELOW_BYTES
    raise BootError(
        "no directory for the sockets of the bus: set XDG_RUNTIME_DIR to one that can be written "
        f"and whose path has at most {most} bytes"
    )


def _candidates() -> Iterator[str]:
    # First the runtime directory: a temporary directory may be cleaned while we run.
    yield os.path.abspath(os.environ.get("XDG_RUNTIME_DIR") or "/run")
    # FileNotFoundError: no temporary directory is writable.
    with contextlib.suppress(FileNotFoundError):
        yield os.path.abspath(tempfile.gettempdir())
    yield from _OTHERS


def _sweep(base: Path) -> None:
    for lock in base.glob(f"{_PREFIX}*{_LOCK}"):
        try:
            descriptor = os.open(lock, os.O_RDWR)
        except OSError:
            # Another supervisor has just removed it, or it belongs to another user.
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
