"""What the messages of a service mean to an application, and where it stands after each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from energyws.protocol.position import BadPosition, Position, parse


@dataclass(frozen=True, slots=True)
class Reading:
    """One record. timestamp: RFC 3339; position: what to resume from after it."""

    stream: str
    timestamp: str
    data: dict[str, Any]
    position: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Readings that this client will not get, between what it had and `position`.

    missed: how many at most, None where nobody can tell; missing: the same per partition, where a
    resume could not be fulfilled; earliest: the earliest position that could have been.
    """

    stream: str
    missed: int | None
    reason: str
    position: str
    missing: tuple[int, ...] | None = None
    earliest: str | None = None


Message = Reading | Gap


class Reader:
    """Readings and gaps from the messages of a service, over any number of connections.

    resume: the positions of an earlier one; is_bounded: whether a time to begin at was given, so
    that what the service does not have of it is missing.
    """

    def __init__(self, resume: Mapping[str, str], is_bounded: bool) -> None:
        self._positions: dict[str, Position] = {
            stream: parse(text) for stream, text in resume.items()
        }
        self._is_bounded = is_bounded

    @property
    def positions(self) -> dict[str, str]:
        """After the last message that was taken."""
        return {stream: str(position) for stream, position in self._positions.items()}

    def take(self, message: dict[str, Any]) -> Iterable[Message]:
        """What an application gets for a `data`, `lagged` or `subscribed` message."""
        kind = message["type"]
        if kind == "data":
            stream, position = message["stream"], message["id"]
            self._advance(stream, position)
            return (Reading(stream, message["timestamp"], message["data"], position),)
        if kind == "lagged":
            stream, position = message["stream"], message["to"]
            self._advance(stream, position)
            return (Gap(stream, message["missed"], message["reason"], position),)
        return self._begin(message["positions"])

    def _begin(self, positions: dict[str, dict[str, Any]]) -> Iterable[Message]:
        for stream, told in positions.items():
            resumed = stream in self._positions
            if told.get("recovered") is False and (resumed or self._is_bounded):
                # What was known says nothing about what comes now.
                self._positions.pop(stream, None)
                self._advance(stream, told["position"])
                missing = None if told.get("missing") is None else tuple(told["missing"])
                missed = None if missing is None else sum(missing)
                reason, position = told["reason"], told["position"]
                yield Gap(stream, missed, reason, position, missing, told.get("earliest"))
            elif not resumed:
                self._advance(stream, told["position"])

    def _advance(self, stream: str, text: str) -> None:
        try:
            position = parse(text)
        except BadPosition:
            return
        known = self._positions.get(stream)
        self._positions[stream] = position if known is None else known.merge(position)
