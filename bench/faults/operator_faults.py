"""What operators do to a running service, on top of each other and without waiting."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from typing import Any, Final

from bench.faults.fault import fault
from bench.faults.strangers import Knocking
from bench.faults.world import World
from energyws.control.admin.client import AdminClient
from energyws.settings import Admin

_ORDERS: Final = 8
_MOST_WORKERS: Final = 4


def _replaced(world: World, pids: set[int]) -> bool:
    """Whether exactly those that should be there are, ready, and none of these is among them."""
    children: list[dict[str, Any]] = world.service.admin("/workers")[1] or []
    names = sorted(child["name"] for child in children)
    return names == ["consumer", *world.workers] and all(
        child["state"] == "ready" and child["pid"] not in pids for child in children
    )


def _at_once(world: World, rng: random.Random, others: list[Callable[[], object]]) -> Knocking:
    """Orders in any order, and in between any of `others`; then as many workers as before.

    Ends when every order has been carried out.
    """
    remote = AdminClient(Admin(port=world.service.config["admin"]["port"]))
    signals = (signal.SIGUSR2, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)
    orders = [
        lambda: remote.post("/workers", {"workers": rng.randint(1, _MOST_WORKERS)}),
        lambda: remote.post("/rebalance", None),
        lambda: remote.post("/roll", None),
        *(lambda number=number: world.service.signal(number) for number in signals),
        *others,
    ]
    with Knocking(world.service.port) as knocking:
        for _ in range(_ORDERS):
            rng.choice(orders)()
            world.pause(rng, 0.6)
        remote.post("/workers", {"workers": world.service.worker_count})
        # The last one of all: when it is over, so is everything that was begun before.
        pids = {child.pid for child in world.service.children().values()}
        remote.post("/roll", None)
        world.wait(
            lambda: _replaced(world, pids), "as many as before are ready, all of them new", 60
        )
    unexpected = knocking.statuses.keys() - {0, 101}
    world.expect(not unexpected, f"answers {unexpected}")
    return knocking


@fault(
    number=24,
    name="operators",
    title="scaled, rebalanced, rolled and reloaded in any order, overlapping",
    expected="every new connection is accepted, clients resume, and every command is carried out",
    config={"server": {"drain_seconds": 1}},
)
def operators(world: World, rng: random.Random) -> None:
    knocking = _at_once(world, rng, [])
    failed = knocking.statuses.get(0, 0)
    world.expect(not failed, f"{failed} connections failed")


@fault(
    number=24,
    name="operators-and-crashes",
    title="the same, and processes are killed in between (SIGKILL, SIGTERM)",
    expected="clients resume, and every command is carried out",
    config={"server": {"drain_seconds": 1}},
)
def operators_and_crashes(world: World, rng: random.Random) -> None:
    def hit(number: signal.Signals) -> None:
        children = world.service.children()
        if children:
            children[rng.choice(sorted(children))].send_signal(number)

    _at_once(world, rng, [lambda: hit(signal.SIGKILL), lambda: hit(signal.SIGTERM)])
