"""What a client is told of a snapshot."""

from __future__ import annotations

from dataclasses import dataclass

from energyws.protocol import frame


@dataclass(frozen=True, slots=True)
class SnapshotTold:
    """complete: whether a key that is not in it has no record. since_ms: if not: since when it has
    all keys, in Unix milliseconds. keys: how many it has. Both are None where nobody knows.
    """

    complete: bool
    since_ms: int | None
    keys: int | None

    def as_json(self, position: str) -> dict[str, object]:
        """position: that of the snapshot."""
        since = None if self.since_ms is None else frame.rfc3339(self.since_ms)
        return {"position": position, "complete": self.complete, "since": since, "keys": self.keys}
