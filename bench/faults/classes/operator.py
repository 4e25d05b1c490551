"""Operator commands to a running service, each sent without waiting for the one before."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from typing import Any, Final

from bench.faults.fault import fault
from bench.faults.strangers import Newcomers
from bench.faults.world import World
from energyws.control.admin.client import AdminClient
from energyws.control.policy.fleet import WARM_SECONDS
from energyws.settings import Admin

_COMMANDS: Final = 8
_MOST_WORKERS: Final = 4
# For one step of a roll: a successor may take WARM_SECONDS of the supervisor's to become ready.
_STEP_SECONDS: Final = WARM_SECONDS + 15
_ROLL_SECONDS: Final = 300.0
_LOOK_SECONDS: Final = 0.05


def unreplaced(
    children: list[dict[str, Any]], names: list[str], before: dict[int, str]
) -> list[str]:
    """What is missing until these names are those of all children, ready, and new.

    before: the names of the processes that are to be replaced.
    """
    found = {child["name"] for child in children}
    missing = [f"{name} does not run" for name in names if name not in found]
    for child in children:
        name, pid, state = child["name"], child["pid"], child["state"]
        if name not in names:
            missing.append(f"{name} (pid {pid}) still runs")
        elif pid in before:
            missing.append(f"{name} (pid {pid}, {state}) is the one from before the roll")
        elif state != "ready":
            missing.append(f"{name} (pid {pid}) is {state}, not ready")
    return missing


def _rolled(world: World, before: dict[int, str]) -> None:
    """Wait for a roll. A busy machine makes its steps longer: only one without an end is a failure.

    Raises AssertionError, naming the processes.
    """
    began = changed = time.monotonic()
    seen: list[tuple[Any, ...]] = []
    while True:
        children: list[dict[str, Any]] = world.service.admin("/workers")[1] or []
        missing = unreplaced(children, ["consumer", *world.workers], before)
        if not missing:
            return
        now = time.monotonic()
        picture = [(one["name"], one["pid"], one["state"]) for one in children]
        if picture != seen:
            seen, changed = picture, now
        if now - changed > _STEP_SECONDS or now - began > _ROLL_SECONDS:
            raise AssertionError(
                f"the roll is not complete after {now - began:.0f} s, and nothing has changed for "
                f"{now - changed:.0f} s: {'; '.join(missing)}; the service said: "
                f"{world.service.logged('did not become ready')[-1:]}"
            )
        time.sleep(_LOOK_SECONDS)


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
        before = {child.pid: name for name, child in world.service.children().items()}
        admin.post("/roll", None)
        _rolled(world, before)
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
