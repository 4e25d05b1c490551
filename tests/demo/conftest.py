"""A broker in this process, and readers of its topics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from energyws.demo.broker import EmbeddedBroker
from tests.demo.readers import Readers


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
