"""Where a subscription starts: in the ring, in the log before it, or live.

Pure decisions: `history_request` returns the request to the log that is needed first, if any, and
`start_point` the reply to the client, and where its subscription starts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from energyws.protocol.messages import (
    OnLag,
    Subscribe,
    Subscribed,
    Unrecovered,
)
from energyws.protocol.position import (
    BadPosition,
    Position,
    epoch_of,
    from_offsets,
    parse,
    partitions,
)
from energyws.protocol.snapshot_told import SnapshotTold
from energyws.stream import keyed_cursor
from energyws.stream.history import FindStart, StartPoint, newest_share
from energyws.stream.key_index import Selection
from energyws.stream.keyed_cursor import KeyedCursor
from energyws.stream.ring import Cursor, Ring

# A client may know of partitions that were added since this process last looked. A position may
# name this many times as many, plus some: each one costs memory.
GROWTH_FACTOR: Final = 4
GROWTH: Final = 64

# In the ring; in the log, after a position; or live.
StartsAt = Cursor | Position | None


def history_request(stream: str, ring: Ring, subscribe: Subscribe) -> FindStart | None:
    """The request that `start_point` needs the answer to; None: the ring holds everything."""
    if (text := subscribe.resume.get(stream)) is not None:
        try:
            known = _known(_parse(text, ring), ring)
        except BadPosition:
            return None
        return None if ring.locate(known).complete else FindStart(stream, ring.epoch, after=known)
    if subscribe.since_ms is not None:
        return FindStart(stream, ring.epoch, since_ms=subscribe.since_ms)
    if (
        subscribe.last is not None
        # The newest records of a few keys may be anywhere in the log.
        and stream not in subscribe.filters
        and subscribe.last > ring.end - ring.first
        and any(ring.floor.offsets)
    ):
        return FindStart(stream, ring.epoch, last=subscribe.last)
    return None


def within_scan(found: StartPoint, head: Position, most: int) -> StartPoint:
    """The same for a subscription to some keys, before whose start at most so many records lie.

    The log has no index of keys: all records from its start on are read to find those of a few.
    """
    start = newest_share(found.position, head, most)
    if not start.beyond(found.position):
        return replace(found, missing=None)
    return StartPoint(start, start, Unrecovered.HISTORY_EXCEEDED)


def start_point(
    stream: str,
    ring: Ring,
    live: Position,
    subscribe: Subscribe,
    found: StartPoint | None,
    now: float,
    selection: Selection | None = None,
) -> tuple[Subscribed, StartsAt]:
    """The reply to the client, and where its subscription starts.

    live: the position where live delivery starts; found: the answer to `history_request`.
    selection: the keys that it gets; None: everything.
    """
    if (text := subscribe.resume.get(stream)) is not None:
        return _resume(ring, live, text, subscribe.on_lag, found, now, selection)
    if found is not None:
        return _replay(ring, found, subscribe.on_lag, now, selection)
    if subscribe.last is not None:
        return _last(ring, subscribe.last, subscribe.on_lag, selection)
    return Subscribed(str(live)), None


def after_snapshot(reply: Subscribed, position: Position, told: SnapshotTold) -> Subscribed:
    """The reply to a client that first gets a snapshot of a position."""
    # How many frames come between the snapshot and live ones, is unknown.
    replayed = reply.replayed if reply.recovered is None else None
    return replace(reply, position=str(position), replayed=replayed, snapshot=told)


def recovers(
    stream: str,
    ring: Ring,
    subscribe: Subscribe,
    found: StartPoint | None,
    selection: Selection | None = None,
) -> bool:
    """Whether a client gets all that it has missed since the position that it resumes from."""
    reply, _ = start_point(stream, ring, ring.head, subscribe, found, 0.0, selection)
    return reply.recovered is True


def cursor_at(index: int, position: Position, on_lag: OnLag, selection: Selection | None) -> Cursor:
    """A cursor of a subscription to these keys, or to everything."""
    if selection is None:
        return Cursor(index, position, on_lag)
    return KeyedCursor(index, position, on_lag, selection)


def resume_from(
    ring: Ring,
    known: Position,
    on_lag: OnLag,
    now: float,
    selection: Selection | None = None,
) -> StartsAt:
    """Where to continue from a position."""
    located = ring.locate(known)
    if not located.complete:
        return known
    cursor = cursor_at(located.start, known, on_lag, selection)
    cursor.skip_to(known, now)
    return cursor


def _replayed(ring: Ring, known: Position, selection: Selection | None) -> int | None:
    """At most how many frames come before live ones; None: nobody knows without reading them."""
    located = ring.locate(known)
    if selection is not None:
        return keyed_cursor.replayed(ring, selection, known) if located.complete else None
    if located.complete:
        return located.replayed
    behind = (
        max(0, offset - known.next_offset(partition))
        for partition, offset in enumerate(ring.head.offsets)
    )
    return sum(behind)


def _parse(text: str, ring: Ring) -> Position:
    """The position in a text; raises BadPosition, also for one that this topic cannot have."""
    max_partitions = GROWTH_FACTOR * ring.partitions + GROWTH
    if partitions(text) > max_partitions and epoch_of(text) == ring.epoch:
        raise BadPosition("not a position: it names far more partitions than the topic has")
    return parse(text)


def _known(position: Position, ring: Ring) -> Position:
    """How far a client that resumes from there has read this log: not at all, if it is another."""
    if position.epoch == ring.epoch:
        return position
    return from_offsets(ring.epoch, [0] * ring.partitions)


def _resume(
    ring: Ring,
    live: Position,
    text: str,
    on_lag: OnLag,
    found: StartPoint | None,
    now: float,
    selection: Selection | None,
) -> tuple[Subscribed, StartsAt]:
    try:
        position = _parse(text, ring)
    except BadPosition:
        bad = Unrecovered.BAD_POSITION
        return Subscribed(str(live), False, 0, bad, str(ring.floor)), None
    known = _known(position, ring)
    found = found or StartPoint(known, ring.floor)
    reply, starts_at = _replay(ring, found, on_lag, now, selection)
    if known is not position:
        # How much it has missed of the log before this one is unknown.
        earliest = reply.earliest or reply.position
        reply = replace(
            reply,
            recovered=False,
            reason=Unrecovered.EPOCH_CHANGED,
            earliest=earliest,
            missing=None,
        )
    return reply, starts_at


def _replay(
    ring: Ring, found: StartPoint, on_lag: OnLag, now: float, selection: Selection | None
) -> tuple[Subscribed, StartsAt]:
    starts_at = resume_from(ring, found.position, on_lag, now, selection)
    replayed = _replayed(ring, found.position, selection)
    position = str(found.position)
    if found.reason is None:
        return Subscribed(position, True, replayed), starts_at
    earliest = str(found.earliest)
    missing = found.missing if selection is None else None
    return Subscribed(position, False, replayed, found.reason, earliest, missing), starts_at


def _last(
    ring: Ring, count: int, on_lag: OnLag, selection: Selection | None
) -> tuple[Subscribed, StartsAt]:
    if selection is None:
        index = max(ring.first, ring.end - count)
        replayed = ring.end - index
    else:
        index, replayed = keyed_cursor.newest(ring, selection, count)
    position = ring.position_at(index)
    cursor = cursor_at(index, position, on_lag, selection)
    if replayed == count:
        return Subscribed(str(position), True, replayed), cursor
    reason = Unrecovered.HISTORY_EXCEEDED
    return Subscribed(str(position), False, replayed, reason, str(ring.floor)), cursor
