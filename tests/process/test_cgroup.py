"""Control groups: the share of a memory limit that is in use, as v1 and v2 show it."""

from __future__ import annotations

from pathlib import Path

import pytest

from energyws.process.cgroup import NO_LIMIT, MemoryGroups, MemoryUse
from tests.cgroups import group


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def v2(at: str, current: int, most: str, cache: int = 0, high: str = "max") -> dict[str, str]:
    return {
        f"{at}memory.current": f"{current}\n",
        f"{at}memory.max": f"{most}\n",
        f"{at}memory.high": f"{high}\n",
        f"{at}memory.stat": f"anon 1\ninactive_file {cache}\nactive_file 3\n",
    }


def v1(at: str, usage: int, limit: int, cache: int = 0) -> dict[str, str]:
    return {
        f"{at}memory.usage_in_bytes": f"{usage}\n",
        f"{at}memory.limit_in_bytes": f"{limit}\n",
        f"{at}memory.stat": f"inactive_file 1\ntotal_inactive_file {cache}\n",
    }


CASES: dict[str, tuple[str, dict[str, str], MemoryUse | None]] = {
    "no groups": ("", {}, None),
    "v2 without a limit": ("0::/\n", v2("", 90, "max"), None),
    "v2 in a container": ("0::/\n", v2("", 90, "100"), MemoryUse(90, 100)),
    "v2, idle page cache is not in use": ("0::/\n", v2("", 90, "100", 30), MemoryUse(60, 100)),
    "v2, high is below max": ("0::/\n", v2("", 70, "100", high="80"), MemoryUse(70, 80)),
    "v2, the outer group is fuller": (
        "0::/a/b\n",
        v2("a/", 90, "100") | v2("a/b/", 10, "20"),
        MemoryUse(90, 100),
    ),
    "v2, the inner group is fuller": (
        "0::/a/b\n",
        v2("a/", 90, "1000") | v2("a/b/", 10, "20"),
        MemoryUse(10, 20),
    ),
    "v1 without a limit": ("4:memory:/\n", v1("memory/", 90, NO_LIMIT), None),
    "v1 in a container": ("4:memory:/x\n", v1("memory/", 90, 100, 20), MemoryUse(70, 100)),
    "v1 in a group": (
        "7:cpu:/y\n4:memory:/x\n",
        v1("memory/", 90, NO_LIMIT) | v1("memory/x/", 50, 100),
        MemoryUse(50, 100),
    ),
    "nonsense": ("no membership", {"memory.max": "a lot", "memory.current": "?"}, None),
    "no figures": ("0::/\n", {"memory.max": "100\n"}, None),
}


@pytest.mark.parametrize("name", CASES)
def test_fullest_group_counts(tmp_path: Path, name: str) -> None:
    membership, files, expected = CASES[name]
    write(tmp_path / "sys", files)
    write(tmp_path, {"cgroup": membership})
    groups = MemoryGroups(tmp_path / "sys", tmp_path / "cgroup")
    assert groups.fullest() == expected


def test_change_is_seen_at_once(tmp_path: Path) -> None:
    write(tmp_path, v2("", 50, "100"))
    groups = MemoryGroups(tmp_path, tmp_path / "none")
    write(tmp_path, v2("", 60, "200"))
    assert groups.fullest() == MemoryUse(60, 200)


def test_group_that_has_gone_limits_nothing(tmp_path: Path) -> None:
    write(tmp_path, v2("", 50, "100"))
    groups = MemoryGroups(tmp_path, tmp_path / "none")
    for path in tmp_path.iterdir():
        path.unlink()
    assert groups.fullest() is None


def test_real_group_is_read() -> None:
    with group() as real:
        real.limit(64 << 20)
        use = MemoryGroups(real.path, real.path / "none").fullest()
    assert use is not None
    assert use.limit == 64 << 20
    assert 0 <= use.used < 8 << 20
