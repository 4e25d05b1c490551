"""How many cores this process may use: never the host's count inside a container."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/sys/fs/cgroup")
_SELF: Final = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """The least of the affinity mask and the cgroup's CPU quota, rounded up; at least one."""
    return limit(len(os.sched_getaffinity(0)), quota(_ROOT, _SELF))


def limit(affinity: int, cpu_quota: float | None) -> int:
    """A quota of 1.5 cores keeps two workers busy; one of 0.2 still needs one."""
    if cpu_quota is None:
        return max(1, affinity)
    return max(1, min(affinity, math.ceil(cpu_quota)))


def quota(root: Path, membership: Path) -> float | None:
    """The CPU quota in cores over all enclosing groups (cgroup v2, else v1); None: unlimited."""
    quotas = [found for group in _groups(root, membership) if (found := _read(group)) is not None]
    return min(quotas, default=None)


def _groups(root: Path, membership: Path) -> list[Path]:
    """This process's group and those around it, under every hierarchy that rules CPU time."""
    groups = [root, root / "cpu"]
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return groups
    for line in lines:
        # "0::/a/b" in v2, "4:cpu,cpuacct:/a/b" in v1 (cgroups(7)).
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        parts = Path(path.lstrip("/")).parts
        groups += [base.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]
    return groups


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
