from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from energyws.auth.denied import FILE_NAME
from energyws.errors import BootError
from energyws.settings import Auth
from tests.principals import principal
from workers.websocket.auth.deny_file import SLICE_LINES, DenyFile

MINE = principal("me").token


def test_copy_of_the_supervisor_counts_and_not_the_file(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text('{"sub": "you"}')
    settings = Auth(denied_file=str(own))
    (tmp_path / FILE_NAME).write_text('{"sub": "me"}')

    file = DenyFile(tmp_path)
    for denied in (file.read(settings), asyncio.run(file.read_in_slices(settings))):
        assert denied.covers(MINE)
        assert not denied.covers(principal("you").token)
    assert not file.read(Auth()).covers(MINE)


def test_file_counts_where_the_copy_is_gone(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text('half a line\n{"sub": "me"}')

    file = DenyFile(tmp_path / "cleaned")
    assert file.read(Auth(denied_file=str(own))).covers(MINE)
    assert not file.changed()


@pytest.mark.parametrize("name", ["missing", "."])
def test_list_that_cannot_be_read_is_an_error(tmp_path: Path, name: str) -> None:
    file, settings = DenyFile(tmp_path / "cleaned"), Auth(denied_file=str(tmp_path / name))
    with pytest.raises(BootError, match=r"auth\.denied_file"):
        file.read(settings)
    with pytest.raises(BootError, match=r"auth\.denied_file"):
        asyncio.run(file.read_in_slices(settings))


def test_copy_has_changed_until_it_is_read(tmp_path: Path) -> None:
    copy, settings = tmp_path / FILE_NAME, Auth(denied_file="not needed")
    file = DenyFile(tmp_path)
    assert not file.changed()
    for text in ("", '{"sub": "me"}'):
        new = tmp_path / "new"
        new.write_text(text)
        new.replace(copy)
        assert file.changed()
        file.read(settings)
        assert not file.changed()
    # What has been read stays.
    copy.unlink()
    assert not file.changed()


def test_clients_are_served_while_a_long_list_is_read(tmp_path: Path) -> None:
    slices = 5
    (tmp_path / FILE_NAME).write_text('{"sub": "me"}\n' * (slices * SLICE_LINES))
    served = 0

    async def test() -> None:
        nonlocal served
        reading = asyncio.create_task(DenyFile(tmp_path).read_in_slices(Auth(denied_file="x")))
        while not reading.done():
            served += 1
            await asyncio.sleep(0)
        assert reading.result().covers(MINE)

    asyncio.run(test())
    assert served > slices
