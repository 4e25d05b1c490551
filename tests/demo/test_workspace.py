"""The demo's directory."""

from __future__ import annotations

import asyncio
import logging
import stat
import tempfile
from pathlib import Path

import pytest

from energyws.demo.workspace import workspace


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_nothing_is_left_behind(temporary: Path) -> None:
    said: list[str] = []
    with workspace(said.append, logging_to_file=True) as (directory, log):
        assert log is not None
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        (directory / "token").touch()
    with workspace(said.append, logging_to_file=False) as (_, log):
        assert log is None
    assert (list(temporary.iterdir()), said) == ([], [])


def test_end_by_the_user_is_no_failure(temporary: Path) -> None:
    said: list[str] = []
    with (
        pytest.raises(asyncio.CancelledError),
        workspace(said.append, logging_to_file=True),
    ):
        raise asyncio.CancelledError
    assert (list(temporary.iterdir()), said) == ([], [])


def test_log_of_a_failure_is_kept_without_the_token(temporary: Path) -> None:
    said: list[str] = []
    with (
        pytest.raises(ValueError, match="broken"),
        workspace(said.append, logging_to_file=True) as (where, log),
    ):
        assert log is not None
        (where / "token").touch()
        log.write(b"from a part\n")
        logging.getLogger("energyws.client").warning("from a library")
        raise ValueError("broken")
    (kept,) = temporary.rglob("*.*")
    assert kept.read_text() == "from a part\nfrom a library\n"
    assert [line for line in said if line.endswith(str(kept))] == said != []
    assert list(kept.parent.iterdir()) == [kept]
