"""The admin port of the demo's service."""

from __future__ import annotations

import socket

import pytest

from energyws.demo import show
from energyws.demo.show import Demo
from energyws.settings import Admin


def test_admin_port_is_the_default_unless_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        default: int = listener.getsockname()[1]
        monkeypatch.setattr(show, "Admin", lambda: Admin(port=default))
        assert port_of(Demo(1, 1, 8080, print)) == 0
    assert port_of(Demo(1, 1, 8080, print)) == default
    assert port_of(Demo(1, 1, 0, print)) == 0


def port_of(demo: Demo) -> int:
    arguments = demo._service("127.0.0.1:1", show.Path("config.yaml"))
    (port,) = [each for each in arguments if each.startswith("--set=admin.port=")]
    return int(port.rpartition("=")[2])
