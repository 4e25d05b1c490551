"""The demo's model, fed with messages and samples."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from energyws.client import Gap, Reading
from energyws.control.status.model import ProcessView, ServiceView
from energyws.demo.screen.model import DELAY_SECONDS, Model
from tests.control.documents import sample_view

NOW = 1_800_000_000.0


def reading(position: str, written: float = NOW, serial: str = "A", watts: int = 500) -> Reading:
    timestamp = datetime.fromtimestamp(written, UTC).isoformat(timespec="milliseconds")
    data = {"saveeyeDeviceSerialNumber": serial, "activeActualConsumption": {"total": watts}}
    return Reading("energy", timestamp, data, position)


def worker(name: str, pid: int, connections: int = 1, state: str = "ready") -> ProcessView:
    return ProcessView(name, state, 0.1, 1, 1, is_worker=True, pid=pid, connections=connections)


def service(*workers: ProcessView) -> ServiceView:
    consumer = [each for each in sample_view().processes if not each.is_worker]
    return replace(sample_view(), processes=[*consumer, *workers])


@pytest.fixture
def model() -> Model:
    """Two clients, which have received one reading each."""
    model = Model(2, 0.0)
    for client in (0, 1):
        model.change(client, live=True, now=1.0)
        model.take(client, reading("a-1.0"), 1.0, NOW)
    return model


def test_meters_are_those_of_the_first_client(model: Model) -> None:
    model.take(0, reading("a-1.1", NOW + 1, "B", 900), 2.0, NOW + 1)
    model.take(1, reading("a-1.1", NOW + 1, "C"), 2.0, NOW + 1)
    meters = model.view(3.0, NOW + 2).meters
    assert [(each.serial, each.watts) for each in meters] == [("A", 500), ("B", 900)]
    assert list(meters[0].trace)[-2:] == [500, None]
    assert list(meters[1].trace)[-2:] == [None, 900]


def test_delay_is_from_timestamp_to_arrival_of_the_last_seconds() -> None:
    model = Model(1, 0.0)
    assert model.view(0.0, NOW).delays is None
    # The clock of this machine and the meter's may differ.
    model.take(0, reading("a-1", NOW + 5), 1.0, NOW)
    for number in range(2, 101):
        model.take(0, reading(f"a-{number}"), 1.0, NOW + number / 1000)
    assert model.view(1.0, NOW).delays == pytest.approx((0.050, 0.099), abs=0.001)
    model.take(0, reading("a-101"), 2.0, NOW + 3)
    assert model.view(1.5 + DELAY_SECONDS, NOW).delays == pytest.approx((3.0, 3.0))
    assert model.view(3.0 + DELAY_SECONDS, NOW).delays is None


def test_all_clients_are_counted(model: Model) -> None:
    model.take(0, reading("a-1.1"), 2.0, NOW)
    model.take(1, reading("a-3.1"), 2.0, NOW)
    model.take(0, reading("a-1.1"), 2.0, NOW)
    model.take(1, Gap("energy", 5, "LAGGED", "a-8.1"), 2.0, NOW)
    view = model.view(10.0, NOW)
    assert (view.received, view.lost, view.repeated) == (5, 7, 1)
    assert (view.clients, view.live, view.reconnects, view.up_seconds) == (2, 2, 0, 10.0)


def test_kill_is_over_when_clients_receive_and_the_worker_is_back(model: Model) -> None:
    model.sample(service(worker("worker-0", 10), worker("worker-1", 11)), 2.0)
    (victim,) = [each for each in model.victims() if each.name == "worker-1"]
    model.kill(victim, 5.0, NOW)
    model.change(1, live=False, now=5.1)
    # Told twice of the same.
    model.change(1, live=False, now=5.2)
    view = model.view(5.2, NOW)
    assert (view.live, view.reconnects) == (1, 0)
    model.sample(service(worker("worker-0", 10), worker("worker-1", 11)), 5.2)
    model.sample(service(worker("worker-0", 10), worker("worker-1", 12, state="starting")), 5.5)
    (kill,) = model.view(5.5, NOW).kills
    assert kill.successor is None
    # Subscribed is not enough: the reading that follows is the proof.
    model.change(1, live=True, now=5.6)
    assert kill.pauses == {}
    assert model.view(5.6, NOW).reconnects == 1
    model.take(0, reading("a-1.1"), 5.7, NOW)
    model.take(1, reading("a-1.1"), 6.1, NOW)
    assert kill.pauses == {1: pytest.approx(1.0)}
    assert not kill.is_over
    model.sample(service(worker("worker-0", 10), worker("worker-1", 12)), 6.5)
    assert (kill.is_over, kill.successor, kill.received, kill.lost) == (True, (12, 1.5), 4, 0)
    # What happens later is not of this kill.
    model.change(0, live=False, now=9.0)
    model.take(1, reading("a-9.1"), 9.0, NOW)
    assert (set(kill.lost_at), kill.lost) == ({1}, 0)


def test_what_a_kill_costs_is_shown(model: Model) -> None:
    model.sample(service(worker("worker-0", 10)), 2.0)
    model.kill(worker("worker-0", 10), 5.0, NOW)
    model.change(1, live=False, now=5.1)
    model.change(1, live=True, now=5.3)
    model.sample(service(worker("worker-0", 11)), 5.4)
    model.take(1, reading("a-4.0"), 5.5, NOW)
    (kill,) = model.view(6.0, NOW).kills
    assert kill.text().endswith("2 lost of 3")


def test_victims_are_ready_and_have_clients(model: Model) -> None:
    assert model.victims() == []
    busy, idle = worker("worker-0", 10, 5), worker("worker-1", 11, 0)
    starting = worker("worker-2", 12, 5, "starting")
    model.sample(service(busy, idle, starting), 1.0)
    assert model.victims() == [busy]
    model.sample(service(idle, starting), 1.5)
    assert model.victims() == [idle]
    # Killed a moment ago, and still in the sample.
    model.kill(idle, 2.0, NOW)
    assert model.victims() == []
