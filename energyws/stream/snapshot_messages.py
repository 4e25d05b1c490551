"""What workers ask the consumer's table of last values, over a DEALER/ROUTER pair of its own.

    request    the JSON of [ask, kind, stream, patient, …]; exact keys, and prefixes, escaped and
               separated by line feeds, which no escaped key has; the worker's key rule of the
               stream, as in bus_messages; of a SCAN, a hash of the subject that it is counted for
    reply      the JSON of [ask, …]; what is asked for

ask: any number, which the reply repeats. patient: the worker rather waits until the table is warm.
A request may be sent again, since answering it changes nothing. Every reply says the position that
its values are of: the table had exactly the records before that.

    FIND       the values of exact keys. Reply: [ask, state]; the lengths of their frames in the
               order of the keys, 0 without a value; the frames, joined
    SCAN       the values that are for a filter, step by step. Reply: [ask, state, number of
               frames, slot of the next step or null]; the frames, joined
    (none)     reply [ask, null]: not now; the worker asks again

A scan begins without a table and `changes`, and goes on with those in its first reply, which are
in `state` too. With another table, as after a restart, it cannot go on: reply [ask, false].
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, Final

import orjson

from energyws.protocol.keys import KeyFilter
from energyws.protocol.position import Position, parse
from energyws.stream.bus_messages import decoder

_FIND: Final = "find"
_SCAN: Final = "scan"
_SEPARATOR: Final = b"\n"


@dataclass(frozen=True, slots=True)
class FindValues:
    """The request for the values of these keys."""

    ask: int
    stream: str
    patient: bool
    keys: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class ScanValues:
    """The request for a step of a scan. keys: None: all; table, changes: None at the first step."""

    ask: int
    stream: str
    patient: bool
    keys: KeyFilter | None
    slot: int = 0
    table: str | None = None
    changes: int | None = None


SnapshotRequest = FindValues | ScanValues


@dataclass(frozen=True, slots=True)
class TableState:
    """A table at a moment. position: it had all records before it, and no other.

    complete, since_ms: as in LastValues; keys: how many it had; table: names it.
    """

    position: Position
    complete: bool
    since_ms: int | None
    keys: int
    table: str
    changes: int


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to FindValues. frames: of each key, in the order asked; empty without a value."""

    state: TableState
    frames: list[bytes]


@dataclass(frozen=True, slots=True)
class Slice:
    """The answer to ScanValues. frames: how many, joined in `data`; next_slot: None: the last."""

    state: TableState
    frames: int
    data: bytes
    next_slot: int | None


@dataclass(frozen=True, slots=True)
class NotNow:
    """The stream is not read back, or its table is not warm yet: ask again."""


@dataclass(frozen=True, slots=True)
class OtherTable:
    """The table of the scan is gone."""


SnapshotAnswer = Found | Slice | NotNow | OtherTable


def pack_request(request: SnapshotRequest) -> list[bytes]:
    head: list[object] = [request.ask, _FIND, request.stream, request.patient]
    if isinstance(request, FindValues):
        return [orjson.dumps(head), _SEPARATOR.join(request.keys), b""]
    head[1] = _SCAN
    keys = request.keys
    head += [keys is not None, request.slot, request.table, request.changes]
    exact = _SEPARATOR.join(keys.exact) if keys is not None else b""
    prefixes = _SEPARATOR.join(keys.prefixes) if keys is not None else b""
    return [orjson.dumps(head), exact, prefixes]


@decoder
def unpack_request(parts: Sequence[bytes]) -> SnapshotRequest:
    ask, kind, stream, patient, *rest = orjson.loads(parts[0])
    exact = _split(parts[1])
    if kind == _FIND:
        return FindValues(ask, stream, patient, exact)
    filtered, slot, table, changes = rest
    keys = KeyFilter(frozenset(exact), _split(parts[2])) if filtered else None
    return ScanValues(ask, stream, patient, keys, slot, table, changes)


def pack_answer(ask: int, answer: SnapshotAnswer) -> list[bytes]:
    if isinstance(answer, NotNow):
        return [orjson.dumps([ask, None])]
    if isinstance(answer, OtherTable):
        return [orjson.dumps([ask, False])]
    state = answer.state
    told = [
        str(state.position),
        state.complete,
        state.since_ms,
        state.keys,
        state.table,
        state.changes,
    ]
    if isinstance(answer, Slice):
        return [orjson.dumps([ask, told, answer.frames, answer.next_slot]), answer.data]
    sizes = array("Q", map(len, answer.frames))
    return [orjson.dumps([ask, told]), sizes.tobytes(), b"".join(answer.frames)]


@decoder
def unpack_answer(parts: Sequence[bytes]) -> tuple[int, SnapshotAnswer]:
    """The number of the request, and its answer."""
    ask, told, *rest = orjson.loads(parts[0])
    if told is None:
        return ask, NotNow()
    if told is False:
        return ask, OtherTable()
    state = _state(told)
    if rest:
        frames, next_slot = rest
        return ask, Slice(state, frames, parts[1], next_slot)
    sizes = array("Q")
    sizes.frombytes(parts[1])
    ends = accumulate(sizes, initial=0)
    return ask, Found(state, [parts[2][begin:end] for begin, end in pairwise(ends)])


def _state(told: list[Any]) -> TableState:
    position, complete, since_ms, keys, table, changes = told
    return TableState(parse(position), complete, since_ms, keys, table, changes)


def _split(joined: bytes) -> tuple[bytes, ...]:
    return tuple(joined.split(_SEPARATOR)) if joined else ()
