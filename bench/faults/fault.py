"""A class of faults, and the list of all of them.

    @fault(number=3, name="worker-kill", title="worker killed with SIGKILL",
           expected="its clients reconnect to the others and resume; nothing lost or repeated")
    def worker_kill(world: World, rng: random.Random) -> None:
        world.service.children()["worker-0"].kill()

An injection returns as soon as its part of the fault is over. World.inject then judges whether
every client gets everything, and how long that takes. What a class expects beyond that, it says
with `world.expect` and `world.wait`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from bench.faults.verdict import Losses

BROKERS: Final = frozenset({"embedded", "kafka"})


class Inject(Protocol):
    """world: a World; not named here, since a World has a Fault."""

    def __call__(self, world: Any, rng: random.Random) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One class of faults.

    number: its row in the list of fault classes; several classes may be variants of one row.
    expected: what the service promises, written before anything was measured; for the table.
    config: sections of the service's configuration that differ from the harness's (World.CONFIG).
    environment: more variables for the service; {directory} is the World's own.
    rate: records a second, where the class needs another rate than the run's.
    record_bytes: about the size of a record's value.
    clients: the number of checking clients, where the class needs another one than the run's.
    bound_seconds: the time that clients may take to have everything after an injection.
    own_broker: the broker cannot be used by another class afterwards.
    log_bytes_per_second: what all processes together may log, except for connects and disconnects.
    stays_connected: no client may lose its connection.
    issuer: tokens come from an issuer whose keys the service fetches (World.issuer).
    tracebacks: unforeseen exceptions may be in the log.
    needs: what this machine lacks for the class, or None.
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
    stays_connected: bool = False
    issuer: bool = False
    tracebacks: bool = False
    needs: Callable[[], str | None] = lambda: None


FAULTS: Final[dict[str, Fault]] = {}
_Inject = TypeVar("_Inject", bound=Inject)


def fault(**about: Any) -> Callable[[_Inject], _Inject]:
    """Register a function as the injection of a class; the arguments are Fault's fields."""

    def register(inject: _Inject) -> _Inject:
        made = Fault(inject=inject, **about)
        if made.name in FAULTS:
            raise ValueError(f"there are two faults named {made.name}")
        FAULTS[made.name] = made
        return inject

    return register
