from __future__ import annotations

from pathlib import Path

import pytest

from energyws.auth.denied import FILE_NAME
from energyws.errors import BootError
from energyws.settings import Auth
from tests.principals import principal
from workers.websocket.auth.deny_file import read

MINE = principal("me").token


def test_copy_of_the_supervisor_counts_and_not_the_file(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text('{"sub": "you"}')
    settings = Auth(denied_file=str(own))
    (tmp_path / FILE_NAME).write_text('{"sub": "me"}')

    denied = read(tmp_path, settings)
    assert denied.covers(MINE)
    assert not denied.covers(principal("you").token)
    assert not read(tmp_path, Auth()).covers(MINE)


def test_file_counts_where_the_copy_is_gone(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text('half a line\n{"sub": "me"}')

    assert read(tmp_path / "cleaned", Auth(denied_file=str(own))).covers(MINE)


@pytest.mark.parametrize("name", ["missing", "."])
def test_list_that_cannot_be_read_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(BootError, match=r"auth\.denied_file"):
        read(tmp_path / "cleaned", Auth(denied_file=str(tmp_path / name)))
