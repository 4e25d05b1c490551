"""A changed file is noticed once it has settled."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from energyws.control.reload.file_watch import WatchedFiles


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    """A secret as Kubernetes mounts it: tls.crt → ..data/tls.crt, ..data → ..1."""
    put(tmp_path, "1", "old")
    (tmp_path / "tls.crt").symlink_to("..data/tls.crt")
    return tmp_path


def put(mount: Path, version: str, text: str) -> None:
    """Write a new version as kubelet does: a new directory, and one rename."""
    directory = mount / f"..{version}"
    directory.mkdir()
    (directory / "tls.crt").write_text(text)
    # The same modification time for all versions.
    os.utime(directory / "tls.crt", (1, 1))
    (mount / "..tmp").symlink_to(directory.name)
    (mount / "..tmp").replace(mount / "..data")


def test_unchanged_file_is_no_change(mounted: Path) -> None:
    watched = WatchedFiles([str(mounted / "tls.crt")])
    assert [watched.changed() for _ in range(3)] == [False] * 3


def test_flipped_link_is_a_change_once_it_has_settled(mounted: Path) -> None:
    watched = WatchedFiles([str(mounted / "tls.crt")])
    put(mounted, "2", "new")
    assert [watched.changed() for _ in range(4)] == [False, True, False, False]


def test_file_that_keeps_changing_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "tls.crt"
    path.write_text("old")
    watched = WatchedFiles([str(path)])
    for length in range(4, 8):
        path.write_text("x" * length)
        assert not watched.changed()
    assert watched.changed()


def test_file_that_goes_and_comes_back_is_a_change(tmp_path: Path) -> None:
    path = tmp_path / "tls.crt"
    path.write_text("old")
    watched = WatchedFiles([str(path)])
    path.unlink()
    assert [watched.changed() for _ in range(2)] == [False, True]
    path.write_text("new")
    assert [watched.changed() for _ in range(2)] == [False, True]


def test_present_content_of_a_newly_watched_file_is_no_change(tmp_path: Path) -> None:
    path = tmp_path / "tls.crt"
    watched = WatchedFiles([])
    path.write_text("old")
    watched.follow([str(path)])
    assert [watched.changed() for _ in range(2)] == [False, False]
