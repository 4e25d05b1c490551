"""Where the threads of a child stood when it hung or crashed, as faulthandler has written it.

A child writes it into memory that its supervisor holds, too, and not to standard error: what two
processes write there at once could not be told apart, and is none of the forms of the log. Stacks
hold files, lines and functions, and no values.
"""

from __future__ import annotations

import os
import re
from typing import Final

MAX_BYTES: Final = 64 * 1024
# The frames of the thread that took the signal; the first one is where it stood.
_WHERE: Final = re.compile(r'^Current thread .*\n +File "(.+)", line (\d+) in (.+)$', re.MULTILINE)


def memory() -> int:
    """A descriptor of new, empty memory for one child (memfd_create(2))."""
    return os.memfd_create("energyws-stacks", os.MFD_CLOEXEC)


def read(descriptor: int) -> str:
    """What the child has written, MAX_BYTES at most; empty for one that ended in any other way."""
    # pread: the child shares our place in the file, and it stands at the end.
    return os.pread(descriptor, MAX_BYTES, 0).decode(errors="replace").strip()


def where(stacks: str) -> str | None:
    """The place in the code where the thread stood that took the signal, as file:line function."""
    found = _WHERE.search(stacks)
    return None if found is None else f"{found[1]}:{found[2]} {found[3]}"
