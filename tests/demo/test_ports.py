"""Where the demo listens."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from energyws.demo import ports
from energyws.demo.ports import free_port, is_loopback, local_address, outside_address
from energyws.errors import EnergywsError


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_taken_port_is_followed_by_the_next_free_one(taken: int) -> None:
    found = free_port("127.0.0.1", taken)
    assert taken < found < taken + ports.ATTEMPTS


def test_free_port_stays(taken: int) -> None:
    found = free_port("127.0.0.1", taken)
    # Another test may have taken it by now.
    assert found <= free_port("127.0.0.1", found)
    assert free_port("127.0.0.1", 0) == 0


def test_too_many_taken_ports_are_an_error(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "ATTEMPTS", 1)
    with pytest.raises(EnergywsError, match=f"{taken} .*--port 0"):
        free_port("127.0.0.1", taken)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_address_of_another_machine_is_an_error(host: str) -> None:
    with pytest.raises(EnergywsError, match=f"cannot listen on {host}:8080: .*--host"):
        free_port(host, 8080)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may listen anywhere")
def test_privileged_port_is_an_error() -> None:
    with pytest.raises(EnergywsError, match="Permission denied"):
        free_port("127.0.0.1", 1)


def test_loopback_is_known_by_any_of_its_names() -> None:
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert is_loopback(host)
        assert outside_address(host) is None
    for host in ("0.0.0.0", "::", "192.0.2.7", "example.com"):
        assert not is_loopback(host)


def test_address_for_a_phone_is_not_that_of_all_interfaces() -> None:
    assert outside_address("192.0.2.7") == "192.0.2.7"
    found = outside_address("0.0.0.0")
    assert found is None or not (found == "0.0.0.0" or is_loopback(found))
    assert local_address("0.0.0.0") == "127.0.0.1"
    assert local_address("192.0.2.7") == "192.0.2.7"
