"""Why a stream or a partition is not read: a number on the board, words for operators."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final

# Stands for the stream as a whole where a partition's number is expected.
WHOLE: Final = -1
_NAMED: Final = 8


class Stall(IntEnum):
    """What is waited for. The numbers are on the board: new ones go to the end."""

    NOTHING = 0
    NO_TOPIC = 1
    NOT_ALLOWED = 2
    NO_LEADER = 3
    NO_ANSWER = 4
    NO_TOPIC_ID = 5
    TOO_MANY_PARTITIONS = 6
    FAILS = 7


WORDS: Final[Mapping[Stall, str]] = {
    Stall.NO_TOPIC: "the topic does not exist",
    Stall.NOT_ALLOWED: "the service may not read the topic",
    Stall.NO_LEADER: "no broker leads it",
    Stall.NO_ANSWER: "its broker does not answer",
    Stall.NO_TOPIC_ID: "the broker does not tell the topic's id",
    Stall.TOO_MANY_PARTITIONS: "the topic has too many partitions",
    Stall.FAILS: "reading it fails",
}


def reasons(waits: Iterable[tuple[str, int, Stall]]) -> list[str]:
    """One text for each stream and wait, of any number of (stream, partition or WHOLE, wait)."""
    grouped: dict[tuple[str, Stall], list[int]] = {}
    for stream, partition, wait in sorted(set(waits)):
        if wait is not Stall.NOTHING:
            grouped.setdefault((stream, wait), []).append(partition)
    return [
        f"stream {stream}{_which(partitions)}: {WORDS[wait]}"
        for (stream, wait), partitions in grouped.items()
    ]


def _which(partitions: list[int]) -> str:
    if partitions[0] == WHOLE:
        return ""
    named = ", ".join(map(str, partitions[:_NAMED]))
    more = f" and {len(partitions) - _NAMED} more" if len(partitions) > _NAMED else ""
    return f", partition{'s' if len(partitions) > 1 else ''} {named}{more}"
