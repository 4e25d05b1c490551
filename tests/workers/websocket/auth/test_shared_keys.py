"""The file in which workers share what they fetched; test_keys.py has workers that share one."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from energyws.settings import Issuer
from workers.websocket.auth.shared_keys import Attempt, SharedKeys

ISSUER = Issuer(name="a", issuer="https://a.example", jwks_url="https://a.example/jwks")
GOOD = Attempt(1.0, 0, 1.0, 1000.0, '{"keys":[]} \xff"')
FAILED = Attempt(2.0, 1, 1.0, 1000.0, GOOD.jwks)


def test_what_one_writes_another_reads_once(tmp_path: Path) -> None:
    one, other = SharedKeys(tmp_path, ISSUER), SharedKeys(tmp_path, ISSUER)
    assert other.news() is None
    one.write(GOOD)
    assert other.news() == GOOD
    assert other.news() is None
    one.write(FAILED)
    assert other.news() == one.news() == FAILED


def test_each_url_has_its_own_file(tmp_path: Path) -> None:
    SharedKeys(tmp_path, ISSUER).write(GOOD)
    moved = Issuer(name="a", issuer=ISSUER.issuer, jwks_url="https://b.example/jwks")
    renamed = Issuer(name="b", issuer=ISSUER.issuer, jwks_url=ISSUER.jwks_url)
    assert SharedKeys(tmp_path, moved).news() is None
    assert SharedKeys(tmp_path, renamed).news() == GOOD


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"attempted": 1}', b'{"x": 1}'])
def test_damaged_file_is_no_news(tmp_path: Path, data: bytes) -> None:
    shared = SharedKeys(tmp_path, ISSUER)
    shared.write(GOOD)
    (file,) = tmp_path.iterdir()
    file.write_bytes(data)
    assert shared.news() is None


def test_only_one_may_fetch(tmp_path: Path) -> None:
    one, other = SharedKeys(tmp_path, ISSUER), SharedKeys(tmp_path, ISSUER)
    with one.locked() as first:
        with other.locked() as second:
            assert (first, second) == (True, False)
        # The refused one has not released it.
        with other.locked() as again:
            assert not again
    with other.locked() as later:
        assert later


def test_lock_is_not_inherited_by_other_programs(tmp_path: Path) -> None:
    with SharedKeys(tmp_path, ISSUER).locked():
        (lock,) = tmp_path.glob("*.lock")
        assert lock.stat().st_mode & 0o777 == 0o600
        opened = [fd for fd in os.listdir("/proc/self/fd") if _leads_to(fd, lock)]
        assert [fcntl.fcntl(int(fd), fcntl.F_GETFD) for fd in opened] == [fcntl.FD_CLOEXEC]


def _leads_to(descriptor: str, path: Path) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}") == str(path)
    except FileNotFoundError:
        return False


def test_directory_that_cannot_be_used_stops_nobody(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    shared = SharedKeys(file, ISSUER)
    with shared.locked() as free:
        assert free
        shared.write(GOOD)
    assert shared.news() is None
