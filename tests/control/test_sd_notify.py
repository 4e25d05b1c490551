"""What a service manager hears: real datagrams, on a path and on an abstract address."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from energyws.control.policy.readiness import NO_BROKER
from energyws.control.sd_notify import ServiceManager, manager


class Listening:
    """A service manager's end."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """What has come since it was asked last."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def listening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listening]:
    abstract = f"@energyws-test-{secrets.token_hex(8)}"
    end = Listening(str(tmp_path / "notify") if request.param == "path" else abstract)
    yield end
    end.close()


@pytest.fixture
def telling(listening: Listening) -> Iterator[ServiceManager]:
    told = ServiceManager(listening.address)
    yield told
    told.close()


def test_ready_is_said_once_and_only_when_nothing_is_missing(
    telling: ServiceManager, listening: Listening
) -> None:
    telling.step([NO_BROKER], 0)
    assert listening.heard() == [f"STATUS=not ready: {NO_BROKER}"]
    telling.step([], 1)
    assert listening.heard() == ["READY=1", "STATUS=ready"]
    telling.step([], 2)
    assert listening.heard() == []
    telling.step([NO_BROKER], 3)
    telling.step([], 4)
    assert listening.heard() == [f"STATUS=not ready: {NO_BROKER}", "STATUS=ready"]


def test_a_reload_is_told_with_the_clock_that_systemd_compares(
    telling: ServiceManager, listening: Listening
) -> None:
    telling.step([], 0)
    listening.heard()
    before = time.monotonic_ns() // 1000
    with telling.reloading():
        (begun,) = listening.heard()
    first, second = begun.split("\n")
    name, value = second.split("=")
    assert (first, name) == ("RELOADING=1", "MONOTONIC_USEC")
    assert before <= int(value) <= time.monotonic_ns() // 1000
    assert listening.heard() == ["READY=1"]


def test_a_reload_that_fails_ends_too(telling: ServiceManager, listening: Listening) -> None:
    telling.step([], 0)
    listening.heard()
    with pytest.raises(RuntimeError), telling.reloading():
        raise RuntimeError
    assert listening.heard()[1:] == ["READY=1"]


def test_a_reload_before_the_service_is_ready_does_not_make_it_so(
    telling: ServiceManager, listening: Listening
) -> None:
    telling.step([NO_BROKER], 0)
    listening.heard()
    with telling.reloading():
        pass
    assert listening.heard() == []


def test_stopping(telling: ServiceManager, listening: Listening) -> None:
    telling.stopping()
    assert listening.heard() == ["STOPPING=1"]


def test_the_watchdog_is_patted_at_half_its_time(listening: Listening) -> None:
    telling = ServiceManager(listening.address, watchdog_seconds=10)
    beats = []
    for now in range(12):
        telling.step([], now)
        beats += [now for message in listening.heard() if message == "WATCHDOG=1"]
    telling.close()
    assert beats == [0, 5, 10]


def test_what_a_full_socket_did_not_take_is_said_again(
    telling: ServiceManager, listening: Listening
) -> None:
    for _ in range(10_000):
        telling.stopping()
    telling.step([], 0)
    assert set(listening.heard()) == {"STOPPING=1"}
    telling.step([], 1)
    assert listening.heard() == ["READY=1", "STATUS=ready"]


def test_a_manager_that_is_gone_disturbs_nobody(tmp_path: Path) -> None:
    telling = ServiceManager(str(tmp_path / "nobody"), watchdog_seconds=1)
    telling.step([], 0)
    telling.stopping()
    telling.close()


def test_without_a_manager_nobody_is_told() -> None:
    telling = manager({})
    telling.step([], 0)
    telling.stopping()
    telling.close()


def test_the_environment_says_who_listens_and_children_are_not_told(listening: Listening) -> None:
    environment = {
        "NOTIFY_SOCKET": listening.address,
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    telling = manager(environment)
    telling.step([], 0)
    telling.step([], 1.4)
    telling.step([], 1.5)
    telling.close()
    assert listening.heard() == ["READY=1", "STATUS=ready", "WATCHDOG=1", "WATCHDOG=1"]
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize(
    "watchdog",
    [
        pytest.param({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}, id="for another process"),
        pytest.param({"WATCHDOG_USEC": "0"}, id="off"),
        pytest.param({"WATCHDOG_USEC": "soon"}, id="no number"),
        pytest.param({}, id="none"),
    ],
)
def test_no_watchdog_is_patted_that_is_not_ours(
    listening: Listening, watchdog: dict[str, str]
) -> None:
    telling = manager({"NOTIFY_SOCKET": listening.address, **watchdog})
    telling.step([], 0)
    telling.close()
    assert listening.heard() == ["READY=1", "STATUS=ready"]


def test_an_address_of_another_kind_is_left_alone() -> None:
    telling = manager({"NOTIFY_SOCKET": "vsock:2:1234"})
    telling.step([], 0)
    telling.close()
