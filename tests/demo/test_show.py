"""Where the demo's service listens for operators."""

from __future__ import annotations

import socket

import pytest

from energyws.demo import show
from energyws.demo.show import Demo, Options
from energyws.settings import Admin


def test_admin_port_is_the_default_unless_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        default: int = listener.getsockname()[1]
        monkeypatch.setattr(show, "Admin", lambda: Admin(port=default))
        assert port_of(8080) == 0
    assert port_of(8080) == default
    assert port_of(0) == 0


def port_of(port: int) -> int:
    return Demo(Options(port=port), print)._admin_port()
