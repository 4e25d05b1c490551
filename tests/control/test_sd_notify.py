"""Real datagrams to a service manager, on a path and on an abstract address."""

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

    def received(self) -> list[str]:
        """The datagrams since the last call."""
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
def reporting(listening: Listening) -> Iterator[ServiceManager]:
    made = ServiceManager(listening.address)
    yield made
    made.close()


def test_ready_is_sent_once_when_there_is_no_reason_against_it(
    reporting: ServiceManager, listening: Listening
) -> None:
    reporting.step([NO_BROKER], 0)
    assert listening.received() == [f"STATUS=not ready: {NO_BROKER}"]
    reporting.step([], 1)
    assert listening.received() == ["READY=1", "STATUS=ready"]
    reporting.step([], 2)
    assert listening.received() == []
    reporting.step([NO_BROKER], 3)
    reporting.step([], 4)
    assert listening.received() == [f"STATUS=not ready: {NO_BROKER}", "STATUS=ready"]


def test_a_reload_is_reported_with_the_clock_that_systemd_compares(
    reporting: ServiceManager, listening: Listening
) -> None:
    reporting.step([], 0)
    listening.received()
    before = time.monotonic_ns() // 1000
    with reporting.reloading():
        (begun,) = listening.received()
    first, second = begun.split("\n")
    name, value = second.split("=")
    assert (first, name) == ("RELOADING=1", "MONOTONIC_USEC")
    assert before <= int(value) <= time.monotonic_ns() // 1000
    assert listening.received() == ["READY=1"]


def test_a_reload_that_fails_ends_too(reporting: ServiceManager, listening: Listening) -> None:
    reporting.step([], 0)
    listening.received()
    with pytest.raises(RuntimeError), reporting.reloading():
        raise RuntimeError
    assert listening.received()[1:] == ["READY=1"]


def test_a_reload_before_the_service_is_ready_does_not_make_it_so(
    reporting: ServiceManager, listening: Listening
) -> None:
    reporting.step([NO_BROKER], 0)
    listening.received()
    with reporting.reloading():
        pass
    assert listening.received() == []


def test_stopping(reporting: ServiceManager, listening: Listening) -> None:
    reporting.stopping()
    assert listening.received() == ["STOPPING=1"]


def test_the_watchdog_is_reset_at_half_its_time(listening: Listening) -> None:
    reporting = ServiceManager(listening.address, watchdog_seconds=10)
    beats = []
    for now in range(12):
        reporting.step([], now)
        beats += [now for message in listening.received() if message == "WATCHDOG=1"]
    reporting.close()
    assert beats == [0, 5, 10]


def test_messages_that_a_full_socket_did_not_take_are_sent_again(
    reporting: ServiceManager, listening: Listening
) -> None:
    for _ in range(10_000):
        reporting.stopping()
    reporting.step([], 0)
    assert set(listening.received()) == {"STOPPING=1"}
    reporting.step([], 1)
    assert listening.received() == ["READY=1", "STATUS=ready"]


def test_a_manager_that_has_ended_causes_no_error(tmp_path: Path) -> None:
    reporting = ServiceManager(str(tmp_path / "absent"), watchdog_seconds=1)
    reporting.step([], 0)
    reporting.stopping()
    reporting.close()


def test_without_a_manager_nothing_is_sent() -> None:
    reporting = manager({})
    reporting.step([], 0)
    reporting.stopping()
    reporting.close()


def test_the_address_comes_from_the_environment_and_children_do_not_get_it(
    listening: Listening,
) -> None:
    environment = {
        "NOTIFY_SOCKET": listening.address,
        "WATCHDOG_USEC": "3000000",
        "WATCHDOG_PID": str(os.getpid()),
        "HOME": "/",
    }
    reporting = manager(environment)
    reporting.step([], 0)
    reporting.step([], 1.4)
    reporting.step([], 1.5)
    reporting.close()
    assert listening.received() == ["READY=1", "STATUS=ready", "WATCHDOG=1", "WATCHDOG=1"]
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
def test_a_watchdog_for_another_process_is_not_reset(
    listening: Listening, watchdog: dict[str, str]
) -> None:
    reporting = manager({"NOTIFY_SOCKET": listening.address, **watchdog})
    reporting.step([], 0)
    reporting.close()
    assert listening.received() == ["READY=1", "STATUS=ready"]


def test_an_address_of_another_kind_is_not_used() -> None:
    reporting = manager({"NOTIFY_SOCKET": "vsock:2:1234"})
    reporting.step([], 0)
    reporting.close()
