"""The client's part of a position: its text, and the merge of two.

energyws.protocol.position explains positions, and is what the service uses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import orjson

MAX_PARTITIONS: Final = 1024
MAX_OFFSET: Final = 2**63 - 1
# 1,024 offsets of 19 digits, their dots and the epoch.
_MAX_TEXT_LENGTH: Final = MAX_PARTITIONS * 20 + 17
_EPOCH: Final = re.compile(r"[0-9a-f]{1,16}")


class BadPosition(ValueError):
    """A text that is not a position."""


@dataclass(frozen=True, slots=True)
class Position:
    """epoch: hex text; offsets: the next offset of partition 0, 1, …"""

    epoch: str
    offsets: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.epoch}-{'.'.join(map(str, self.offsets))}"

    def merge(self, other: Position) -> Position:
        """Component-wise maximum: the position of a client that has reached both.

        Replicas interleave partitions differently; merging counts each record once. A position of
        another epoch replaces this one.
        """
        if other.epoch != self.epoch:
            return other
        # Clients merge at every message, and nearly always both have the same partitions.
        both = tuple(map(max, self.offsets, other.offsets))
        longer = max(self.offsets, other.offsets, key=len)
        return Position(self.epoch, both + longer[len(both) :])


def parse(text: str) -> Position:
    """Inverse of `str(position)`; raises BadPosition for any other text."""
    epoch, _, rest = text.partition("-") if len(text) <= _MAX_TEXT_LENGTH else ("", "", "")
    if not (_EPOCH.fullmatch(epoch) and rest.isascii() and rest.replace(".", "").isdigit()):
        raise BadPosition("not a position: expected the `id` of a data message")
    try:
        # Only digits and dots are left, and JSON too forbids leading zeros and empty numbers. This
        # takes half the time of a regular expression.
        offsets = tuple(orjson.loads(f"[{rest.replace('.', ',')}]"))
    except orjson.JSONDecodeError:
        raise BadPosition("not a position: expected the `id` of a data message") from None
    if len(offsets) > MAX_PARTITIONS or max(offsets) > MAX_OFFSET:
        raise BadPosition("not a position: an offset or the number of partitions is out of range")
    return Position(epoch, offsets)
