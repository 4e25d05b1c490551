"""Whether the service can do its work, and if not, why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from energyws import waits
from energyws.board import State
from energyws.waits import Wait

DRAINING: Final = "draining"
NO_CONSUMER: Final = "the consumer is not running"
NO_BROKER: Final = "the broker is not reachable"
NOT_READ_BACK: Final = "the consumer has not read all topics back yet"
NO_WORKER: Final = "no worker is ready"

UNLISTED: Final = "more partitions wait than can be listed"

# What may be said of a stream or a partition comes after its name.
REASONS: Final = (
    DRAINING,
    NO_CONSUMER,
    NO_BROKER,
    NOT_READ_BACK,
    NO_WORKER,
    UNLISTED,
    *waits.WORDS.values(),
)


@dataclass(frozen=True, slots=True)
class Sight:
    """One child that has not ended. doomed: it hung or was overdue, and is being killed.

    waits: what a consumer lists as not readable; unlisted_waits: how much it has no room for.
    """

    is_worker: bool
    state: State
    broker_up: bool
    doomed: bool = False
    waits: Sequence[tuple[str, int, Wait]] = ()
    unlisted_waits: int = 0

    @property
    def works(self) -> bool:
        """Whether it does its work."""
        return self.state is State.READY and not self.doomed


def unready(draining: bool, children: Sequence[Sight]) -> list[str]:
    """Why nobody new should be sent here; empty: all is well."""
    reasons = [DRAINING] if draining else []
    consumers = [child for child in children if not child.is_worker]
    if not any(not child.doomed for child in consumers):
        reasons.append(NO_CONSUMER)
    elif not any(child.broker_up for child in consumers):
        reasons.append(NO_BROKER)
    else:
        # While one replaces another: those of the one whose records clients get.
        serving = [child for child in consumers if child.works]
        if not serving:
            reasons.append(NOT_READ_BACK)
        for child in serving or [child for child in consumers if not child.doomed]:
            reasons += [each for each in waits.reasons(child.waits) if each not in reasons]
            if child.unlisted_waits and UNLISTED not in reasons:
                reasons.append(UNLISTED)
    if not any(child.is_worker and child.works for child in children):
        reasons.append(NO_WORKER)
    return reasons
