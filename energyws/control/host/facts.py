"""What the machine and the container allow, read once; limits.py judges it."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from energyws.control.host.cgroups import MEMBERSHIP, ROOT, groups
from energyws.control.host.cores import usable_cores

SYSCTLS: Final = Path("/proc/sys")
# A cgroup v1 without a limit says the largest number of pages there is.
_NO_LIMIT: Final = 1 << 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """None: unlimited, not there, or not to be seen from inside a container.

    descriptors: the hard limit of a process. somaxconn, syn_backlog: connections that may wait.
    tcp_mem: low, pressure and high, in pages. tcp_rmem, tcp_wmem: least, usual and most bytes of a
    connection's buffers. conntrack_count: what is tracked already. cores: what may be used.
    """

    descriptors: int | None = None
    nr_open: int | None = None
    somaxconn: int | None = None
    syncookies: int | None = None
    syn_backlog: int | None = None
    conntrack_max: int | None = None
    conntrack_count: int | None = None
    tcp_mem: tuple[int, ...] | None = None
    tcp_rmem: tuple[int, ...] | None = None
    tcp_wmem: tuple[int, ...] | None = None
    page_bytes: int = 4096
    cores: int = 1
    memory_bytes: int | None = None


def read_host(sysctls: Path = SYSCTLS, cgroups: Path = ROOT, membership: Path = MEMBERSHIP) -> Host:
    """As it is now."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ipv4, netfilter = sysctls / "net" / "ipv4", sysctls / "net" / "netfilter"
    return Host(
        descriptors=None if hard == resource.RLIM_INFINITY else hard,
        nr_open=_one(sysctls / "fs" / "nr_open"),
        somaxconn=_one(sysctls / "net" / "core" / "somaxconn"),
        syncookies=_one(ipv4 / "tcp_syncookies"),
        syn_backlog=_one(ipv4 / "tcp_max_syn_backlog"),
        conntrack_max=_one(netfilter / "nf_conntrack_max"),
        conntrack_count=_one(netfilter / "nf_conntrack_count"),
        tcp_mem=_three(ipv4 / "tcp_mem"),
        tcp_rmem=_three(ipv4 / "tcp_rmem"),
        tcp_wmem=_three(ipv4 / "tcp_wmem"),
        page_bytes=resource.getpagesize(),
        cores=usable_cores(),
        memory_bytes=memory_limit(cgroups, membership, _installed()),
    )


def memory_limit(cgroups: Path, membership: Path, installed: int | None) -> int | None:
    """The least of what the machine has and the groups around this process allow, in bytes."""
    found = [] if installed is None else [installed]
    for group in groups(cgroups, membership, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = _one(group / name)
            if limit is not None and limit < _NO_LIMIT:
                found.append(limit)
    return min(found, default=None)


def _installed() -> int | None:
    pages = os.sysconf("SC_PHYS_PAGES")
    return pages * resource.getpagesize() if pages > 0 else None


def _numbers(path: Path) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in path.read_text().split())
    except (OSError, ValueError):
        # "max", in a cgroup v2 without a limit.
        return ()


def _one(path: Path) -> int | None:
    return next(iter(_numbers(path)), None)


def _three(path: Path) -> tuple[int, ...] | None:
    found = _numbers(path)
    return found if len(found) == 3 else None
