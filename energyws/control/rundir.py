"""The directory of one run: made when the service starts, gone when it ends, however it ends."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

_PREFIX: Final = "energyws-"
_LOCK: Final = ".lock"


class RunDirectory:
    """Of mode 0700 and its own: binding an ipc path that is in use steals it.

    A lock beside it says that its supervisor lives; what a killed one has left is removed by
    whoever comes next. The lock is not in the directory, which may be removed and made again.
    """

    def __init__(self, base: Path | None = None) -> None:
        base = base or _base()
        _sweep(base)
        descriptor, name = tempfile.mkstemp(prefix=_PREFIX, suffix=_LOCK, dir=base)
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
    # The temporary directory may be cleaned under us; the runtime directory is not.
    runtime = os.environ.get("XDG_RUNTIME_DIR") or "/run"
    return Path(runtime if os.access(runtime, os.W_OK) else tempfile.gettempdir())


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
