"""Cores of their own for the workers, so that an attack measures them and not the attacker.

What the attacker, the clients, the consumer and the broker use is taken from the other cores. The
kernel's part of a packet over loopback is done on the core of its sender.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path


def divided(cores: Iterable[int], workers: int) -> tuple[set[int], set[int]] | None:
    """The cores of the workers, and those of everything else; None if there are too few."""
    known = sorted(cores)
    if workers >= len(known):
        return None
    return set(known[:workers]), set(known[workers:])


def move(process: int, cores: set[int]) -> None:
    """Have every thread of a process run on these cores only."""
    for task in Path(f"/proc/{process}/task").iterdir():
        # A thread may have ended.
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), cores)
