"""Workers and services ended by signals and restarted: one by one, together, or while starting."""

from __future__ import annotations

import random
import signal
import time
from typing import Final

from bench.faults.classes.process import buses_of, nothing_left
from bench.faults.fault import fault
from bench.faults.strangers import Newcomers
from bench.faults.world import World

# The number of clients that start from the first record, and the minimum number of records then.
_REPLAYS: Final = 10
_REPLAYED: Final = 2_000


@fault(
    number=24,
    name="rolling-restart",
    title="every worker terminated in turn (SIGTERM), while clients come and go",
    expected="its clients get `reconnect` and resume; no connection attempt fails",
)
def rolling_restart(world: World, rng: random.Random) -> None:
    workers = world.workers
    rng.shuffle(workers)
    with Newcomers(world.service.port, trust=world.trust) as newcomers:
        for name in workers:
            worker = world.service.child(name)
            worker.terminate()
            world.gone(worker)
            world.service.ready()
            world.pause(rng, 0.3)
    statuses = newcomers.statuses
    world.note("clients accepted", statuses.get(101, 0))
    world.note("clients answered with 503", statuses.get(503, 0))
    world.expect(statuses.get(0, 0) == 0, f"{statuses.get(0)} connections failed")
    unexpected = statuses.keys() - {0, 101, 503}
    world.expect(not unexpected, f"answers {unexpected}")


@fault(
    number=25,
    name="full-restart",
    title="the whole service restarted (SIGTERM), with 600 clients",
    expected="all get `reconnect`, all come back together, all resume",
    clients=600,
    rate=5,
)
def full_restart(world: World, rng: random.Random) -> None:
    code = world.service.stop()
    world.expect(code == 0, f"exit code {code}")
    world.service.start().ready()


@fault(
    number=26,
    name="sigterm-in-replay",
    title="a worker terminated (SIGTERM) while clients are in the middle of a long replay",
    expected="a client whose replay was cut off resumes from there",
    clients=40,
)
def sigterm_in_replay(world: World, rng: random.Random) -> None:
    if (lacking := _REPLAYED - world.producer.written) > 0:
        world.producer.burst(lacking)
        world.clients_live()
    world.crowd.renew(rng.sample(range(world.crowd.clients), _REPLAYS))
    world.pause(rng, 0.4)
    world.service.child(rng.choice(world.workers)).terminate()


@fault(
    number=27,
    name="second-signal",
    title="SIGTERM, then another SIGTERM, SIGINT or SIGQUIT, or a SIGQUIT alone",
    expected="it ends immediately with exit code 0 and leaves nothing behind; a new start works",
    config={"server": {"drain_seconds": 30}},
)
def second_signal(world: World, rng: random.Random) -> None:
    children = list(world.service.children().values())
    buses = buses_of(children)
    if rng.random() < 0.75:
        world.service.signal(signal.SIGTERM)
        world.pause(rng, 0.3)
        world.service.signal(rng.choice((signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)))
    else:
        world.service.signal(signal.SIGQUIT)
    began = time.monotonic()
    code = world.service.wait(5)
    world.note("until it ended, s", time.monotonic() - began)
    world.expect(code == 0, f"exit code {code}")
    nothing_left(world, children, buses)
    world.expect(not any(bus.exists() for bus in buses), "the bus's directory is left behind")
    world.service.start().ready()


@fault(
    number=27,
    name="hang-up",
    title="SIGHUP: reload the configuration",
    expected="it reloads, and no client notices",
)
def hang_up(world: World, rng: random.Random) -> None:
    logged = len(world.service.lines)
    world.service.signal(signal.SIGHUP)
    world.wait(lambda: world.service.logged("reloaded", since=logged), "it reloads")


@fault(
    number=27,
    name="early-sigterm",
    title="SIGTERM at a random moment during startup",
    expected="it ends, with exit code 0 once signals are handled, and leaves nothing behind",
)
def early_sigterm(world: World, rng: random.Random) -> None:
    world.service.stop()
    world.service.start()
    world.pause(rng, 1.2)
    children = list(world.service.children().values())
    buses = buses_of(children)
    handled = bool(children)
    world.service.signal(signal.SIGTERM)
    code = world.service.wait(20)
    world.expect(code == 0 or (not handled and code == -signal.SIGTERM), f"exit code {code}")
    nothing_left(world, children, buses)
    world.service.start().ready()


@fault(
    number=27,
    name="scale",
    title="restarted with another number of workers, from one to four",
    expected="clients spread over the new workers, and resume",
)
def scale(world: World, rng: random.Random) -> None:
    world.service.stop()
    world.service.config["server"]["workers"] = rng.choice(
        [count for count in range(1, 5) if count != world.service.worker_count]
    )
    world.service.start().ready()
