"""Turns a service's messages into readings and gaps, and follows the position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .position import BadPosition, Position, parse


@dataclass(frozen=True, slots=True)
class Reading:
    """One record. timestamp: RFC 3339; position: what to resume from after it."""

    stream: str
    timestamp: str
    data: dict[str, Any]
    position: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Readings that this client will not get, between its last one and `position`.

    missed: how many at most; None where the number is unknown. missing: the same per partition,
    after a resume that was not possible in full. earliest: the earliest position that could have
    been resumed from.
    """

    stream: str
    missed: int | None
    reason: str
    position: str
    missing: tuple[int, ...] | None = None
    earliest: str | None = None


Message = Reading | Gap


class Reader:
    """Reads the messages of any number of connections, one after another.

    resume: the positions of an earlier Reader. is_bounded: whether the client asked for all
    readings since a time; those that the service no longer has are then a gap.
    """

    def __init__(self, resume: Mapping[str, str], is_bounded: bool) -> None:
        self._positions: dict[str, Position] = {
            stream: parse(text) for stream, text in resume.items()
        }
        self._is_bounded = is_bounded

    @property
    def positions(self) -> dict[str, str]:
        """Those after the last message that was read."""
        return {stream: str(position) for stream, position in self._positions.items()}

    def take(self, message: dict[str, Any]) -> Iterable[Message]:
        """The readings and gaps in a `data`, `lagged` or `subscribed` message."""
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
        for stream, state in positions.items():
            resumed = stream in self._positions
            if state.get("recovered") is False and (resumed or self._is_bounded):
                # Not merged: the old position says nothing about what comes now.
                self._positions.pop(stream, None)
                self._advance(stream, state["position"])
                missing = None if state.get("missing") is None else tuple(state["missing"])
                missed = None if missing is None else sum(missing)
                reason, position = state["reason"], state["position"]
                yield Gap(stream, missed, reason, position, missing, state.get("earliest"))
            elif not resumed:
                self._advance(stream, state["position"])

    def _advance(self, stream: str, text: str) -> None:
        try:
            position = parse(text)
        except BadPosition:
            return
        known = self._positions.get(stream)
        self._positions[stream] = position if known is None else known.merge(position)
