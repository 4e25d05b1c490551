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
# The same for all HTTP requests of one subject together, each of which is a client of its own.
SECONDS_PER_HTTP_REQUEST: Final = 0.1
# Subjects whose HTTP requests are paid for are forgotten when there are more than this.
MOST_SUBJECTS: Final = 1_000


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
    The clients of HTTP requests share those of their subject.
    """

    def __init__(self) -> None:
        self._until: dict[FanoutClient, dict[str, float]] = {}
        self._of_subjects: dict[str, dict[str, float]] = {}

    def ask(self, client: FanoutClient, streams: Iterable[str], now: float) -> float:
        """0: the client may ask now; else the seconds until it may. now: monotonic seconds."""
        seconds = SECONDS_PER_HTTP_REQUEST if client.form.ends else SECONDS_PER_REQUEST
        before = self._bucket(client, now)
        after = {name: max(before.get(name, now), now) + seconds for name in streams}
        wait = max(after.values()) - now - BURST_OF_REQUESTS * SECONDS_PER_REQUEST
        if wait > 0:
            return wait
        before |= after
        return 0.0

    def _bucket(self, client: FanoutClient, now: float) -> dict[str, float]:
        if not client.form.ends:
            return self._until.setdefault(client, {})
        subjects = self._of_subjects
        if client.subject not in subjects and len(subjects) >= MOST_SUBJECTS:
            self._of_subjects = subjects = {
                subject: until
                for subject, until in subjects.items()
                if max(until.values(), default=now) > now
            }
        return subjects.setdefault(client.subject, {})

    def forget(self, client: FanoutClient) -> None:
        self._until.pop(client, None)
