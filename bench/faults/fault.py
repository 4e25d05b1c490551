"""What a fault class is, and the list of all of them.

    @fault(number=3, name="worker-kill", title="worker killed with SIGKILL",
           expected="its clients reconnect to the others and resume; nothing lost or repeated")
    def worker_kill(world: World, rng: random.Random) -> None:
        world.service.children()["worker-0"].kill()

An injection returns as soon as the fault is over as far as it is concerned; that every client then
gets everything, and how long that took, is judged by World.inject. What a class expects beyond
that, it says with `world.expect` and `world.wait`.

process_faults and broker_faults have the classes; brokers.open_broker(kind) is a context manager
that gives a world.Broker.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from bench.faults.world import World

Inject = Callable[["World", random.Random], None]
BROKERS: Final = frozenset({"embedded", "kafka"})


class Skip(Exception):
    """Raised by an injection, or said by `needs`: what this machine lacks for the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Which Gaps clients may be told of; the default is none at all.

    reasons: any other reason is a failure. Also with a reason that is allowed, exactly the numbers
    that World.removed was told of may be missing, and only where the Gap stood.
    counted: the Gap's `missed`, where it is a number, must be the number of missing records; False
    where the log holds records that never become frames.
    """

    reasons: frozenset[str] = frozenset()
    counted: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault class.

    number: its row in the list of fault classes; several classes may be variants of one row.
    expected: what the service promises, written before anything was measured; for the table.
    config: sections of the service's configuration that differ from the harness's (World.CONFIG).
    environment: variables that the service gets on top; {directory} is the World's own.
    rate: records a second, where the class needs another rate than the run's.
    record_bytes: about the size of a record's value.
    clients: how many checking clients, where the class cannot do with the run's number.
    bound_seconds: how long clients may take to have everything after an injection.
    own_broker: the class leaves a broker behind that no other class should be given.
    log_bytes_per_second: what all processes together may log, connects and disconnects apart.
    issuer: tokens come from an issuer whose keys the service fetches (World.issuer).
    tracebacks: whether exceptions that nobody foresaw may show in the log.
    needs: says what this machine lacks for the class, or None.
    """

    number: int
    name: str
    title: str
    expected: str
    inject: Inject
    brokers: frozenset[str] = BROKERS
    losses: Losses = field(default_factory=Losses)
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    rate: float | None = None
    record_bytes: int = 250
    clients: int | None = None
    bound_seconds: float = 30.0
    own_broker: bool = False
    log_bytes_per_second: float = 20_000
    issuer: bool = False
    tracebacks: bool = False
    needs: Callable[[], str | None] = lambda: None


FAULTS: Final[dict[str, Fault]] = {}


def fault(**about: Any) -> Callable[[Inject], Inject]:
    """Register a function as the injection of a class; the arguments are Fault's fields."""

    def register(inject: Inject) -> Inject:
        made = Fault(inject=inject, **about)
        if made.name in FAULTS:
            raise ValueError(f"there are two faults named {made.name}")
        FAULTS[made.name] = made
        return inject

    return register
