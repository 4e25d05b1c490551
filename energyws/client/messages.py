"""Turns a service's messages into readings and gaps, and follows the position."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .position import BadPosition, Position, parse


@dataclass(frozen=True, slots=True)
class Reading:
    """One record. timestamp: RFC 3339; position: what to resume from after it.

    key: None where the stream, or the record, has none. is_snapshot: it is the newest one of its
    key, from before the subscription; its position is then empty.
    """

    stream: str
    timestamp: str
    data: dict[str, Any]
    position: str
    key: str | None = None
    is_snapshot: bool = False


@dataclass(frozen=True, slots=True)
class Removed:
    """A key that has no record any more."""

    stream: str
    timestamp: str
    key: str
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


Message = Reading | Gap | Removed


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the service said of the snapshot of a stream.

    complete: a key without a record in it has none in the topic. since: RFC 3339; where it is not
    complete, it has the keys with a record since then; None where that is unknown. keys: how many
    it has; None where nobody has counted.
    """

    complete: bool
    since: str | None
    keys: int | None


class Reader:
    """Reads the messages of any number of connections, one after another.

    resume: the positions of an earlier Reader. is_bounded: whether the client asked for all
    readings since a time; those that the service no longer has are then a gap. tells_removals:
    whether to give them to the application.
    """

    def __init__(
        self, resume: Mapping[str, str], *, is_bounded: bool, tells_removals: bool
    ) -> None:
        self._positions: dict[str, Position] = {
            stream: parse(text) for stream, text in resume.items()
        }
        self._is_bounded = is_bounded
        self._tells_removals = tells_removals
        self.snapshots: dict[str, Snapshot] = {}
        self.conflated = 0

    @property
    def positions(self) -> dict[str, str]:
        """Those after the last message that was read."""
        return {stream: str(position) for stream, position in self._positions.items()}

    def take(self, message: dict[str, Any]) -> Iterable[Message]:
        """What the application gets of a message of a stream, or of `subscribed`."""
        kind = message["type"]
        if kind == "data":
            stream, position = message["stream"], message["id"]
            self._advance(stream, position)
            reading = Reading(
                stream, message["timestamp"], message["data"], position, message.get("key")
            )
            return (reading,)
        if kind == "subscribed":
            return self._begin(message["positions"], message.get("snapshots") or {})
        return self._special(kind, message["stream"], message)

    def _special(self, kind: str, stream: str, message: dict[str, Any]) -> Iterable[Message]:
        match kind:
            case "lagged":
                position = message["to"]
                self._advance(stream, position)
                return (Gap(stream, message["missed"], message["reason"], position),)
            case "snapshot":
                timestamp, data, key = message["timestamp"], message["data"], message["key"]
                return (Reading(stream, timestamp, data, "", key, is_snapshot=True),)
            case "removed":
                position = message["id"]
                self._advance(stream, position)
                if self._tells_removals:
                    return (Removed(stream, message["timestamp"], message["key"], position),)
            case "position":
                self._advance(stream, message["id"])
                self.conflated += message.get("conflated", 0)
                if (had := message.get("snapshot")) is not None:
                    # The service has dropped keys while it came.
                    self.snapshots[stream] = Snapshot(had["complete"], had["since"], had["keys"])
        return ()

    def _begin(
        self, positions: dict[str, dict[str, Any]], snapshots: dict[str, dict[str, Any]]
    ) -> Iterable[Message]:
        for stream, state in positions.items():
            resumed = stream in self._positions
            lost = state.get("recovered") is False and (resumed or self._is_bounded)
            snapshot = snapshots.get(stream)
            if lost or snapshot is not None:
                # Not merged: the old position says nothing about what comes now.
                self._positions.pop(stream, None)
            if snapshot is not None:
                # It ends with the first position to resume from: whoever loses the connection
                # before that needs all of it again.
                self.snapshots[stream] = Snapshot(
                    snapshot["complete"], snapshot["since"], snapshot["keys"]
                )
            elif lost or not resumed:
                self._advance(stream, state["position"])
            if lost:
                missing = None if state.get("missing") is None else tuple(state["missing"])
                missed = None if missing is None else sum(missing)
                reason, position = state["reason"], state["position"]
                yield Gap(stream, missed, reason, position, missing, state.get("earliest"))

    def _advance(self, stream: str, text: str) -> None:
        try:
            position = parse(text)
        except BadPosition:
            return
        known = self._positions.get(stream)
        self._positions[stream] = position if known is None else known.merge(position)
