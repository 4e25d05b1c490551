"""A few fault classes, once each, as the harness runs them (bench.faults runs all of them)."""

from __future__ import annotations

import itertools
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.faults import world
from bench.faults.classes import FAULTS
from bench.faults.fault import Fault
from bench.faults.verdict import Losses
from bench.faults.world import World
from energyws.testing import Broker

RELIABILITY = (Path(__file__).parents[3] / "docs" / "reliability.md").read_text()
_names = itertools.count()


class _Named:
    """Adapts the tests' broker to a World."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.kind = "embedded"
        self.bootstrap = self.direct = broker.bootstrap

    def create_topic(self, name: str, partitions: int = 3) -> None:
        self._broker.create_topic(name, partitions)

    def delete_topic(self, name: str) -> None:
        self._broker.delete_topic(name)

    def trim(self, name: str, partition: int, low_offset: int) -> None:
        self._broker.trim(name, partition, low_offset)


def run(fault: Fault, broker: Broker, **options: Any) -> list[str]:
    """Inject the fault once with 20 clients, some over SSE, some with a few keys; all problems."""
    topic = f"faults-{os.getpid()}-{next(_names)}"
    small = replace(fault, clients=None)
    about = {"clients": 20, "rate": 30, "sse": 25, "keyed": 30, "name": topic, **options}
    with World(small, _Named(broker), **about) as made:
        injected = made.inject(random.Random(1), 0)
        end = made.settle()
    assert injected.frames > injected.sse_frames > 0
    assert injected.keyed_frames > 0
    return injected.problems + end.problems


@pytest.mark.e2e
@pytest.mark.parametrize(
    "name", ["consumer-kill", "worker-kill", "supervisor-kill", "rolling-restart", "live-edge"]
)
def test_no_client_loses_a_record_or_gets_one_twice(name: str, broker: Broker) -> None:
    assert run(FAULTS[name], broker) == []


@pytest.mark.e2e
@pytest.mark.edge
def test_run_that_asks_for_io_uring_fails_without_it(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "LEAK_SECONDS", 1.0)
    # The class's own configuration overrides the harness's.
    fault = replace(FAULTS["worker-kill"], config={"server": {"io_uring": "off"}})
    assert run(fault, broker, io_uring="auto") == [
        "not within 1 s: the workers use io_uring: they say off" for _ in range(2)
    ]


def retention_overtakes_the_consumer(world: World, rng: random.Random) -> None:
    """Remove records of partition 0 before the consumer has read them."""
    world.producer.pause()
    world.producer.flush()
    consumer = world.service.child("consumer")
    consumer.suspend()
    # A fetch already in progress takes the first burst.
    for _ in range(2):
        world.producer.burst(30)
        world.producer.flush()
    low = world.producer.offset_after(0) - 3
    world.broker.trim(world.topic, 0, low)
    if world.fault.name == "reported":
        world.removed(0, low)
    consumer.resume()
    world.producer.resume()


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("name", "reasons", "problem"),
    [
        ("reported", {"RETENTION"}, None),
        # The World does not know that these records are gone.
        ("unknown", {"RETENTION"}, "but the log still has"),
        ("reported", set(), "received a Gap RETENTION"),
    ],
)
def test_reported_losses_are_compared_with_the_removed_records(
    name: str, reasons: set[str], problem: str | None, broker: Broker
) -> None:
    losses = Losses(reasons=frozenset(reasons))
    class_ = Fault(
        number=0,
        name=name,
        title="retention",
        expected="reported",
        inject=retention_overtakes_the_consumer,
        losses=losses,
    )
    problems = run(class_, broker)
    if problem is None:
        assert problems == []
    else:
        assert any(problem in text for text in problems)


def test_every_class_has_its_own_title_and_expectation() -> None:
    known = [(fault.title, fault.expected) for fault in FAULTS.values()]
    assert len(set(known)) == len(FAULTS) > 20
    assert all(title and expected for title, expected in known)


def test_results_table_has_every_class_with_its_current_texts() -> None:
    rows = [line for line in RELIABILITY.splitlines() if line.endswith((" passed |", " failed |"))]
    known = [f"| {fault.number} | {fault.title} | {fault.expected} | " for fault in FAULTS.values()]
    assert [begins for begins in known if not any(row.startswith(begins) for row in rows)] == []
    assert [row for row in rows if not row.startswith(tuple(known))] == []
