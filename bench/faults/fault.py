"""A class of faults, and the registry of all classes.

    @fault(number=3, name="worker-kill", title="worker killed with SIGKILL",
           expected="its clients reconnect to the others and resume; nothing lost or repeated")
    def worker_kill(world: World, rng: random.Random) -> None:
        world.service.children()["worker-0"].kill()

An injection returns as soon as its part of the fault is over. World.inject then checks that every
client gets everything, and measures how long that takes. A class states further expectations with
`world.expect` and `world.wait`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

from bench.faults.verdict import Losses

BROKERS: Final = frozenset({"embedded", "kafka"})


class Inject(Protocol):
    """world: a World; untyped, since World imports Fault."""

    def __call__(self, world: Any, rng: random.Random) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One class of faults.

    number: its row in the list of fault classes; variants of a fault share a number.
    expected: what the service promises, written before any measurement; shown in the table.
    config: sections of the service's configuration that differ from configuration.CONFIG.
    environment: additional variables for the service; {directory} is the World's directory.
    rate: records a second; None: the run's.
    record_bytes: approximate size of a record's value.
    clients: the number of checking clients; None: the run's.
    bound_seconds: how long clients may take to get everything after an injection.
    own_broker: no other class can use the broker afterwards.
    log_bytes_per_second: the limit for all processes together, not counting connects and
        disconnects.
    stays_connected: no client may lose its connection.
    issuer: tokens come from an issuer whose keys the service fetches (World.issuer).
    tracebacks: the log may contain unexpected exceptions.
    plain_only: it has clients on bare sockets, which do not speak TLS.
    needs: returns what this machine lacks for the class, or None.
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
    plain_only: bool = False
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
