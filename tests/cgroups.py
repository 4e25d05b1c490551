"""A control group with a memory limit, where the kernel lets a test make one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from energyws.process.cgroup import CGROUPS, MEMBERSHIP, MemoryGroups
from energyws.testing import Service, eventually
from tests.clients import PATIENCE_SECONDS

V1, V2 = "memory.limit_in_bytes", "memory.max"


class Group:
    """A group; its limit may be changed at any time."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self._limit = path / name
        self._groups = MemoryGroups(path, path / "no membership")

    def add(self, pid: int) -> None:
        (self.path / "cgroup.procs").write_text(str(pid))

    def restart_worker(self, service: Service) -> None:
        """Have the service start its only worker again, in this group."""
        self.add(service.pid)
        before = service.children()["worker-0"]
        before.send_signal(signal.SIGKILL)
        before.wait(PATIENCE_SECONDS)
        eventually(lambda: "worker-0" in service.children(), "there is a new worker")
        service.ready()

    def limit(self, size: int) -> None:
        self._limit.write_text(str(size))

    def limit_to(self, percent_used: float) -> None:
        """Set the limit so that this much of it is in use."""
        use = self._groups.fullest()
        assert use is not None
        self.limit(int(use.used * 100 / percent_used))


@contextmanager
def group() -> Iterator[Group]:
    """An empty group with a high limit; at the end, what is in it goes back to ours."""
    home, name = _home()
    path = home / f"energyws-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made: {error.strerror}")
    try:
        if not (path / name).exists():
            pytest.skip("the memory controller is not available in a new group")
        made = Group(path, name)
        made.limit(8 << 30)
        yield made
    finally:
        for pid in (path / "cgroup.procs").read_text().split():
            with suppress(OSError):
                (home / "cgroup.procs").write_text(pid)
        path.rmdir()


def _home() -> tuple[Path, str]:
    """The directory of our own group, or of the one around it where only that may have others."""
    for line in MEMBERSHIP.read_text().splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if "memory" in controllers.split(","):
            return CGROUPS / "memory" / path.lstrip("/"), V1
        if not controllers and (CGROUPS / "cgroup.controllers").exists():
            # "No internal processes" (cgroups(7)).
            return (CGROUPS / path.lstrip("/")).parent, V2
    pytest.skip("there are no control groups")
