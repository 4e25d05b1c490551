"""A position in a stream: the topic's epoch and, per partition, the next offset.

A position means "everything below these offsets". It consists of Kafka's own offsets, so it is
valid on every replica and after every restart, as long as the topic keeps its records. The epoch
(centrifuge's StreamPosition is the precedent) tells the logs of a re-created topic apart.

    text     = epoch "-" offset *("." offset)        e.g. 7f3a90c2-1042.998.17
    epoch    = 1*16(lower-case hex)
    offset   = "0" / non-zero decimal below 2^63      the n-th one belongs to partition n
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import orjson

from energyws.errors import EnergywsError

MAX_PARTITIONS: Final = 1024
MAX_OFFSET: Final = 2**63 - 1
# 1,024 offsets of 19 digits, their dots and the epoch.
MAX_TEXT_LENGTH: Final = MAX_PARTITIONS * 20 + 17
_EPOCH: Final = re.compile(r"[0-9a-f]{1,16}")


class BadPosition(EnergywsError):
    """A text that is not a position."""


@dataclass(frozen=True, slots=True)
class Position:
    """epoch: hex text; offsets: the next offset of partition 0, 1, …"""

    epoch: str
    offsets: tuple[int, ...]

    def __str__(self) -> str:
        return as_text(self.epoch, self.offsets)

    def next_offset(self, partition: int) -> int:
        """The next offset of a partition; 0 for one that was added after this position."""
        return self.offsets[partition] if partition < len(self.offsets) else 0

    def covers(self, partition: int, offset: int) -> bool:
        """Whether the record at this offset lies before this position."""
        return offset < self.next_offset(partition)

    def after(self, partition: int, offset: int) -> Position:
        """This position, advanced past the record at `offset`; it never moves back."""
        offsets = list(self.offsets)
        offsets.extend([0] * (partition + 1 - len(offsets)))
        offsets[partition] = max(offsets[partition], offset + 1)
        return Position(self.epoch, tuple(offsets))

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

    def beyond(self, other: Position) -> bool:
        """Whether any partition of this position is ahead of `other`'s (same epoch assumed)."""
        return any(offset > other.next_offset(p) for p, offset in enumerate(self.offsets))


def parse(text: str) -> Position:
    """Inverse of `str(position)`; raises BadPosition for any other text."""
    epoch, _, rest = text.partition("-") if len(text) <= MAX_TEXT_LENGTH else ("", "", "")
    if not (_EPOCH.fullmatch(epoch) and rest.isascii() and rest.replace(".", "").isdigit()):
        raise BadPosition("not a position: expected the `id` of a data message")
    try:
        # Only digits and dots are left, and JSON too forbids leading zeros and empty numbers. This
        # takes half the time of a regular expression, and clients may send long texts.
        offsets = tuple(orjson.loads(f"[{rest.replace('.', ',')}]"))
    except orjson.JSONDecodeError:
        raise BadPosition("not a position: expected the `id` of a data message") from None
    if len(offsets) > MAX_PARTITIONS or max(offsets) > MAX_OFFSET:
        raise BadPosition("not a position: an offset or the number of partitions is out of range")
    return Position(epoch, offsets)


def partitions(text: str) -> int:
    """How many partitions the text of a position has; cheaper than `parse`."""
    return text.count(".") + 1


def epoch_of(text: str) -> str:
    """The epoch in the text of a position; cheaper than `parse`."""
    return text.partition("-")[0]


def as_text(epoch: str, offsets: Iterable[int]) -> str:
    """The text of the position with these next offsets; cheaper than making one."""
    return f"{epoch}-{'.'.join(map(str, offsets))}"


def from_offsets(epoch: str, offsets: Iterable[int]) -> Position:
    """The position with these next offsets."""
    return Position(epoch, tuple(offsets))
