"""Faults of the bus between consumer and workers: overflow, late joiners, a stolen address."""

from __future__ import annotations

import random
import shutil
import signal
import time
from typing import Final

import zmq

from bench.faults.classes.process import buses_of, connects_of
from bench.faults.fault import fault
from bench.faults.service import BreakableService, free_port
from bench.faults.world import World
from energyws.stream.bus_messages import HEARTBEAT, BusMessage, pack, pack_heads

# More records than the bus holds for a stopped worker.
_OVERFLOW: Final = 600


@fault(
    number=16,
    name="hwm-overflow",
    title="a worker stopped while more is published than the bus holds (watermark 10)",
    expected="the worker notices the gap and fetches what it missed; no client reconnects",
    config={"bus": {"high_watermark_frames": 10}},
    record_bytes=2000,
    clients=40,
    stays_connected=True,
)
def hwm_overflow(world: World, rng: random.Random) -> None:
    name = rng.choice(world.workers)
    worker = world.service.child(name)
    resyncs = world.service.board(name)["resyncs"]
    published = world.service.board("consumer")["frames"] + _OVERFLOW
    worker.suspend()
    try:
        # More than both watermarks and the kernel's socket buffers hold.
        world.producer.burst(_OVERFLOW)
        world.wait(
            lambda: world.service.board("consumer")["frames"] >= published, "all is published"
        )
        world.pause(rng, 0.2)
    finally:
        worker.resume()
    world.clients_live()
    more = world.service.board(name)["resyncs"] - resyncs
    world.expect(more > 0, "the bus did not overflow, so this run tested nothing")
    world.note("synchronisations", more)


@fault(
    number=17,
    name="slow-joiner",
    title="a worker killed repeatedly while it starts, under traffic",
    expected="it accepts no client before it has caught up, so every client gets everything",
    rate=100,
    clients=60,
)
def slow_joiner(world: World, rng: random.Random) -> None:
    name = rng.choice(world.workers)
    for _ in range(3):
        world.kill(name)
        # A worker takes about half a second from its start until it is ready.
        world.pause(rng, 0.6)
    world.service.ready()


@fault(
    number=18,
    name="stale-publisher",
    title="a second service with the same topic, group and bus directory",
    expected="each service has its own bus; no client gets frames of the other one",
)
def stale_publisher(world: World, rng: random.Random) -> None:
    connects = connects_of(world)
    config = {
        **world.service.config,
        "server": {**world.service.config["server"], "port": free_port(), "workers": 1},
        "admin": {"port": free_port()},
    }
    with BreakableService(world.directory / "second", config) as second:
        second.ready()
        world.pause(rng, 0.3)
        world.kill(rng.choice(world.workers))
        world.service.ready()
        second.signal(rng.choice((signal.SIGTERM, signal.SIGKILL)))
        second.wait()
    world.note("reconnects", connects_of(world) - connects)
    world.kill("consumer")


@fault(
    number=18,
    name="bus-stolen",
    title="another process binds the bus's socket (as ipc allows) and publishes other frames",
    expected="the consumer notices and is replaced, with a bus that workers can find",
    bound_seconds=15,
)
def bus_stolen(world: World, rng: random.Random) -> None:
    (bus,) = buses_of(list(world.service.children().values()))
    # Of another run, far ahead of the workers.
    beat = BusMessage(HEARTBEAT, 0, 0, rng.getrandbits(62), 1_000_000, 0, 0, pack_heads({}))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    stranger = context.socket(zmq.PUB)
    try:
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.bind(f"ipc://{bus / 'current' / 'frames'}")
        world.kill(rng.choice(world.workers))
        until = time.monotonic() + rng.uniform(0.5, 1.5)
        while time.monotonic() < until:
            stranger.send(pack(beat))
            time.sleep(0.02)
    finally:
        # This also removes the path, even if the consumer owns it by now.
        stranger.close()
        context.term()
    # The consumer checks its sockets every second.
    time.sleep(1.2)
    world.service.ready(15)


@fault(
    number=33,
    name="bus-removed",
    title="the bus's directory removed while the service runs, then a worker killed",
    expected="the consumer notices and is replaced, with a bus that workers can find",
    bound_seconds=15,
)
def bus_removed(world: World, rng: random.Random) -> None:
    for bus in buses_of(list(world.service.children().values())):
        shutil.rmtree(bus)
    world.pause(rng, 0.3)
    world.kill(rng.choice(world.workers))
    world.service.ready(15)
