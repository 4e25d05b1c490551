"""Fixtures for tests that run the real service."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from energyws.testing import Broker, Records, Service, any_broker, config
from energyws.testing.embedded_broker import EmbeddedBroker
from tests.control.supervised import Run, Supervised
from tests.testing.readers import Readers

_names = itertools.count()
# A shell without job control starts background commands with this signal ignored, and children
# inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A demo that runs on this machine, by a test or by hand, announces itself there; `energyws status`
# of another test must not find it.
os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="energyws-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_RUNTIME_DIR"], ignore_errors=True)
# The time that an example takes depends on the load of this machine.
settings.register_profile("energyws", deadline=None)
settings.load_profile("energyws")


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """The broker that REDPANDA_BROKERS names, else an embedded one."""
    with any_broker() as running:
        yield running


@pytest.fixture
def topic(broker: Broker) -> str:
    """A topic for one test, with three partitions."""
    return new_topic(broker)


def new_topic(broker: Broker) -> str:
    """Make a topic that no other test has, nor another run on the same broker."""
    name = f"readings-{os.getpid()}-{next(_names)}"
    broker.create_topic(name)
    return name


@pytest.fixture
def records(broker: Broker, topic: str) -> Records:
    """A producer for the topic."""
    return Records(broker.bootstrap, topic)


@pytest.fixture
def serve(broker: Broker, topic: str, tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts services on the topic: `serve(server={"workers": 1})`; ends them all."""
    running: list[Service] = []

    def start(**sections: dict[str, Any]) -> Service:
        chosen = config(broker.bootstrap, topic, **sections)
        running.append(Service(tmp_path / f"service-{len(running)}", chosen))
        return running[-1]

    yield start
    for service in running:
        service.kill()
        # pytest shows the log when a test fails.
        print("\n".join(service.lines))


@pytest.fixture
def run() -> Iterator[Run]:
    running: list[Supervised] = []

    def start(
        scripts: dict[str, str] | None = None,
        host: dict[str, Any] | None = None,
        **sections: dict[str, Any],
    ) -> Supervised:
        running.append(Supervised({"*": "steady", **(scripts or {})}, sections, host or {}))
        return running[-1]

    yield start
    for supervised in running:
        supervised.end()


@pytest.fixture
def readers() -> Iterator[Readers]:
    """Consumers for one test."""
    readers = Readers()
    yield readers
    readers.close()


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    """A broker with the topic `energy` of three partitions."""
    with EmbeddedBroker() as broker:
        broker.create_topic("energy", 3)
        yield broker
