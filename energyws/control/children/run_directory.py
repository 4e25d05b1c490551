"""The directory of one run of the service; the next run removes it if this one cannot."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from energyws.errors import BootError
from energyws.logs.events import Log

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
# Of a directory for our own: root may do everything anyway.
_TRUSTED: Final = (0, os.geteuid())
# A stranger may have made it: a link to another file, or a pipe that would keep us waiting.
_OPEN_LOCK: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_log = Log("supervisor")


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
        try:
            self.path.mkdir(mode=0o700)
        except OSError as error:
            self._lock.unlink(missing_ok=True)
            os.close(descriptor)
            # In /tmp, another user can make it as soon as the lock shows its name.
            text = f"cannot make {self.path}: {error.strerror}"
            raise BootError(f"{text}: set XDG_RUNTIME_DIR to a directory of your own") from None

    def close(self) -> None:
        """Remove the directory and its lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.unlink(missing_ok=True)
        os.close(self._descriptor)


def _base() -> Path:
    """The first directory that is writable and short enough for the paths of the bus's sockets."""
    for path in _candidates():
        length = len(os.fsencode(path)) + _OWN_BYTES + BELOW_BYTES
        if length > MAX_PATH_BYTES or not os.access(path, os.W_OK | os.X_OK):
            continue
        if (owner := os.stat(path).st_uid) in _TRUSTED:
            return Path(path)
        # Its owner could put another directory in the place of ours.
        _log.warning(
            "directory of another user is not used for sockets",
            directory=path,
            owner=owner,
            hint="set XDG_RUNTIME_DIR to a directory of the service's own user",
        )
    most = MAX_PATH_BYTES - _OWN_BYTES - BELOW_BYTES
    raise BootError(
        "no directory for the sockets of the bus: set XDG_RUNTIME_DIR to one that belongs to the "
        f"service's user, can be written, and whose path has at most {most} bytes"
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
            descriptor = os.open(lock, _OPEN_LOCK)
        except OSError:
            # Another supervisor has just removed it, it belongs to another user, or it is a link.
            continue
        try:
            if not _is_ours(descriptor):
                continue
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(base / lock.name.removesuffix(_LOCK), ignore_errors=True)
            lock.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


def _is_ours(descriptor: int) -> bool:
    """Whether it is a lock of this user's, as mkstemp makes them: a file that nobody else opens."""
    status = os.fstat(descriptor)
    private = not status.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and private
