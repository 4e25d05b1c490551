"""How `energyws top` finds a demo."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from energyws.demo.announcement import announced, find


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "run"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(directory))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return directory


def test_port_is_found_while_the_demo_runs(runtime: Path) -> None:
    assert find() is None
    with announced(4711):
        assert find() == 4711
        assert find() == 4711
    assert find() is None
    assert list(runtime.iterdir()) == []


def test_newest_demo_is_found() -> None:
    other = (
        "from energyws.demo.announcement import announced\n"
        "with announced(1): print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", other], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        assert find() == 1
        with announced(2):
            assert find() == 2
        assert find() == 1
        # A crash leaves the file behind, but no lock.
        process.kill()
    assert find() is None


def test_leftovers_and_foreign_files_are_ignored(runtime: Path) -> None:
    (runtime / "energyws-demo.1").write_text("4711\n")
    (runtime / "energyws-demo.2").write_text("")
    (runtime / "energyws-demo.3").mkdir()
    (runtime / "other").write_text("1")
    assert find() is None
    assert (runtime / "other").exists()


def test_directory_that_others_can_write_to_is_not_used(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime.chmod(0o777)
    with announced(4711):
        own = tmp_path / f"energyws-{os.getuid()}"
        assert [path.name for path in own.iterdir()] == [f"energyws-demo.{os.getpid()}"]
        assert find() == 4711
    own.rmdir()
    own.symlink_to(runtime)
    with announced(4711):
        assert find() is None
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert find() is None
