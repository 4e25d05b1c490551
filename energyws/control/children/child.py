"""One running child process, and what its supervisor holds of it."""

from __future__ import annotations

import os
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

# For a hung child to write its stacks.
STACKS_SECONDS: Final = 1.0


@dataclass(slots=True)
class RunningChild:
    """A running child process. leaving: it has been asked to leave.

    streams: those that it was started with, sorted by name. stacks: a descriptor, see stacks.py.
    end: why we have killed it, if we have. cpu_seconds: as last seen. Times are monotonic seconds.
    """

    spec: ChildSpec
    process: subprocess.Popen[bytes]
    mailbox: Mailbox
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
        """End it because it hangs or is overdue; a hung child writes its stacks first."""
        self.end = "hung" if hung else "overdue"
        if not hung:
            self.process.kill()
            return
        self.process.send_signal(signal.SIGABRT)
        # A stopped child, or one blocked in the kernel, does not handle SIGABRT.
        self._kill_at = now + STACKS_SECONDS

    def look_after(self, now: float) -> None:
        """Send the messages that wait; kill it once it had its time for the stacks. Call often."""
        self.mailbox.flush()
        if self._kill_at <= now:
            self.process.kill()

    def close(self) -> None:
        """Close its descriptors; a child that still runs ends because of that."""
        os.close(self.pidfd)
        os.close(self.stacks)
        self.mailbox.close()
