"""The stacks of a child that hung or crashed, as faulthandler has written them.

The child writes them into memory that it shares with its supervisor. On standard error the output
of two processes would mix, and it is not in the log's format. Stacks have files, lines and
functions, but no values.
"""

from __future__ import annotations

import os
import re
from typing import Final

MAX_BYTES: Final = 64 * 1024
# The thread that took the signal; its first frame is where it was.
_WHERE: Final = re.compile(r'^Current thread .*\n +File "(.+)", line (\d+) in (.+)$', re.MULTILINE)


def memory() -> int:
    """A descriptor of new, empty memory for one child (memfd_create(2))."""
    return os.memfd_create("energyws-stacks", os.MFD_CLOEXEC)


def read(descriptor: int) -> str:
    """What the child has written, at most MAX_BYTES; empty if it neither hung nor crashed."""
    # pread: child and supervisor share the file's position, which is at the end now.
    return os.pread(descriptor, MAX_BYTES, 0).decode(errors="replace").strip()


def where(stacks: str) -> str | None:
    """Where the thread that took the signal was in the code, as "file:line function"."""
    found = _WHERE.search(stacks)
    return None if found is None else f"{found[1]}:{found[2]} {found[3]}"
