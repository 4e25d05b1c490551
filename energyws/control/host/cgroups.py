"""Which control groups this process is in, and so whose limits hold for it (cgroups(7))."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")


def groups(root: Path, membership: Path, controller: str) -> list[Path]:
    """This process's group and those around it, under every hierarchy with that controller.

    Inside a container the root is its own group, whatever `membership` calls it.
    """
    found = [root, root / controller]
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
        base = root / controller if controllers else root
        parts = Path(path.lstrip("/")).parts
        found += [base.joinpath(*parts[: depth + 1]) for depth in range(len(parts))]
    return found
