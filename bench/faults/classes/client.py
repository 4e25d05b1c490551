"""Clients that abort, connect in crowds, do not read, or resume at the live edge."""

from __future__ import annotations

import contextlib
import random
import socket
from typing import Final

from bench.faults.fault import fault
from bench.faults.strangers import connect, ended, request, reset, status, subscribed
from bench.faults.world import World

_STRANGERS: Final = 20
_STORM: Final = 300
# The limit of worker memory per client that does not read.
_BYTES_PER_IDLER: Final = 1 << 20


@fault(
    number=28,
    name="half-closed",
    plain_only=True,
    title="clients shut down their sending side and keep reading",
    expected="the service ends these connections; no other client notices",
)
def half_closed(world: World, rng: random.Random) -> None:
    before = world.connections()
    with contextlib.ExitStack() as stack:
        strangers = [
            stack.enter_context(subscribed(world.service.port, events=number % 2 == 1))
            for number in range(_STRANGERS)
        ]
        for one in strangers:
            one.shutdown(socket.SHUT_WR)
        gone = ended(strangers, 5.0)
        world.expect(gone == _STRANGERS, f"only {gone} of {_STRANGERS} were closed")
    world.wait(lambda: world.connections() <= before, "their connections are gone", 10)


@fault(
    number=30,
    name="reset-storm",
    plain_only=True,
    title="300 clients connect and reset immediately, at every stage of the handshake",
    expected="they leave nothing behind; no other client notices",
)
def reset_storm(world: World, rng: random.Random) -> None:
    before = world.connections()
    for _ in range(_STORM):
        stranger = connect(world.service.port)
        whole = request(events=rng.random() < 0.5)
        match rng.randrange(5):
            case 0:
                stranger.close()
                continue
            case 1:
                stranger.sendall(whole[: rng.randrange(1, len(whole))])
            case 2:
                stranger.sendall(whole)
            case 3:
                stranger.sendall(whole)
                status(stranger)
        reset(stranger)
    world.wait(lambda: world.connections() <= before, "their connections are gone", 10)


@fault(
    number=31,
    name="live-edge",
    title="half of the clients disconnect and resume, three times, at 100 records a second",
    expected="the replay ends exactly where live delivery begins",
    rate=100,
    clients=60,
)
def live_edge(world: World, rng: random.Random) -> None:
    for _ in range(3):
        world.crowd.bounce(rng.sample(range(world.crowd.clients), world.crowd.clients // 2))
        world.pause(rng, 0.3)


@fault(
    number=4,
    name="full-accept-queue",
    title="a worker stopped while more clients connect than its accept queue holds (backlog 8)",
    expected="waiting clients are served once it continues; its own clients get everything",
    config={"server": {"backlog": 8}},
    stays_connected=True,
)
def full_accept_queue(world: World, rng: random.Random) -> None:
    worker = world.service.child(rng.choice(world.workers))
    with contextlib.ExitStack() as stack:
        worker.suspend()
        try:
            waiting = []
            for _ in range(100):
                one = stack.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", world.service.port))
                waiting.append(one)
            world.pause(rng, 0.6)
        finally:
            worker.resume()


@fault(
    number=28,
    name="never-reading",
    plain_only=True,
    title="20 clients subscribe and read nothing, while many records are written",
    expected="they cost a bounded amount of memory; no other client notices",
    record_bytes=4_000,
    clients=30,
    stays_connected=True,
)
def never_reading(world: World, rng: random.Random) -> None:
    workers = [world.service.child(name) for name in world.workers]
    before = sum(worker.memory_info().rss for worker in workers)
    with contextlib.ExitStack() as stack:
        for number in range(_STRANGERS):
            stack.enter_context(
                subscribed(world.service.port, receive_buffer=4096, events=number % 2 == 1)
            )
        world.producer.burst(300)
        world.clients_live()
        grown = sum(worker.memory_info().rss for worker in workers) - before
    world.note("memory per idle client, bytes", grown / _STRANGERS)
    world.expect(grown < _STRANGERS * _BYTES_PER_IDLER, f"the workers grew by {grown} bytes")
