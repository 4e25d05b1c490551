"""python -m tests.without_io_uring <arguments>: energyws, where a seccomp filter forbids io_uring.

As Docker's default profile does (seccomp(2)). Children inherit the filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from energyws.cli.main import main

_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_ALLOW = 0x7FFF_0000
_ERRNO = 0x0005_0000
_IO_URING_SETUP = 425
# struct sock_filter: the code, how far to jump if true and if false, and a number.
_FILTER = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        # The system call's number, which comes first in struct seccomp_data.
        (0x20, 0, 0, 0),
        # If it is this one, return an error, otherwise allow it.
        (0x15, 0, 1, _IO_URING_SETUP),
        (0x06, 0, 0, _ERRNO | errno.EPERM),
        (0x06, 0, 0, _ALLOW),
    )
)


def forbid() -> None:
    """For this process and its children, until they end. Raises OSError."""
    instructions = ctypes.create_string_buffer(_FILTER)
    # struct sock_fprog: how many instructions, and where they are.
    program = ctypes.create_string_buffer(
        struct.pack("@HP", len(_FILTER) // 8, ctypes.addressof(instructions))
    )
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))


def _prctl(option: int, first: int, second: int = 0) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = [ctypes.c_ulong(each) for each in (first, second, 0, 0)]
    if libc.prctl(option, *arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


if __name__ == "__main__":
    forbid()
    main()
