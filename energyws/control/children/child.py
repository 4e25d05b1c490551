"""One running child process, and what its supervisor holds of it."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import Final

import psutil

from energyws.control.children.mailbox import Mailbox
from energyws.control.children.spawn import ChildSpec
from energyws.control.children.status import Ending
from energyws.process.board import Row

# What a child that hangs has for writing its stacks.
STACKS_SECONDS: Final = 1.0


@dataclass(slots=True)
class RunningChild:
    """A running child process. leaving: it has been told to.

    streams: those that it was started with, in the order of their names. stacks: see that module.
    end: why it ends, as far as that is our doing. cpu_seconds: as last seen. Times are monotonic
    seconds.
    """

    spec: ChildSpec
    process: subprocess.Popen[bytes]
    orders: Mailbox
    stacks: int
    row: Row
    usage: psutil.Process
    pidfd: int
    starts: int
    streams: list[str]
    leaving: bool = False
    end: Ending | None = None
    cpu_seconds: float = 0.0
    started_at: float = field(default_factory=time.monotonic)
    _kill_at: float = float("inf")

    def kill(self, now: float, *, hung: bool) -> None:
        """End it, because it hangs or is overdue; one that hangs writes its stacks first."""
        self.end = "hung" if hung else "overdue"
        if not hung:
            self.process.kill()
            return
        # No core beside the stacks, neither in a file nor through a pipe (a limit of 1 byte, see
        # core(5)): it would hold tokens and keys.
        with contextlib.suppress(OSError):
            _, hard = resource.prlimit(self.process.pid, resource.RLIMIT_CORE)
            least = 1 if hard == resource.RLIM_INFINITY else min(1, hard)
            resource.prlimit(self.process.pid, resource.RLIMIT_CORE, (least, hard))
        self.process.send_signal(signal.SIGABRT)
        # One that is stopped, or deep in the kernel, does not take that.
        self._kill_at = now + STACKS_SECONDS

    def look_after(self, now: float) -> None:
        """To be called often: send what orders wait; end it, if it had time for its stacks."""
        self.orders.flush()
        if self._kill_at <= now:
            self.process.kill()

    def close(self) -> None:
        """Let go of its descriptors; it has ended, or ends for that."""
        os.close(self.pidfd)
        os.close(self.stacks)
        self.orders.close()
