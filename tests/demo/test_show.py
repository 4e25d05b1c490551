"""Where the demo's service listens for operators."""

from __future__ import annotations

import asyncio
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


@pytest.mark.e2e
@pytest.mark.edge
def test_taken_port_is_said_and_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken: int = listener.getsockname()[1]
        # The default admin port is for demos by hand.
        monkeypatch.setattr(show, "Admin", lambda: Admin(port=taken))
        options = Options(port=taken, workers=1, meters=1, count=1)
        assert asyncio.run(Demo(options, said.append).run()) == 0
    used = int(said[0].rpartition(" ")[2])
    assert said[0] == f"port {taken} is taken, so this demo uses {used}"
    assert used > taken
    lines = [line for line in said if f"127.0.0.1:{used}/" in line]
    assert [line.split("127.0.0.1")[0] for line in lines] == [
        "  ws://",
        "the page, with its token: http://",
        "    energyws tail ws://",
    ]
    assert " W  " in said[-1]
