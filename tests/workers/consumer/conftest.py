"""Fixtures for tests of the source."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.workers.consumer.fake_consumer import FakeConsumer, FakeDiscovery, Stage
from workers.consumer import source


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`stage(logs)`: a source of a topic with these logs, each from its low to its high offset."""

    def make(logs: list[tuple[int, int]], **kafka: Any) -> Stage:
        monkeypatch.setattr(source, "open_consumer", lambda settings: FakeConsumer(logs))
        monkeypatch.setattr(source, "open_admin", lambda kafka: None)
        monkeypatch.setattr(source, "Discovery", FakeDiscovery)
        return Stage(**kafka)

    return make


@pytest.fixture
def lines() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """The event and the fields of each line that the logger `kafka` writes."""
    found: list[tuple[str, dict[str, Any]]] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            fields = record.energyws_fields  # type: ignore[attr-defined]
            found.append((record.getMessage(), fields))

    handler, logger = Recorder(), logging.getLogger("energyws.kafka")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)
