"""What the service gives up at its start, for itself and for its children (prctl(2), core(5))."""

from __future__ import annotations

import ctypes
import os
import resource
from typing import Final

from energyws.errors import BootError

_PR_SET_NO_NEW_PRIVS: Final = 38
# Prevents core files, and dumps into a pipe, too: a limit of 0 leaves those to the program there.
_NO_CORE_BYTES: Final = 1


def confine(*, core_dumps: bool) -> None:
    """Take from this process, and from those that it starts, what only an intruder would use.

    No program that they start gains rights by its owner or its file capabilities: the service needs
    none. Without core_dumps, a crash of theirs writes no memory anywhere: it has tokens and keys.
    Raises BootError.
    """
    _set_no_new_privs()
    if core_dumps:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    least = _NO_CORE_BYTES if hard == resource.RLIM_INFINITY else min(_NO_CORE_BYTES, hard)
    # Not PR_SET_DUMPABLE: the supervisor could then not look after its children, whose descriptors
    # it counts, and which the mount option hidepid would hide from it.
    resource.setrlimit(resource.RLIMIT_CORE, (least, least))


def _set_no_new_privs() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise BootError(f"cannot set no_new_privs: {reason}: allow prctl(2) in the seccomp profile")
