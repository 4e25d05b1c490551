"""An attack, and the registry of all attacks.

    @attack(name="silent", title="connects and says nothing", who=ANYBODY,
            answer="closed after the handshake's time", needs=("limits.pending_per_address",))
    def silent(target: Target) -> None:
        Held(target, 2_500, lambda number: b"", rate=1_000).run()

The function runs in the attacker's process until `target.going` is false. Stage judges it by the
honest clients beside it, and by its bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from bench.attacks.target import Target

ANYBODY: Final = "anybody"
ONE_SUBJECT: Final = "one token"
SUBJECTS: Final = "many tokens"
ADMIN: Final = "who reaches the admin port"

Run = Callable[[Target], None]


@dataclass(frozen=True, slots=True)
class Bound:
    """What the attacker may count at most; where: only in a service that knows this key."""

    counter: str
    at_most: int
    where: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One attack.

    title: what the attacker does. who: whom it takes. answer: what the service does about it,
    written before any measurement.
    config: sections of the service's configuration that differ from the harness's; keys that a
    working tree does not know are left out. needs: keys without which a working tree cannot be
    attacked this way. door: a path that it must have.
    tls: the service has a certificate. descriptors: the limit of each of its processes.
    frames: how many frames the worker keeps. records: how many the log has before the attack; if
    more than `frames`, a client also resumes from the log.
    memory_mib: by how much the worker may grow during the attack.
    revokes: how the operator takes back the attacker's tokens after the first window: "secret", by
    removing the one that signed them, or "subject", by the deny list.
    lasts: it goes on for at least this many seconds, for what takes its time.
    each: the counter of what the worker's CPU time is divided by, for a price.
    comparison: allowed, and in the table only to compare with; not judged.
    """

    name: str
    title: str
    who: str
    answer: str
    run: Run
    config: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    door: str = ""
    tls: bool = False
    descriptors: int | None = None
    frames: int = 300
    records: int = 300
    bounds: tuple[Bound, ...] = ()
    memory_mib: float = 64.0
    revokes: str = ""
    lasts: float = 0.0
    each: str = ""
    comparison: bool = False


ATTACKS: Final[dict[str, Attack]] = {}
_Run = TypeVar("_Run", bound=Run)


def attack(**about: Any) -> Callable[[_Run], _Run]:
    """Register a function as an attack; the arguments are Attack's fields."""

    def register(run: _Run) -> _Run:
        made = Attack(run=run, **about)
        if made.name in ATTACKS:
            raise ValueError(f"there are two attacks named {made.name}")
        ATTACKS[made.name] = made
        return run

    return register
