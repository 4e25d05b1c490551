"""How many cores this process may use: never the host's count inside a container."""

from __future__ import annotations

import math
import os
from pathlib import Path

from energyws.control.host.cgroups import MEMBERSHIP, ROOT, groups


def usable_cores() -> int:
    """The least of the affinity mask and the cgroup's CPU quota, rounded up; at least one."""
    return limit(len(os.sched_getaffinity(0)), quota(ROOT, MEMBERSHIP))


def limit(affinity: int, cpu_quota: float | None) -> int:
    """A quota of 1.5 cores keeps two workers busy; one of 0.2 still needs one."""
    if cpu_quota is None:
        return max(1, affinity)
    return max(1, min(affinity, math.ceil(cpu_quota)))


def quota(root: Path, membership: Path) -> float | None:
    """The CPU quota in cores over all enclosing groups (cgroup v2, else v1); None: unlimited."""
    found = (_read(group) for group in groups(root, membership, "cpu"))
    return min((cores for cores in found if cores is not None), default=None)


def _read(group: Path) -> float | None:
    try:
        most, period = (group / "cpu.max").read_text().split()
        return None if most == "max" else int(most) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        pass
    try:
        most = (group / "cpu.cfs_quota_us").read_text()
        period = (group / "cpu.cfs_period_us").read_text()
        return int(most) / int(period) if int(most) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
