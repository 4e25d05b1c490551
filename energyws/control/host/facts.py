"""The limits of the machine and its container (proc(5), cgroups(7)), for shortages.py."""

from __future__ import annotations

import math
import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from energyws.process.cgroup import CGROUPS, MEMBERSHIP, NO_LIMIT, groups, numbers, one

SYSCTLS: Final = Path("/proc/sys")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Limits; None where there is none, or where a container hides it.

    descriptors: the hard limit of a process. somaxconn, syn_backlog: connections that may wait.
    tcp_mem: low, pressure and high, in pages. tcp_rmem, tcp_wmem: minimum, default and maximum of a
    connection's buffers in bytes. wmem_max: the largest SO_SNDBUF. conntrack_count: connections
    tracked now. cores: usable ones.
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
    wmem_max: int | None = None
    page_bytes: int = 4096
    cores: int = 1
    memory_bytes: int | None = None


def read_host(
    sysctls: Path = SYSCTLS, cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP
) -> Host:
    """The limits as they are now."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    pages = os.sysconf("SC_PHYS_PAGES")
    installed = pages * resource.getpagesize() if pages > 0 else None
    ipv4, netfilter = sysctls / "net" / "ipv4", sysctls / "net" / "netfilter"
    return Host(
        descriptors=None if hard == resource.RLIM_INFINITY else hard,
        nr_open=one(sysctls / "fs" / "nr_open"),
        somaxconn=one(sysctls / "net" / "core" / "somaxconn"),
        syncookies=one(ipv4 / "tcp_syncookies"),
        syn_backlog=one(ipv4 / "tcp_max_syn_backlog"),
        conntrack_max=one(netfilter / "nf_conntrack_max"),
        conntrack_count=one(netfilter / "nf_conntrack_count"),
        tcp_mem=_three(ipv4 / "tcp_mem"),
        tcp_rmem=_three(ipv4 / "tcp_rmem"),
        tcp_wmem=_three(ipv4 / "tcp_wmem"),
        wmem_max=one(sysctls / "net" / "core" / "wmem_max"),
        page_bytes=resource.getpagesize(),
        cores=usable_cores(),
        memory_bytes=memory_limit(cgroups, membership, installed),
    )


def usable_cores() -> int:
    """The cores that this process may use: in a container, fewer than the machine has."""
    return core_limit(len(os.sched_getaffinity(0)), cpu_quota(CGROUPS, MEMBERSHIP))


def core_limit(affinity: int, quota: float | None) -> int:
    """The smaller of the affinity mask and the quota, rounded up: 1.5 cores keep 2 workers busy."""
    return max(1, affinity if quota is None else min(affinity, math.ceil(quota)))


def cpu_quota(cgroups: Path, membership: Path) -> float | None:
    """The smallest CPU quota of all enclosing groups, in cores; None: unlimited."""
    found = []
    for group in groups(cgroups, membership, "cpu"):
        # "max" for the quota in v2, -1 in v1: no limit.
        quota = numbers(group / "cpu.max") or (
            *numbers(group / "cpu.cfs_quota_us"),
            *numbers(group / "cpu.cfs_period_us"),
        )
        if len(quota) == 2 and min(quota) > 0:
            found.append(quota[0] / quota[1])
    return min(found, default=None)


def memory_limit(cgroups: Path, membership: Path, installed: int | None) -> int | None:
    """The smallest of the installed memory and the limits of all enclosing groups, in bytes."""
    found = [] if installed is None else [installed]
    for group in groups(cgroups, membership, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            limit = one(group / name)
            if limit is not None and limit < NO_LIMIT:
                found.append(limit)
    return min(found, default=None)


def _three(path: Path) -> tuple[int, ...] | None:
    found = numbers(path)
    return found if len(found) == 3 else None
