"""A client's requests that cannot be answered yet, and the log that some of them wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from energyws.protocol.messages import Subscribe
from energyws.protocol.position import MAX_TEXT_LENGTH, Position
from energyws.stream.history import FindStart, StartPoint
from workers.websocket.fanout.fanout import ChunkSource, FanoutClient
from workers.websocket.fanout.history_client import Done

# What one client's requests that wait may hold of positions, in characters: twice the longest.
MAX_TEXT: Final = 2 * MAX_TEXT_LENGTH


# How often a client may have the log asked where to begin in a stream, and how many times at once.
# An honest client asks once a connection; an answer costs the consumer far more than a message.
SECONDS_PER_QUESTION: Final = 1.0
BURST_OF_QUESTIONS: Final = 3


class HistorySource(ChunkSource, Protocol):
    """What lies further back than the rings: a HistoryClient."""

    @property
    def waiting(self) -> int:
        """How many questions clients wait for, each client's counted."""

    def find(self, asker: FanoutClient, query: FindStart, done: Done) -> None:
        """Ask where a replay can begin; raises energyws.stream.fair_queue.Full."""

    def tick(self) -> None:
        """Once a second or so."""

    def forget(self, stream: str) -> None:
        """The stream has another epoch."""

    def close(self) -> None:
        """Ask nothing more."""


# Told of the chunks that came, and of those that will not: (stream, position).
Told = Callable[[str, Position], None]


@dataclass(slots=True)
class PendingRequest:
    """A request that cannot be answered yet: its topics are not found, or the log is asked.

    asked: the log has been asked what the rings lack; wanted: the streams it has yet to answer
    for; found: its answers.
    """

    request: Subscribe
    asked: bool = False
    wanted: set[str] = field(default_factory=set)
    found: dict[str, StartPoint] = field(default_factory=dict)

    def drop(self, gone: set[str]) -> None:
        """These streams are of no interest any more."""
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
        """How many characters of positions it holds."""
        return sum(map(len, self.request.resume.values()))


class HistoryRateLimit:
    """How soon clients may have the log asked again: a leaky bucket for each client and stream.

    It keeps one number: until when the questions so far take, at SECONDS_PER_QUESTION each.
    """

    def __init__(self) -> None:
        self._until: dict[FanoutClient, dict[str, float]] = {}

    def ask(self, client: FanoutClient, streams: Iterable[str], now: float) -> float:
        """0: the client asks now; else in how many seconds it may. now: monotonic seconds."""
        before = self._until.setdefault(client, {})
        after = {name: max(before.get(name, now), now) + SECONDS_PER_QUESTION for name in streams}
        wait = max(after.values()) - now - BURST_OF_QUESTIONS * SECONDS_PER_QUESTION
        if wait > 0:
            return wait
        before |= after
        return 0.0

    def forget(self, client: FanoutClient) -> None:
        """The client has left."""
        self._until.pop(client, None)
