"""HTTP over a Unix socket: the errors of connecting, as the client of the admin port shows them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from energyws.control.admin import client as module
from energyws.control.admin.client import AdminClient, AdminRequestFailed
from energyws.control.admin.unix_connection import UnixConnection
from energyws.settings import Admin


def test_request_and_answer(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        listening.listen()
        connection = UnixConnection(str(tmp_path / "s"), 5)
        connection.request("GET", "/status")
        other, _ = listening.accept()
        with other:
            assert other.recv(1000).startswith(b"GET /status HTTP/1.1\r\nHost: localhost\r\n")
            other.sendall(b"HTTP/1.0 200 OK\r\n\r\nbody")
        with connection.getresponse() as answer:
            assert answer.read() == b"body"
        connection.close()


@pytest.mark.parametrize(
    ("name", "reason"), [("absent", "No such file or directory"), ("x" * 120, "no such host")]
)
def test_path_without_a_socket(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(AdminRequestFailed, match=f"cannot connect to .*/{name}: {reason}"):
        AdminClient(Admin(socket=str(tmp_path / name))).get("/status")


def test_silence_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "GET_SECONDS", 0.1)
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        with pytest.raises(AdminRequestFailed, match=r"s does not answer within 0\.1 s"):
            AdminClient(Admin(socket=path)).get("/status")
