"""Checks the frames of one client by their positions alone, not by their records. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from energyws.protocol.position import Position, parse


class Track:
    """One client's position in one stream, over any number of connections.

    dense: every offset of the topic holds a valid record for this client, so a jump is a loss.
    Otherwise, holes left by compaction, transactions and bad records are not losses.
    """

    def __init__(self, *, dense: bool) -> None:
        self._dense = dense
        self._known: Position | None = None

    @property
    def position(self) -> str | None:
        """The position to resume from; None before the first one."""
        return None if self._known is None else str(self._known)

    def subscribed(self, reply: Mapping[str, Any]) -> str | None:
        """Record this stream's part of `subscribed`; the problem, if any."""
        if self._known is None:
            self._known = parse(reply["position"])
        elif reply.get("recovered") is not True:
            self._known = parse(reply["position"])
            return f"not recovered: {reply.get('reason')}"
        return None

    def data(self, position: str) -> str | None:
        """Record the `id` of a frame; the problem, if any."""
        received = parse(position)
        known = self._known
        if known is None or known.epoch != received.epoch:
            self._known = received
            return None if known is None else "another epoch without notice"
        merged = known.merge(received)
        steps = sum(merged.offsets) - sum(known.offsets)
        self._known = merged
        if steps == 0:
            return "a frame that came before"
        if steps > 1 and self._dense:
            return f"{steps - 1} frames are missing"
        return None

    def moved(self, position: str) -> None:
        """Record the `id` of a `position` message: nothing up to there may come any more."""
        told = parse(position)
        self._known = told if self._known is None else self._known.merge(told)

    def lagged(self, message: Mapping[str, Any]) -> str:
        """Record a gap that the service reports; the problem."""
        end = parse(message["to"])
        self._known = end if self._known is None else self._known.merge(end)
        return f"lagged: {message['reason']}"
