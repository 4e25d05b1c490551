"""Operator commands to a running service, each sent without waiting for the one before."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from typing import Any, Final

from bench.faults.fault import fault
from bench.faults.strangers import Newcomers
from bench.faults.world import World
from energyws.control.admin.client import AdminClient
from energyws.settings import Admin

_COMMANDS: Final = 8
_MOST_WORKERS: Final = 4


def _replaced(world: World, pids: set[int]) -> bool:
    """Whether all children are ready and none has one of these process ids."""
    children: list[dict[str, Any]] = world.service.admin("/workers")[1] or []
    names = sorted(child["name"] for child in children)
    return names == ["consumer", *world.workers] and all(
        child["state"] == "ready" and child["pid"] not in pids for child in children
    )


def _overlapping(world: World, rng: random.Random, others: list[Callable[[], object]]) -> Newcomers:
    """Issue commands and `others` in random order, then restore the number of workers.

    Returns when every command has been carried out.
    """
    admin = AdminClient(Admin(port=world.service.config["admin"]["port"]))
    signals = (signal.SIGUSR2, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU)
    commands = [
        lambda: admin.post("/workers", {"workers": rng.randint(1, _MOST_WORKERS)}),
        lambda: admin.post("/rebalance", None),
        lambda: admin.post("/roll", None),
        *(lambda number=number: world.service.signal(number) for number in signals),
        *others,
    ]
    with Newcomers(world.service.port, trust=world.trust) as newcomers:
        for _ in range(_COMMANDS):
            rng.choice(commands)()
            world.pause(rng, 0.6)
        admin.post("/workers", {"workers": world.service.worker_count})
        # When this roll is complete, so are all commands before it.
        pids = {child.pid for child in world.service.children().values()}
        admin.post("/roll", None)
        world.wait(lambda: _replaced(world, pids), "all children are ready and new", 60)
    unexpected = newcomers.statuses.keys() - {0, 101}
    world.expect(not unexpected, f"answers {unexpected}")
    return newcomers


@fault(
    number=24,
    name="operators",
    title="scaled, rebalanced, restarted and reloaded in random order, overlapping",
    expected="every new connection is accepted, clients resume, and every command is carried out",
    config={"server": {"drain_seconds": 1}},
)
def operators(world: World, rng: random.Random) -> None:
    newcomers = _overlapping(world, rng, [])
    failed = newcomers.statuses.get(0, 0)
    world.expect(not failed, f"{failed} connections failed")


@fault(
    number=24,
    name="operators-and-crashes",
    title="the same, with processes killed in between (SIGKILL, SIGTERM)",
    expected="clients resume, and every command is carried out",
    config={"server": {"drain_seconds": 1}},
)
def operators_and_crashes(world: World, rng: random.Random) -> None:
    def hit(number: signal.Signals) -> None:
        children = world.service.children()
        if children:
            children[rng.choice(sorted(children))].send_signal(number)

    _overlapping(world, rng, [lambda: hit(signal.SIGKILL), lambda: hit(signal.SIGTERM)])
