"""One service, shared by the tests of a module that leave it intact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from energyws.testing import Broker, Records, Service, config
from tests.conftest import new_topic


@pytest.fixture(scope="module")
def shared(
    broker: Broker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Records]]:
    """A ready service with two workers, and a producer for its topic."""
    topic = new_topic(broker)
    directory: Path = tmp_path_factory.mktemp("service")
    with Service(directory, config(broker.bootstrap, topic)) as service:
        yield service.ready(), Records(broker.bootstrap, topic)


@pytest.fixture
def service(shared: tuple[Service, Records]) -> Service:
    """The module's service."""
    return shared[0]


@pytest.fixture
def producer(shared: tuple[Service, Records]) -> Records:
    """The module's producer."""
    return shared[1]
