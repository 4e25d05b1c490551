"""Why a stream or a partition is not read: a number on the board, words for operators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final

# In place of a partition's number: the stream as a whole.
WHOLE: Final = -1
_MAX_NAMED: Final = 8


class Stall(IntEnum):
    """Why reading stalls. The numbers are on the board: new ones go to the end."""

    NONE = 0
    NO_TOPIC = 1
    NOT_ALLOWED = 2
    NO_LEADER = 3
    NO_ANSWER = 4
    NO_TOPIC_ID = 5
    TOO_MANY_PARTITIONS = 6
    FAILS = 7
    NO_SCHEMA = 8


WORDS: Final[Mapping[Stall, str]] = {
    Stall.NO_TOPIC: "the topic does not exist",
    Stall.NOT_ALLOWED: "the service may not read the topic",
    Stall.NO_LEADER: "no broker leads it",
    Stall.NO_ANSWER: "its broker does not answer",
    Stall.NO_TOPIC_ID: "the broker does not tell the topic's id",
    Stall.TOO_MANY_PARTITIONS: "the topic has too many partitions",
    Stall.FAILS: "reading it fails",
    Stall.NO_SCHEMA: "the schema of its next record cannot be fetched",
}


def reasons(stalls: Iterable[tuple[str, int, Stall]]) -> list[str]:
    """One text for each stream and stall, of any number of (stream, partition or WHOLE, stall)."""
    grouped: dict[tuple[str, Stall], list[int]] = {}
    for stream, partition, stall in sorted(set(stalls)):
        if stall is not Stall.NONE:
            grouped.setdefault((stream, stall), []).append(partition)
    return [
        f"stream {stream}{_which(partitions)}: {WORDS[stall]}"
        for (stream, stall), partitions in grouped.items()
    ]


def _which(partitions: list[int]) -> str:
    if partitions[0] == WHOLE:
        return ""
    named = ", ".join(map(str, partitions[:_MAX_NAMED]))
    more = f" and {len(partitions) - _MAX_NAMED} more" if len(partitions) > _MAX_NAMED else ""
    return f", partition{'s' if len(partitions) > 1 else ''} {named}{more}"
