"""Half an hour or more of normal operation: does memory grow, does a client lose a record?

    python -m bench.soak --minutes 30 --clients 300 --rate 20

Each second a client drops its connection and resumes, and every few seconds one leaves and another
starts from the first record. Every minute a worker is killed, but never the last one, so that its
memory can be observed. Every client is checked, as in bench.faults. Exits with status 1 if a client
lost a record or got one twice or out of order.
"""

from __future__ import annotations

import os
import random
import sys
import time
from typing import Any, Final

from bench.faults.brokers import open_broker
from bench.faults.fault import Fault
from bench.faults.verdict import Outcome
from bench.faults.world import World
from bench.kit.results import arguments, save

WORKERS: Final = 3
NEWCOMER_SECONDS: Final = 5.0
_ALWAYS_THERE: Final = ("supervisor", "consumer", f"worker-{WORKERS - 1}")


def sample(world: World) -> dict[str, dict[str, float]]:
    found = {}
    for name, process in world.service.processes().items():
        with process.oneshot():
            found[name] = {
                "pid": process.pid,
                "rss_mib": round(process.memory_info().rss / 2**20, 1),
                "descriptors": process.num_fds(),
                "threads": process.num_threads(),
            }
    return found


def live(world: World, rng: random.Random, seconds: float) -> None:
    """Let clients come and go for `seconds`."""
    until = time.monotonic() + seconds
    newcomer = time.monotonic() + NEWCOMER_SECONDS
    while time.monotonic() < until:
        world.crowd.bounce([rng.randrange(world.crowd.clients)])
        if time.monotonic() >= newcomer:
            world.crowd.renew([rng.randrange(world.crowd.clients)])
            newcomer += NEWCOMER_SECONDS
        time.sleep(min(1.0, max(0.0, until - time.monotonic())))


def growth(samples: list[tuple[float, dict[str, dict[str, float]]]], name: str) -> float:
    """The growth of a process's memory over the second half, by least squares, in MiB an hour."""
    half = samples[len(samples) // 2 :]
    points = [(at / 3600, seen[name]["rss_mib"]) for at, seen in half]
    x0 = sum(x for x, _ in points) / len(points)
    y0 = sum(y for _, y in points) / len(points)
    spread = sum((x - x0) ** 2 for x, _ in points)
    return sum((x - x0) * (y - y0) for x, y in points) / spread if spread else float("nan")


def main() -> int:
    parser = arguments(__doc__, prog="python -m bench.soak", minutes=30.0, clients=300, rate=20.0)
    parser.add_argument("--kill-every", type=float, default=60, metavar="SECONDS")
    parser.add_argument("--broker", choices=["embedded", "kafka"], default="embedded")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parser.parse_args()
    rng = random.Random(options.seed)

    def one_round(world: World, rng: random.Random) -> None:
        victim = world.service.child(rng.choice(world.workers[:-1]))
        live(world, rng, options.kill_every / 2)
        victim.kill()
        world.gone(victim)
        live(world, rng, options.kill_every / 2)

    about = Fault(
        number=0,
        name="soak",
        title="normal operation",
        expected="no memory grows, no client loses a record",
        inject=one_round,
        config={"server": {"workers": WORKERS}},
        bound_seconds=120,
    )
    samples: list[tuple[float, dict[str, dict[str, float]]]] = []
    outcomes: list[Outcome] = []
    kills = 0
    print(f"seed {options.seed}")
    name = f"soak-{os.getpid()}"
    with (
        open_broker(options.broker) as broker,
        World(about, broker, clients=options.clients, rate=options.rate, name=name) as world,
    ):
        began = time.monotonic()
        while (at := time.monotonic() - began) < options.minutes * 60:
            samples.append((at, sample(world)))
            outcomes.append(world.inject(rng, kills))
            kills += 1
            line = ", ".join(f"{n} {s['rss_mib']:.0f}" for n, s in samples[-1][1].items())
            last = outcomes[-1]
            print(f"{at / 60:5.1f} min  RSS MiB: {line}; {last.frames} frames; {last.problems}")
        samples.append((time.monotonic() - began, sample(world)))
        outcomes.append(world.settle())
        seen = world.crowd.report()
    results: dict[str, Any] = {
        "seed": options.seed,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "clients": options.clients,
        "records_a_second": options.rate,
        "workers_killed": kills,
        "connections": seen["connects"],
        "frames_checked": seen["frames"],
        **{
            key: sum(getattr(outcome, key) for outcome in outcomes)
            for key in ("gaps", "duplicates", "reorderings", "corrupt", "reported")
        },
        "problems": [problem for outcome in outcomes for problem in outcome.problems],
        "start": samples[0][1],
        "end": samples[-1][1],
        "growth_mib_an_hour": {one: round(growth(samples, one), 2) for one in _ALWAYS_THERE},
        "samples": samples,
    }
    for key, value in results.items():
        if key != "samples":
            print(f"{key:20} {value}")
    save(options.out, results)
    return 1 if results["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
