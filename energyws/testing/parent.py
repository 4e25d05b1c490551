"""A child process that does not outlive its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent() -> None:
    """Have the kernel send this process SIGTERM when its parent ends (on Linux only).

    The kernel watches the *thread* that started this process (prctl(2), PR_SET_PDEATHSIG):
    start children from a thread that lives as long as they should, such as the main thread.
    """
    if sys.platform != "linux":
        return
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl(PR_SET_PDEATHSIG): {os.strerror(code)}")
    # For a parent that ended before the call, the kernel sends nothing.
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
