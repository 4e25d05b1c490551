"""A client's subscribe requests that cannot be answered yet, and the log that some wait for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from energyws.protocol.messages import Subscribe
from energyws.protocol.position import MAX_TEXT_LENGTH
from energyws.stream.history import StartPoint
from workers.websocket.fanout.subscription import FanoutClient

# The characters of positions that one client's pending requests may hold: twice the longest.
MAX_TEXT: Final = 2 * MAX_TEXT_LENGTH

# How often a client may request a starting point in a stream, and how many times at once. An honest
# client does so once a connection; an answer costs the consumer far more than a message.
SECONDS_PER_REQUEST: Final = 1.0
BURST_OF_REQUESTS: Final = 3


@dataclass(slots=True)
class PendingRequest:
    """A request whose topics are not found yet, or that waits for the log.

    asked: the log has been asked for what the rings lack; wanted: the streams whose answers are
    missing; found: the answers.
    """

    request: Subscribe
    asked: bool = False
    wanted: set[str] = field(default_factory=set)
    found: dict[str, StartPoint] = field(default_factory=dict)

    def drop(self, gone: set[str]) -> None:
        """Take these streams out of the request."""
        request = self.request
        if gone.isdisjoint(request.streams):
            return
        self.request = replace(
            request,
            streams=tuple(name for name in request.streams if name not in gone),
            resume={name: text for name, text in request.resume.items() if name not in gone},
        )
        self.wanted -= gone

    def text(self) -> int:
        """The number of characters of its positions."""
        return sum(map(len, self.request.resume.values()))


class HistoryRateLimit:
    """How soon a client may ask the log again: a leaky bucket for each client and stream.

    A bucket is one number: when the requests so far will be paid for, at SECONDS_PER_REQUEST each.
    """

    def __init__(self) -> None:
        self._until: dict[FanoutClient, dict[str, float]] = {}

    def ask(self, client: FanoutClient, streams: Iterable[str], now: float) -> float:
        """0: the client may ask now; else the seconds until it may. now: monotonic seconds."""
        before = self._until.setdefault(client, {})
        after = {name: max(before.get(name, now), now) + SECONDS_PER_REQUEST for name in streams}
        wait = max(after.values()) - now - BURST_OF_REQUESTS * SECONDS_PER_REQUEST
        if wait > 0:
            return wait
        before |= after
        return 0.0

    def forget(self, client: FanoutClient) -> None:
        self._until.pop(client, None)
