"""Whether the service can do its work, and if not, why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from energyws.board import State

DRAINING: Final = "draining"
NO_CONSUMER: Final = "the consumer is not running"
NO_BROKER: Final = "the broker is not reachable"
NOT_READ_BACK: Final = "the consumer has not read all topics back yet"
NO_WORKER: Final = "no worker is ready"
NO_KEYS: Final = "no issuer's keys have been fetched yet"

NO_ROOM: Final = "no worker has a file descriptor left for another client"

REASONS: Final = (
    DRAINING,
    NO_CONSUMER,
    NO_BROKER,
    NOT_READ_BACK,
    NO_WORKER,
    NO_KEYS,
    NO_ROOM,
)

# A worker at its limit lets somebody in whenever somebody leaves; one that has let nobody in for so
# long will not soon.
FULL_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Sight:
    """One child that has not ended. doomed: it hung or was overdue, and is being killed.

    keyless: a worker that has no key of any issuer yet, and so can check no token.
    full_seconds: how long it has accepted nobody because its descriptors have run out.
    """

    is_worker: bool
    state: State
    broker_up: bool
    doomed: bool = False
    keyless: bool = False
    connections: int = 0
    full_seconds: float = 0.0

    @property
    def has_room(self) -> bool:
        """Whether it lets somebody in, or may soon: who has no client can wait for none to go."""
        return self.full_seconds <= (FULL_SECONDS if self.connections else 0.0)

    @property
    def works(self) -> bool:
        """Whether it does its work."""
        return self.state is State.READY and not self.doomed and not self.keyless


def unready(draining: bool, children: Sequence[Sight]) -> list[str]:
    """Why nobody new should be sent here; empty: all is well."""
    reasons = [DRAINING] if draining else []
    consumers = [child for child in children if not child.is_worker]
    if not any(not child.doomed for child in consumers):
        reasons.append(NO_CONSUMER)
    elif not any(child.broker_up for child in consumers):
        reasons.append(NO_BROKER)
    elif not any(child.works for child in consumers):
        reasons.append(NOT_READ_BACK)
    workers = [child for child in children if child.is_worker]
    working = [child for child in workers if child.works]
    if not working:
        keyless = any(child.keyless and not child.doomed for child in workers)
        reasons.append(NO_KEYS if keyless else NO_WORKER)
    elif not any(child.has_room for child in working):
        reasons.append(NO_ROOM)
    return reasons
