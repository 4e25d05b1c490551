"""How many cores a process may use, read from trees as cgroup v1 and v2 have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from energyws.control.host.cores import limit, quota, usable_cores


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


CASES: dict[str, tuple[str, dict[str, str], float | None]] = {
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
    "nonsense": ("what is this", {"cpu.max": "a lot\n"}, None),
    "a period of nothing": ("0::/\n", {"cpu.max": "100000 0\n"}, None),
}


@pytest.mark.parametrize("name", CASES)
def test_quota(tmp_path: Path, name: str) -> None:
    membership, files, expected = CASES[name]
    write(tmp_path / "sys", files)
    write(tmp_path, {"cgroup": membership})
    assert quota(tmp_path / "sys", tmp_path / "cgroup") == expected


def test_missing_membership_still_finds_the_container(tmp_path: Path) -> None:
    write(tmp_path, {"cpu.max": "100000 100000\n"})
    assert quota(tmp_path, tmp_path / "missing") == 1.0


@pytest.mark.parametrize(
    ("affinity", "cpu_quota", "expected"),
    [(8, None, 8), (8, 2.0, 2), (8, 1.5, 2), (8, 0.2, 1), (2, 16.0, 2), (0, None, 1)],
)
def test_limit(affinity: int, cpu_quota: float | None, expected: int) -> None:
    assert limit(affinity, cpu_quota) == expected


def test_this_machine_has_at_least_one() -> None:
    assert usable_cores() >= 1
