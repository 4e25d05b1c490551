"""The number of workers, by the cost of a delivery and by measurements of each number.

`estimate` is the formula of docs/sizing.md, for a load that has not been measured; `advise` is the
rule of bench.tune, with its reasons. `disagreements` compares the two.

A worker is one thread, so it can use one core; the cores are shared by workers, consumer and, in a
measurement on one machine, broker and clients. Each unnecessary worker costs memory, and receives
every record over the bus.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Share of one core for the busiest worker; the rest is for reconnecting clients and bursts.
BUSIEST_SHARE: Final = 0.6
# Share of all cores; beyond this, delays come from waiting for a core.
MACHINE_SHARE: Final = 0.9
# Share of one core for a load generator; beyond this, the generator itself is slow.
GENERATOR_SHARE: Final = 0.85
# With fewer workers, p99 may be above the best one by this factor or this difference.
P99_FACTOR: Final = 1.25
P99_SLACK_MS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Trial:
    """The figures of one number of workers. Shares are of one core; machine: of all cores.

    exact: no client lost a frame or its connection.
    """

    workers: int
    busiest_share: float
    generator_share: float
    machine_share: float
    p99_ms: float
    exact: bool


@dataclass(frozen=True, slots=True)
class Advice:
    """workers: None where none can be recommended. warnings: why the figures may mislead."""

    workers: int | None
    reason: str
    warnings: tuple[str, ...] = ()


def cores_used(deliveries_per_second: float, us_per_delivery: float) -> float:
    """The cores that all workers use together."""
    return deliveries_per_second * us_per_delivery / 1e6


def estimate(deliveries_per_second: float, us_per_delivery: float) -> int:
    """The fewest workers such that none uses more than BUSIEST_SHARE of a core."""
    return max(1, math.ceil(cores_used(deliveries_per_second, us_per_delivery) / BUSIEST_SHARE))


def disagreements(
    deliveries_per_second: float,
    us_per_delivery: float,
    trials: Sequence[Trial],
    advised: int | None,
) -> list[str]:
    """Where the formula and trials of the same load disagree.

    The formula considers only CPU time, so it is compared with the fewest workers that leave
    headroom. A shorter p99 may justify more workers.
    """
    estimated = estimate(deliveries_per_second, us_per_delivery)
    cool = [t.workers for t in trials if t.exact and t.busiest_share <= BUSIEST_SHARE]
    if not cool:
        most = max(trial.workers for trial in trials)
        if estimated > most:
            return []
        return [f"the formula gives {estimated}, but no number up to {most} left headroom"]
    found = []
    if estimated != min(cool):
        found.append(f"the formula gives {estimated}, but {min(cool)} left headroom when measured")
    if advised is not None and advised < estimated:
        found.append(f"the formula gives {estimated}, but {advised} was recommended")
    return found


def advise(trials: Sequence[Trial], *, p99_limit_ms: float) -> Advice:
    """The fewest workers that leave headroom and have a p99 close to the best one.

    Raises ValueError if there are no trials.
    """
    if not trials:
        raise ValueError("there are no trials")
    warnings = _warnings(trials)
    sound = [trial for trial in trials if trial.exact]
    if not sound:
        return Advice(
            None, "clients lost frames or connections with every number of workers", warnings
        )
    good = [
        trial
        for trial in sound
        if trial.busiest_share <= BUSIEST_SHARE and trial.p99_ms <= p99_limit_ms
    ]
    if not good:
        return _none_good(sound, p99_limit_ms, warnings)
    best = min(trial.p99_ms for trial in good)
    bound = max(best * P99_FACTOR, best + P99_SLACK_MS)
    chosen = min((t for t in good if t.p99_ms <= bound), key=lambda trial: trial.workers)
    reason = (
        f"the busiest worker uses {chosen.busiest_share:.0%} of a core (at most "
        f"{BUSIEST_SHARE:.0%} leaves room for bursts) and p99 is {chosen.p99_ms:.1f} ms"
    )
    fewer = [trial for trial in trials if trial.workers < chosen.workers]
    if fewer:
        nearest = max(fewer, key=lambda trial: trial.workers)
        reason += f"; with {nearest.workers} {_why_not(nearest, p99_limit_ms, bound)}"
    more = [trial for trial in good if trial.workers > chosen.workers]
    if more:
        reason += f"; more workers bring p99 to {min(t.p99_ms for t in more):.1f} ms at best"
    return Advice(chosen.workers, reason, warnings)


def _none_good(sound: Sequence[Trial], p99_limit_ms: float, warnings: tuple[str, ...]) -> Advice:
    cooler = [trial for trial in sound if trial.busiest_share <= BUSIEST_SHARE]
    if not cooler:
        least = min(sound, key=lambda trial: trial.busiest_share)
        reason = (
            f"even with {least.workers} the busiest worker uses {least.busiest_share:.0%} of a "
            f"core, more than {BUSIEST_SHARE:.0%}: add cores, or another replica"
        )
        return Advice(None, reason, warnings)
    quickest = min(cooler, key=lambda trial: trial.p99_ms)
    reason = (
        f"p99 is {quickest.p99_ms:.1f} ms at best, with {quickest.workers}, above the limit of "
        f"{p99_limit_ms:g} ms"
    )
    return Advice(None, reason, warnings)


def _why_not(trial: Trial, p99_limit_ms: float, bound: float) -> str:
    if not trial.exact:
        return "clients lost frames or connections"
    if trial.busiest_share > BUSIEST_SHARE:
        return f"it would be {trial.busiest_share:.0%} of a core"
    limit = "above the limit" if trial.p99_ms > p99_limit_ms else f"above {bound:.1f} ms"
    return f"p99 would be {trial.p99_ms:.1f} ms, {limit}"


def _warnings(trials: Sequence[Trial]) -> tuple[str, ...]:
    found = []
    slow = [str(t.workers) for t in trials if t.generator_share > GENERATOR_SHARE]
    if slow:
        found.append(
            f"a load generator was short of CPU time (workers: {', '.join(slow)}): those delays "
            "are its own; use fewer clients or a lower rate"
        )
    busy = [str(t.workers) for t in trials if t.machine_share > MACHINE_SHARE]
    if busy:
        found.append(
            f"all cores were busy (workers: {', '.join(busy)}), partly with the clients: "
            "delays come from waiting for a core"
        )
    return tuple(found)
