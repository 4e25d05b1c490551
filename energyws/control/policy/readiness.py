"""Whether the service can do its work, and if not, why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from energyws.process import stalls
from energyws.process.board import State
from energyws.process.stalls import Stall

DRAINING: Final = "draining"
NO_CONSUMER: Final = "the consumer is not running"
NO_BROKER: Final = "the broker is not reachable"
NOT_READ_BACK: Final = "the consumer has not read all topics back yet"
NO_WORKER: Final = "no worker is ready"
NO_KEYS: Final = "no issuer's keys have been fetched yet"

NO_ROOM: Final = "no worker has a file descriptor left for another client"
UNLISTED: Final = "more partitions wait than can be listed"

# What may be said of a stream or a partition comes after its name.
REASONS: Final = (
    DRAINING,
    NO_CONSUMER,
    NO_BROKER,
    NOT_READ_BACK,
    NO_WORKER,
    NO_KEYS,
    NO_ROOM,
    UNLISTED,
    *stalls.WORDS.values(),
)

# A worker at its limit lets somebody in whenever somebody leaves; one that has let nobody in for so
# long will not soon.
FULL_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class ChildHealth:
    """One child that has not ended. doomed: it hung or was overdue, and is being killed.

    stalls: what a consumer lists as not readable; unlisted_stalls: how much it has no room for.
    keyless: a worker that has no key of any issuer yet, and so can check no token.
    full_seconds: how long it has accepted nobody because its descriptors have run out.
    """

    is_worker: bool
    state: State
    broker_up: bool
    doomed: bool = False
    stalls: Sequence[tuple[str, int, Stall]] = ()
    unlisted_stalls: int = 0
    keyless: bool = False
    connections: int = 0
    full_seconds: float = 0.0

    @property
    def has_room(self) -> bool:
        """Whether it accepts a client, or will when one leaves: without clients none will."""
        return self.full_seconds <= (FULL_SECONDS if self.connections else 0.0)

    @property
    def works(self) -> bool:
        """Whether it does its work."""
        return self.state is State.READY and not self.doomed and not self.keyless


def unready(draining: bool, children: Sequence[ChildHealth]) -> list[str]:
    """Why nobody new should be sent here; empty: all is well."""
    reasons = [DRAINING] if draining else []
    consumers = [child for child in children if not child.is_worker]
    if not any(not child.doomed for child in consumers):
        reasons.append(NO_CONSUMER)
    elif not any(child.broker_up for child in consumers):
        reasons.append(NO_BROKER)
    else:
        reasons += _unread([child for child in consumers if not child.doomed])
    workers = [child for child in children if child.is_worker]
    working = [child for child in workers if child.works]
    if not working:
        keyless = any(child.keyless and not child.doomed for child in workers)
        reasons.append(NO_KEYS if keyless else NO_WORKER)
    elif not any(child.has_room for child in working):
        reasons.append(NO_ROOM)
    return reasons


def _unread(consumers: Sequence[ChildHealth]) -> list[str]:
    # While one replaces another: what is said of the one whose records clients get.
    serving = [child for child in consumers if child.works]
    reasons = [] if serving else [NOT_READ_BACK]
    for child in serving or consumers:
        reasons += [each for each in stalls.reasons(child.stalls) if each not in reasons]
        if child.unlisted_stalls and UNLISTED not in reasons:
            reasons.append(UNLISTED)
    return reasons
