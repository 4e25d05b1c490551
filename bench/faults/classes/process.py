"""Faults of the service's own processes: killed and stopped."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Final

import psutil

from bench.faults.fault import fault
from bench.faults.world import World

# How long the kernel may take to end the children after the supervisor.
ORPHAN_SECONDS: Final = 2.0
# A board's number of keyed subscriptions is up to a second old.
_BOARD_SECONDS: Final = 1.5
_WATCHFUL: Final = {"supervision": {"hang_seconds": 1.5}}


def connects_of(world: World) -> int:
    return int(world.crowd.report()["connects"])


@fault(
    number=1,
    name="consumer-kill",
    title="consumer killed (SIGKILL)",
    expected="clients stay connected; a new consumer reads back, workers fetch what they missed",
)
def consumer_kill(world: World, rng: random.Random) -> None:
    world.kill("consumer")
    world.service.ready()


@fault(
    number=2,
    name="consumer-hang",
    title="consumer stopped and never continued (SIGSTOP)",
    expected="the supervisor kills and replaces it after hang_seconds; clients stay connected",
    config=_WATCHFUL,
    stays_connected=True,
)
def consumer_hang(world: World, rng: random.Random) -> None:
    consumer = world.service.child("consumer")
    consumer.suspend()
    world.gone(consumer)
    world.service.ready()


@fault(
    number=2,
    name="consumer-pause",
    title="consumer stopped for up to 0.8 s (SIGSTOP, SIGCONT)",
    expected="it continues where it stopped; no process is killed, no client reconnects",
)
def consumer_pause(world: World, rng: random.Random) -> None:
    consumer = world.service.child("consumer")
    consumer.suspend()
    world.pause(rng, 0.8)
    consumer.resume()
    world.clients_live()
    world.expect(world.service.child("consumer") == consumer, "the consumer was replaced")


@fault(
    number=3,
    name="worker-kill",
    title="one worker killed (SIGKILL)",
    expected="its clients reconnect, to any worker, and resume",
)
def worker_kill(world: World, rng: random.Random) -> None:
    world.kill(rng.choice(world.workers))


@fault(
    number=3,
    name="all-kill",
    title="consumer and all workers killed together (SIGKILL)",
    expected="the supervisor restarts them; all clients reconnect and resume",
)
def all_kill(world: World, rng: random.Random) -> None:
    children = list(world.service.children().values())
    rng.shuffle(children)
    for child in children:
        child.kill()
    for child in children:
        world.gone(child)
    world.service.ready()


@fault(
    number=4,
    name="worker-hang",
    title="one worker stopped and never continued (SIGSTOP)",
    expected="it is killed after hang_seconds; clients of the other worker notice nothing",
    config=_WATCHFUL,
)
def worker_hang(world: World, rng: random.Random) -> None:
    name = rng.choice(world.workers)
    worker = world.service.child(name)
    # Until the boards have the clients that have just reconnected.
    time.sleep(_BOARD_SECONDS)
    board = world.service.board(name)
    # The silence of clients with a few keys is not measured.
    own = board.get("connections", 0) - board.get("keyed_subscriptions", 0)
    worker.suspend()
    world.gone(worker)
    # The stopped worker's clients waited longest, so the shorter silences are those of the others.
    seen = world.crowd.report()
    silences = sorted(seen["silences"] + seen["sse_silences"])
    others = silences[: len(silences) - own]
    world.note("silence of the others, s", max(others, default=0))
    world.expect(max(others, default=0) < 1.0, "clients of the other worker waited")
    world.service.ready()


@fault(
    number=4,
    name="worker-pause",
    title="one worker stopped for up to 0.8 s (SIGSTOP, SIGCONT)",
    expected="it continues where it stopped; no process is killed, no client reconnects",
)
def worker_pause(world: World, rng: random.Random) -> None:
    worker = world.service.child(rng.choice(world.workers))
    worker.suspend()
    world.pause(rng, 0.8)
    worker.resume()
    world.clients_live()
    world.expect(worker.is_running(), "the worker was killed")


def nothing_left(world: World, children: list[psutil.Process], buses: set[Path]) -> None:
    """Check that no process and no open port is left after the supervisor; remove bus directories.

    Waits for the children, since their new parent may reap them late.
    """

    def left() -> list[int]:
        return [
            child.pid
            for child in children
            if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
        ]

    began = time.monotonic()
    world.wait(lambda: not left(), "no child outlives the supervisor", ORPHAN_SECONDS)
    world.note("until the last child was gone, s", time.monotonic() - began)
    world.service.wait()
    # A zombie's threads may outlive it and keep its descriptors open for a moment.
    world.wait(lambda: _free(world.service.port), "the port is free", ORPHAN_SECONDS)
    for bus in buses:
        world.note("bus directories left behind", bus.exists())
        shutil.rmtree(bus, ignore_errors=True)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def buses_of(children: list[psutil.Process]) -> set[Path]:
    """The bus directories, from the children's command lines."""
    return {
        Path(argument.removeprefix("--bus="))
        for child in children
        for argument in child.cmdline()
        if argument.startswith("--bus=")
    }


@fault(
    number=5,
    name="supervisor-kill",
    title="supervisor killed (SIGKILL), then started again",
    expected="no process outlives it, the port is free, a new start works, clients resume",
)
def supervisor_kill(world: World, rng: random.Random) -> None:
    children = list(world.service.children().values())
    buses = buses_of(children)
    world.service.signal(signal.SIGKILL)
    nothing_left(world, children, buses)
    world.service.start().ready()
