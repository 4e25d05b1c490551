"""Judges what one client receives by its positions alone, whatever the records hold. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from energyws.protocol.position import Position, parse


class Track:
    """One client's place in one stream, over any number of connections.

    dense: every offset of the topic holds a valid record, so a jump is a loss. Compaction,
    transactions and records that are skipped leave holes that are none.
    """

    def __init__(self, *, dense: bool) -> None:
        self._dense = dense
        self._known: Position | None = None

    @property
    def position(self) -> str | None:
        """What to resume from; None before anything came."""
        return None if self._known is None else str(self._known)

    def subscribed(self, told: Mapping[str, Any]) -> str | None:
        """The part of `subscribed` on this stream; what is wrong, if anything."""
        if self._known is None:
            self._known = parse(told["position"])
        elif told.get("recovered") is not True:
            self._known = parse(told["position"])
            return f"not recovered: {told.get('reason')}"
        return None

    def data(self, position: str) -> str | None:
        """The `id` of a frame; what is wrong, if anything."""
        came = parse(position)
        known = self._known
        if known is None or known.epoch != came.epoch:
            self._known = came
            return None if known is None else "another epoch without a word"
        merged = known.merge(came)
        steps = sum(merged.offsets) - sum(known.offsets)
        self._known = merged
        if steps == 0:
            return "a frame that was there before"
        if steps > 1 and self._dense:
            return f"{steps - 1} frames are missing"
        return None

    def lagged(self, message: Mapping[str, Any]) -> str:
        """A gap that the service owns up to; in words."""
        end = parse(message["to"])
        self._known = end if self._known is None else self._known.merge(end)
        return f"lagged: {message['reason']}"
