"""Where a subscription begins: in the ring, in the log behind it, or live.

Pure decisions: `question` says what must be asked of the log, `begin` what the client is told then
and where it stands.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from energyws.protocol.messages import OnLag, Subscribe, Subscribed, Unrecovered
from energyws.protocol.position import (
    BadPosition,
    Position,
    epoch_of,
    from_offsets,
    parse,
    partitions,
)
from energyws.stream.history import FindStart, StartPoint
from energyws.stream.ring import Cursor, Ring

# A client may know of partitions that were added since this process last looked. How many nobody
# can tell; of a position that names more than these times as many, and some, each costs memory.
GROWTH_FACTOR: Final = 4
GROWTH: Final = 64

# In the ring; or in the log, everything after a position; or live.
StartsAt = Cursor | Position | None


def history_request(stream: str, ring: Ring, request: Subscribe) -> FindStart | None:
    """What must be asked of the log before `begin`; None: the ring has it all."""
    if (text := request.resume.get(stream)) is not None:
        try:
            known = _known(_parse(text, ring), ring)
        except BadPosition:
            return None
        return None if ring.locate(known).complete else FindStart(stream, ring.epoch, after=known)
    if request.since_ms is not None:
        return FindStart(stream, ring.epoch, since_ms=request.since_ms)
    if (
        request.last is not None
        and request.last > ring.end - ring.first
        and any(ring.floor.offsets)
    ):
        return FindStart(stream, ring.epoch, last=request.last)
    return None


def start_point(
    stream: str,
    ring: Ring,
    live: Position,
    request: Subscribe,
    found: StartPoint | None,
    now: float,
) -> tuple[Subscribed, StartsAt]:
    """Where a subscription begins. live: where one that asks nothing back does.

    found: the answer to `question`.
    """
    if (text := request.resume.get(stream)) is not None:
        return _resume(ring, live, text, request.on_lag, found, now)
    if found is not None:
        return _replay(ring, found, request.on_lag, now)
    if request.last is not None:
        return _last(ring, request.last, request.on_lag)
    return Subscribed(str(live)), None


def resume_from(ring: Ring, known: Position, on_lag: OnLag, now: float) -> tuple[StartsAt, int]:
    """Where to go on from a position, and how many frames, at most, come before live ones."""
    located = ring.locate(known)
    if located.complete:
        cursor = Cursor(located.start, known, on_lag)
        cursor.skip_to(known, now)
        return cursor, located.replayed
    waiting = (
        max(0, offset - known.next_offset(partition))
        for partition, offset in enumerate(ring.head.offsets)
    )
    return known, sum(waiting)


def _parse(text: str, ring: Ring) -> Position:
    """The position of a text; raises BadPosition, also where this topic never had one like it."""
    most = GROWTH_FACTOR * ring.partitions + GROWTH
    if partitions(text) > most and epoch_of(text) == ring.epoch:
        raise BadPosition("not a position: it names far more partitions than the topic has")
    return parse(text)


def _known(position: Position, ring: Ring) -> Position:
    """What a client that resumes from there has of this log: nothing, if it was another."""
    if position.epoch == ring.epoch:
        return position
    return from_offsets(ring.epoch, [0] * ring.partitions)


def _resume(
    ring: Ring, live: Position, text: str, on_lag: OnLag, found: StartPoint | None, now: float
) -> tuple[Subscribed, StartsAt]:
    try:
        position = _parse(text, ring)
    except BadPosition:
        bad = Unrecovered.BAD_POSITION
        return Subscribed(str(live), False, 0, bad, str(ring.floor)), None
    known = _known(position, ring)
    told, place = _replay(ring, found or StartPoint(known, ring.floor), on_lag, now)
    if known is not position:
        # Nobody can tell how much of the log before this one it has missed.
        earliest = told.earliest or told.position
        told = replace(
            told,
            recovered=False,
            reason=Unrecovered.EPOCH_CHANGED,
            earliest=earliest,
            missing=None,
        )
    return told, place


def _replay(
    ring: Ring, found: StartPoint, on_lag: OnLag, now: float
) -> tuple[Subscribed, StartsAt]:
    place, replayed = resume_from(ring, found.position, on_lag, now)
    position = str(found.position)
    if found.reason is None:
        return Subscribed(position, True, replayed), place
    earliest = str(found.earliest)
    return Subscribed(position, False, replayed, found.reason, earliest, found.missing), place


def _last(ring: Ring, count: int, on_lag: OnLag) -> tuple[Subscribed, StartsAt]:
    index = max(ring.first, ring.end - count)
    position = ring.position_at(index)
    place = Cursor(index, position, on_lag)
    replayed = ring.end - index
    if replayed == count:
        return Subscribed(str(position), True, replayed), place
    reason = Unrecovered.HISTORY_EXCEEDED
    return Subscribed(str(position), False, replayed, reason, str(ring.floor)), place
