"""A running service with simulated meters, as the demo has them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from energyws.demo.meter import Meter
from energyws.testing import PATIENCE_SECONDS, Broker, Records, Service, config
from tests.conftest import new_topic

INTERVAL_SECONDS = 0.1
METERS = 2

Meters = tuple[Service, list[str]]


@pytest.fixture(scope="module")
def meters(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Meters]:
    """A ready service whose meters write ten readings a second each, and their serial numbers.

    These are the keys of the stream.
    """
    topic = new_topic(broker)
    records = Records(broker.bootstrap, topic)
    fleet = [Meter(seed) for seed in range(METERS)]
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(INTERVAL_SECONDS):
            for number, meter in enumerate(fleet):
                records.raw(meter.record(time.time_ns()), number)

    keyed = {"key": "/saveeyeDeviceSerialNumber", "snapshot": {"enabled": True}}
    chosen = config(broker.bootstrap, topic, streams={"energy": {"topic": topic, **keyed}})
    directory = tmp_path_factory.mktemp("service")
    thread = threading.Thread(target=write)
    with Service(directory, chosen) as service:
        thread.start()
        try:
            yield service.ready(), [meter.serial for meter in fleet]
        finally:
            stop.set()
            thread.join(PATIENCE_SECONDS)
            records.flush()
