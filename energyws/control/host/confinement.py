"""What the service gives up at its start, for itself and for its children (prctl(2), core(5))."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

_PR_SET_NO_NEW_PRIVS: Final = 38
# Prevents core files, and dumps into a pipe, too: a limit of 0 leaves those to the program there.
_NO_CORE_BYTES: Final = 1


def confine(*, core_dumps: bool) -> None:
    """Take from this process, and from those that it starts, what only an intruder would use.

    No program that they start gains rights by its owner or its file capabilities: the service needs
    none. Without core_dumps, a crash of theirs writes no memory anywhere: it has tokens and keys.
    Raises OSError.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if core_dumps:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    least = _NO_CORE_BYTES if hard == resource.RLIM_INFINITY else min(_NO_CORE_BYTES, hard)
    # Not PR_SET_DUMPABLE: the supervisor could then not look after its children, whose descriptors
    # it counts, and which the mount option hidepid would hide from it.
    resource.setrlimit(resource.RLIMIT_CORE, (least, least))


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(option, ctypes.c_ulong(value), zero, zero, zero) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
