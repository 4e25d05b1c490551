"""Listening on an address or a path, and what is in the way."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from energyws.control.admin.sockets import listen_on_address, listen_on_path, remove
from energyws.errors import BootError

KEYS = "admin.host, admin.port"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "admin.sock")


def test_address_that_is_taken() -> None:
    with listen_on_address(KEYS, "127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        text = f"{KEYS}: cannot listen on 127.0.0.1:{port}: Address already in use"
        with pytest.raises(BootError, match=text):
            listen_on_address(KEYS, "127.0.0.1", port)


def test_every_address_of_both_versions() -> None:
    with listen_on_address(KEYS, "::", 0) as made:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, made.getsockname()[1])).close()


def test_path_is_for_its_owner_only(path: str) -> None:
    before = os.umask(0)
    try:
        with listen_on_path(path):
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(path)
    finally:
        os.umask(before)


def test_left_over_socket_is_replaced(path: str) -> None:
    listen_on_path(path).close()
    with listen_on_path(path):
        pass
    remove(path)
    remove(path)
    assert not os.path.exists(path)


def test_socket_in_use_stays(path: str) -> None:
    with listen_on_path(path) as first:
        with pytest.raises(BootError, match=r"another process answers on /.*admin\.sock"):
            listen_on_path(path)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            first.accept()[0].close()


def test_socket_that_is_too_busy_to_answer_stays(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(path)
        busy.listen(0)
        client.connect(path)
        with pytest.raises(BootError, match="another process answers on"):
            listen_on_path(path)


def test_file_and_link_stay(path: str, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    for make in (lambda: Path(path).write_text("x"), lambda: os.symlink("precious", path)):
        make()
        with pytest.raises(BootError, match=r"^admin\.socket: .* exists and is no socket"):
            listen_on_path(path)
        os.unlink(path)
    assert (tmp_path / "precious").read_text() == "data"


@pytest.mark.parametrize("path", ["/no/such/directory/admin.sock", "/no" + "x" * 120])
def test_impossible_path(path: str) -> None:
    with pytest.raises(BootError, match=r"^admin\.socket: cannot listen on /.*: \w+"):
        listen_on_path(path)
