"""Whether the service can do its work, and if not, why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from energyws.process import stalls
from energyws.process.board import Keyless, State
from energyws.process.stalls import Stall

DRAINING: Final = "draining"
NO_CONSUMER: Final = "the consumer is not running"
NO_BROKER: Final = "the broker is not reachable"
NOT_READ_BACK: Final = "the consumer has not read all topics back yet"
NO_WORKER: Final = "no worker is ready"
NO_KEYS: Final = "no issuer's keys have been fetched yet"
OLD_KEYS: Final = "the issuers' keys are too old and cannot be fetched"

NO_ROOM: Final = "no worker has a file descriptor left for another client"
DISPUTED: Final = "workers and consumer take the keys of a stream from different places"
UNLISTED: Final = "more partitions wait than can be listed"

# The reasons in stalls.WORDS come after the name of a stream or partition.
REASONS: Final = (
    DRAINING,
    NO_CONSUMER,
    NO_BROKER,
    NOT_READ_BACK,
    NO_WORKER,
    NO_KEYS,
    OLD_KEYS,
    NO_ROOM,
    DISPUTED,
    UNLISTED,
    *stalls.WORDS.values(),
)

# A worker at its descriptor limit accepts a client whenever another one leaves; one that has
# accepted none for this long will not soon.
FULL_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class ChildHealth:
    """One child that has not ended. condemned: it hung or was overdue, and is being killed.

    stalls: (stream, partition, why) that a consumer lists as not readable; unlisted_stalls: how
    many more there was no room for. keyless: of a worker without a key of any issuer, which cannot
    check a token. full_seconds: how long it has accepted no connection because its file descriptors
    have run out. disputes: a worker has a stream that stands still, because the consumer takes its
    keys from elsewhere.
    """

    is_worker: bool
    state: State
    broker_up: bool
    condemned: bool = False
    stalls: Sequence[tuple[str, int, Stall]] = ()
    unlisted_stalls: int = 0
    keyless: Keyless = Keyless.NO
    connections: int = 0
    full_seconds: float = 0.0
    disputes: bool = False

    @property
    def has_room(self) -> bool:
        """Whether it accepts a client, or will when one leaves; without clients, none can leave."""
        return self.full_seconds <= (FULL_SECONDS if self.connections else 0.0)

    @property
    def serves(self) -> bool:
        """Whether it serves."""
        return self.state is State.READY and not self.condemned and not self.keyless


def unready(draining: bool, children: Sequence[ChildHealth]) -> list[str]:
    """Why load balancers should send no new clients here; empty: the service is ready."""
    reasons = [DRAINING] if draining else []
    consumers = [child for child in children if not child.is_worker]
    if not any(not child.condemned for child in consumers):
        reasons.append(NO_CONSUMER)
    elif not any(child.broker_up for child in consumers):
        reasons.append(NO_BROKER)
    else:
        reasons += _unread([child for child in consumers if not child.condemned])
    workers = [child for child in children if child.is_worker]
    serving = [child for child in workers if child.serves]
    if not serving:
        keyless = {child.keyless for child in workers if not child.condemned}
        if Keyless.NEVER in keyless:
            reasons.append(NO_KEYS)
        else:
            reasons.append(OLD_KEYS if Keyless.OLD in keyless else NO_WORKER)
    elif not any(child.has_room for child in serving):
        reasons.append(NO_ROOM)
    if serving and all(child.disputes for child in serving):
        reasons.append(DISPUTED)
    return reasons


def _unread(consumers: Sequence[ChildHealth]) -> list[str]:
    # While one consumer replaces another: that of the one whose records clients get.
    serving = [child for child in consumers if child.serves]
    reasons = [] if serving else [NOT_READ_BACK]
    for child in serving or consumers:
        reasons += [each for each in stalls.reasons(child.stalls) if each not in reasons]
        if child.unlisted_stalls and UNLISTED not in reasons:
            reasons.append(UNLISTED)
    return reasons
