"""The control groups of a process: cgroups(7), versions 1 and 2."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

CGROUPS: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")
# A cgroup v1 without a limit shows the largest number of pages that there is.
NO_LIMIT: Final = 1 << 60


def groups(cgroups: Path, membership: Path, controller: str) -> list[Path]:
    """This process's group and those around it, in every hierarchy with that controller."""
    # Inside a container the root is its own group, whatever `membership` calls it.
    found = [cgroups, cgroups / controller]
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        # "0::/a/b" in v2, "4:cpu,cpuacct:/a/b" in v1.
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        base = cgroups / controller if controllers else cgroups
        parts = Path(path.lstrip("/")).parts
        found += [base.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]
    return found


def numbers(path: Path) -> tuple[int, ...]:
    """The numbers in a file; none where it is missing, or has a word such as `max`."""
    try:
        return tuple(int(word) for word in path.read_text().split())
    except (OSError, ValueError):
        return ()


def one(path: Path) -> int | None:
    """The first number in a file."""
    return next(iter(numbers(path)), None)


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes of a group: what the kernel cannot take back, and its limit."""

    used: int
    limit: int


class MemoryGroups:
    """Reads the groups that limit the memory of this process; those that do not exist cost nothing.

    Page cache that has not been used lately is not counted: the kernel takes it back before it
    kills anything (as Kubernetes reckons a container's working set).
    """

    def __init__(self, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> None:
        found = dict.fromkeys(groups(cgroups, membership, "memory"))
        self._v2 = [group for group in found if (group / "memory.max").exists()]
        self._v1 = [group for group in found if (group / "memory.limit_in_bytes").exists()]

    def fullest(self) -> MemoryUse | None:
        """The group with the largest share of its limit in use; None: nothing limits us."""
        uses = [self._use_v2(group) for group in self._v2]
        uses += [self._use_v1(group) for group in self._v1]
        limited = [use for use in uses if use is not None]
        return max(limited, key=lambda use: use.used / use.limit, default=None)

    @staticmethod
    def _use_v2(group: Path) -> MemoryUse | None:
        # Beyond `high`, processes are slowed down until nothing works.
        limits = (one(group / "memory.max"), one(group / "memory.high"))
        current = one(group / "memory.current")
        limit = min((each for each in limits if each), default=None)
        if limit is None or current is None:
            return None
        return MemoryUse(current - _idle_cache(group / "memory.stat", "inactive_file"), limit)

    @staticmethod
    def _use_v1(group: Path) -> MemoryUse | None:
        limit, usage = one(group / "memory.limit_in_bytes"), one(group / "memory.usage_in_bytes")
        if not limit or limit >= NO_LIMIT or usage is None:
            return None
        return MemoryUse(usage - _idle_cache(group / "memory.stat", "total_inactive_file"), limit)


def _idle_cache(stat: Path, name: str) -> int:
    try:
        lines = stat.read_text().splitlines()
    except OSError:
        return 0
    found = (line.split() for line in lines)
    return next((int(words[1]) for words in found if words[0] == name), 0)
