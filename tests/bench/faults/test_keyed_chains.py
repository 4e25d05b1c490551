"""Chains of resumes with changing keys, over ring and log, while processes are killed.

The properties are those of bench.faults.audit: each client gets the records of its keys exactly
once, no other ones, no position that it is told is beyond a record that it lacks, and a snapshot
has the newest record of each key before its position.
"""

from __future__ import annotations

import random

import pytest

from bench.faults.fault import Fault
from bench.faults.world import World
from energyws.testing import Broker
from tests.bench.faults.test_selection import run

pytestmark = pytest.mark.e2e


def wander(world: World, rng: random.Random) -> None:
    """Random clients reconnect or start anew, records come in bursts, processes are killed."""
    everybody = range(world.crowd.clients)

    def away(clients: int) -> None:
        """Some reconnect, and miss records meanwhile."""
        world.crowd.bounce(rng.sample(everybody, clients))
        world.producer.burst(rng.randint(0, 25))

    steps = [
        *[lambda: away(8)] * 6,
        *[lambda: away(3)] * 3,
        *[lambda: world.crowd.renew(rng.sample(everybody, 2))] * 2,
        *[lambda: world.crowd.snapshots(rng)] * 4,
        *[lambda: world.producer.burst(rng.randint(40, 80))] * 3,
        lambda: world.kill(rng.choice(world.workers)),
        lambda: world.kill("consumer"),
    ]
    rng.shuffle(steps)
    for step in steps:
        step()
        world.pause(rng, 0.2)


CHAINS = Fault(
    number=0,
    name="chains",
    title="clients resume again and again",
    expected="each gets its own records, once",
    inject=wander,
    # The ring holds less than a client may miss, so that many a resume needs the log.
    config={"history": {"max_frames": 40, "warm": 5}, "server": {"position_seconds": 0.2}},
)


def test_each_client_gets_its_own_records_once(broker: Broker) -> None:
    assert run(CHAINS, broker, keyed=70, rate=60) == []
