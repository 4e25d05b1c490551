"""Counts what one client of the demo has received, and what it should have received.

The proof does not rest on what the client or the service says about gaps: positions are Kafka's
offsets, so two of them tell how many records lie between.
"""

from __future__ import annotations

from energyws.protocol.position import parse


class Tally:
    """received: readings since the first one, which is the reference and is counted, too.

    lost and repeated: readings too few and too many, compared with the offsets passed since then.
    Holds for a topic in which every record is a reading, and which is never re-created.
    """

    def __init__(self) -> None:
        self.received = 0
        self._position = parse("0-0")
        self._passed_before_first = 0

    def take(self, position: str) -> None:
        """Count the reading that has this position."""
        at = parse(position)
        if self.received:
            self._position = self._position.merge(at)
        else:
            self._position = at
            self._passed_before_first = sum(at.offsets) - 1
        self.received += 1

    def skip(self, position: str) -> None:
        """Take note of a gap up to this position."""
        if self.received:
            self._position = self._position.merge(parse(position))

    @property
    def lost(self) -> int:
        return max(0, self._passed - self.received)

    @property
    def repeated(self) -> int:
        return max(0, self.received - self._passed)

    @property
    def _passed(self) -> int:
        return sum(self._position.offsets) - self._passed_before_first if self.received else 0
