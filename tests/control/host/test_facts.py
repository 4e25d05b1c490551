"""Limits read from files as the kernel and cgroup v1 and v2 show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from energyws.control.host.facts import (
    core_limit,
    cpu_quota,
    memory_limit,
    read_host,
    usable_cores,
)


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


QUOTAS: dict[str, tuple[str, dict[str, str], float | None]] = {
    "no cgroup at all": ("", {}, None),
    "v2 without a quota": ("0::/\n", {"cpu.max": "max 100000\n"}, None),
    "v2 in a container": ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
    "v2 in a group": ("0::/a/b\n", {"a/b/cpu.max": "50000 100000\n"}, 0.5),
    "v2, the outer group is tighter": (
        "0::/a/b\n",
        {"a/cpu.max": "200000 100000\n", "a/b/cpu.max": "400000 100000\n"},
        2.0,
    ),
    "v1 without a quota": (
        "4:cpu,cpuacct:/\n",
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        None,
    ),
    "v1 in a container": (
        "7:memory:/x\n4:cpu,cpuacct:/x\n",
        {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"},
        3.0,
    ),
    "v1 in a group": (
        "4:cpu,cpuacct:/pod\n",
        {"cpu/pod/cpu.cfs_quota_us": "20000\n", "cpu/pod/cpu.cfs_period_us": "100000\n"},
        0.2,
    ),
    "nonsense": ("no membership", {"cpu.max": "a lot\n"}, None),
    "a period of zero": ("0::/\n", {"cpu.max": "100000 0\n"}, None),
}


@pytest.mark.parametrize("name", QUOTAS)
def test_cpu_quota(tmp_path: Path, name: str) -> None:
    membership, files, expected = QUOTAS[name]
    write(tmp_path / "sys", files)
    write(tmp_path, {"cgroup": membership})
    assert cpu_quota(tmp_path / "sys", tmp_path / "cgroup") == expected


def test_quota_of_the_container_is_found_without_a_membership(tmp_path: Path) -> None:
    write(tmp_path, {"cpu.max": "100000 100000\n"})
    assert cpu_quota(tmp_path, tmp_path / "missing") == 1.0


@pytest.mark.parametrize(
    ("affinity", "quota", "expected"),
    [(8, None, 8), (8, 2.0, 2), (8, 1.5, 2), (8, 0.2, 1), (2, 16.0, 2), (0, None, 1)],
)
def test_core_limit(affinity: int, quota: float | None, expected: int) -> None:
    assert core_limit(affinity, quota) == expected


def test_this_machine_has_at_least_one_core() -> None:
    assert usable_cores() >= 1


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {}, 1000),
        ("0::/\n", {"memory.max": "max\n"}, 1000),
        ("0::/\n", {"memory.max": "500\n"}, 500),
        ("0::/a/b\n", {"a/memory.max": "300\n", "a/b/memory.max": "400\n"}, 300),
        ("4:memory:/x\n", {"memory/x/memory.limit_in_bytes": "200\n"}, 200),
        ("4:memory:/x\n", {"memory/x/memory.limit_in_bytes": "9223372036854771712\n"}, 1000),
        ("4:cpu:/x\n", {"memory/x/memory.limit_in_bytes": "200\n"}, 1000),
        ("nonsense", {"memory.max": "much\n"}, 1000),
    ],
)
def test_memory_limit_is_the_tightest(
    tmp_path: Path, membership: str, files: dict[str, str], expected: int
) -> None:
    write(tmp_path / "sys", files)
    write(tmp_path, {"cgroup": membership})
    assert memory_limit(tmp_path / "sys", tmp_path / "cgroup", 1000) == expected


def test_host_is_read_from_the_kernels_files(tmp_path: Path) -> None:
    files = {
        "fs/nr_open": "1048576\n",
        "net/core/somaxconn": "4096\n",
        "net/ipv4/tcp_syncookies": "1\n",
        "net/ipv4/tcp_max_syn_backlog": "512\n",
        "net/ipv4/tcp_mem": "1\t2\t3\n",
        "net/ipv4/tcp_rmem": "4096\t131072\t6291456\n",
        "net/ipv4/tcp_wmem": "broken\n",
        "net/core/wmem_max": "212992\n",
    }
    write(tmp_path, files)
    host = read_host(tmp_path, tmp_path, tmp_path / "missing")
    assert (host.nr_open, host.somaxconn, host.syncookies, host.syn_backlog) == (
        *(1_048_576, 4096, 1, 512),
    )
    assert (host.tcp_mem, host.tcp_rmem, host.tcp_wmem) == (
        (1, 2, 3),
        (4096, 131_072, 6_291_456),
        None,
    )
    assert host.wmem_max == 212_992
    assert (host.conntrack_max, host.conntrack_count) == (None, None)


def test_this_machine_can_be_read() -> None:
    host = read_host()
    assert host.somaxconn is not None
    assert host.cores >= 1
    assert host.memory_bytes is not None
