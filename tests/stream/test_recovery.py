"""Where a subscription starts, as tables."""

from __future__ import annotations

from typing import Any, Final

import pytest

from energyws.protocol.frame import DataFrames
from energyws.protocol.keys import KeyFilter
from energyws.protocol.messages import (
    OnLag,
    SnapshotTold,
    Subscribe,
    Subscribed,
    Unrecovered,
)
from energyws.protocol.position import Position, from_offsets
from energyws.settings import History
from energyws.stream.history import FindStart, StartPoint
from energyws.stream.keyed_cursor import KeyedCursor
from energyws.stream.recovery import (
    after_snapshot,
    history_request,
    recovers,
    resume_from,
    start_point,
    within_scan,
)
from energyws.stream.ring import Cursor, Entry, Ring

EPOCH: Final = "abcd0123"


def at(*offsets: int) -> Position:
    return from_offsets(EPOCH, offsets)


def ring(first: int = 0, end: int = 10) -> Ring:
    """Two partitions, each with the offsets from `first` up to `end`."""
    made = Ring(History(), at(first, first))
    for offset in range(first, end):
        for partition in range(2):
            made.append(Entry(partition, offset, 0, b"frame"), 0.0)
    return made


def request(**fields: Any) -> Subscribe:
    wanted: dict[str, Any] = {"resume": {}, "last": None, "on_lag": OnLag.SKIP, **fields}
    return Subscribe(streams=("energy",), **wanted)


def resume(text: str) -> Subscribe:
    return request(resume={"energy": text})


@pytest.mark.parametrize(
    ("first", "subscribe", "expected"),
    [
        pytest.param(4, request(), None, id="nothing"),
        pytest.param(4, resume(f"{EPOCH}-4.4"), None, id="within the ring"),
        pytest.param(4, resume(f"{EPOCH}-99.99"), None, id="ahead"),
        pytest.param(4, resume("garbage"), None, id="no position"),
        pytest.param(
            4, resume(f"{EPOCH}-4.3"), FindStart("energy", EPOCH, after=at(4, 3)), id="further back"
        ),
        pytest.param(
            4, resume("beef-7.7"), FindStart("energy", EPOCH, after=at(0, 0)), id="another epoch"
        ),
        pytest.param(0, resume("beef-7.7"), None, id="another epoch, all of it in the ring"),
        pytest.param(
            4,
            resume(f"{EPOCH}-{'.'.join(['1'] * 72)}"),
            FindStart("energy", EPOCH, after=at(*[1] * 72)),
            id="added partitions",
        ),
        pytest.param(4, resume(f"{EPOCH}-{'.'.join(['1'] * 73)}"), None, id="far too many"),
        pytest.param(
            4,
            resume(f"beef-{'.'.join(['1'] * 1003)}"),
            FindStart("energy", EPOCH, after=at(0, 0)),
            id="another epoch, with more partitions",
        ),
        pytest.param(
            0,
            request(since_ms=5),
            FindStart("energy", EPOCH, since_ms=5),
            id="since is for the log",
        ),
        pytest.param(4, request(last=12), None, id="last in the ring"),
        pytest.param(
            4,
            request(last=13),
            FindStart("energy", EPOCH, last=13),
            id="last, more than the ring has",
        ),
        pytest.param(0, request(last=99), None, id="last, and the ring has every record"),
    ],
)
def test_history_request(first: int, subscribe: Subscribe, expected: FindStart | None) -> None:
    assert history_request("energy", ring(first), subscribe) == expected


@pytest.mark.parametrize(
    ("subscribe", "found", "reply", "starts_at"),
    [
        pytest.param(request(), None, Subscribed(str(at(10, 10))), None, id="live"),
        pytest.param(
            resume(f"{EPOCH}-9.8"), None, Subscribed(f"{EPOCH}-9.8", True, 3), 9, id="in the ring"
        ),
        pytest.param(
            resume("garbage"),
            None,
            Subscribed(str(at(10, 10)), False, 0, Unrecovered.BAD_POSITION, str(at(4, 4))),
            None,
            id="no position",
        ),
        pytest.param(
            resume(f"{EPOCH}-{'.'.join(['1'] * 1003)}"),
            None,
            Subscribed(str(at(10, 10)), False, 0, Unrecovered.BAD_POSITION, str(at(4, 4))),
            None,
            id="far more partitions than there are",
        ),
        pytest.param(
            resume(f"beef-{'.'.join(['1'] * 1003)}"),
            StartPoint(at(0, 0), at(0, 0)),
            Subscribed(f"{EPOCH}-0.0", False, 20, Unrecovered.EPOCH_CHANGED, f"{EPOCH}-0.0"),
            at(0, 0),
            id="another epoch, and fewer partitions",
        ),
        pytest.param(
            resume(f"{EPOCH}-1.2"),
            StartPoint(at(1, 2), at(0, 0)),
            Subscribed(f"{EPOCH}-1.2", True, 17),
            at(1, 2),
            id="in the log",
        ),
        pytest.param(
            resume(f"{EPOCH}-1.2"),
            StartPoint(at(3, 3), at(3, 3), Unrecovered.RETENTION, (2, 1)),
            Subscribed(f"{EPOCH}-3.3", False, 14, Unrecovered.RETENTION, f"{EPOCH}-3.3", (2, 1)),
            at(3, 3),
            id="not all of it",
        ),
        pytest.param(
            resume("beef-1.2"),
            StartPoint(at(3, 3), at(3, 3), Unrecovered.RETENTION, (3, 3)),
            Subscribed(f"{EPOCH}-3.3", False, 14, Unrecovered.EPOCH_CHANGED, f"{EPOCH}-3.3"),
            at(3, 3),
            id="another epoch, and the log has been trimmed",
        ),
        pytest.param(
            resume("beef-1.2"),
            StartPoint(at(0, 0), at(0, 0)),
            Subscribed(f"{EPOCH}-0.0", False, 20, Unrecovered.EPOCH_CHANGED, f"{EPOCH}-0.0"),
            at(0, 0),
            id="another epoch",
        ),
        pytest.param(
            request(since_ms=1),
            StartPoint(at(6, 6), at(0, 0)),
            Subscribed(f"{EPOCH}-6.6", True, 8),
            4,
            id="since, within the ring",
        ),
        pytest.param(request(last=3), None, Subscribed(f"{EPOCH}-9.8", True, 3), 9, id="last"),
    ],
)
def test_start_point(
    subscribe: Subscribe,
    found: StartPoint | None,
    reply: Subscribed,
    starts_at: int | Position | None,
) -> None:
    """starts_at: an index into the ring, a position in the log, or live."""
    replied, started = start_point("energy", ring(4), at(10, 10), subscribe, found, 0.0)
    assert replied == reply
    assert (started.index if isinstance(started, Cursor) else started) == starts_at


def test_client_of_another_epoch_gets_the_whole_log_from_the_ring() -> None:
    reply, cursor = start_point("energy", ring(), at(10, 10), resume("beef-1.2"), None, 0.0)
    assert reply == Subscribed(f"{EPOCH}-0.0", False, 20, Unrecovered.EPOCH_CHANGED, f"{EPOCH}-0.0")
    assert isinstance(cursor, Cursor)


def test_fewer_records_than_requested_are_reported() -> None:
    reply, _ = start_point("energy", ring(), at(10, 10), request(last=50), None, 0.0)
    assert reply == Subscribed(
        f"{EPOCH}-0.0", False, 20, Unrecovered.HISTORY_EXCEEDED, f"{EPOCH}-0.0"
    )


def test_replay_continues_in_the_ring_as_soon_as_it_reaches_it() -> None:
    assert resume_from(ring(4), at(4, 3), OnLag.SKIP, 0.0) == at(4, 3)
    cursor = resume_from(ring(4), at(4, 5), OnLag.SKIP, 0.0)
    assert isinstance(cursor, Cursor)
    assert (cursor.index, cursor.skip) == (0, at(4, 5))


A: Final = KeyFilter(frozenset({b"a"}))


def keyed_ring(keys: str, first: int = 0) -> Ring:
    """One partition with a record for each letter, which is its key."""
    made = Ring(History(), from_offsets(EPOCH, [first]), keyed=True)
    for offset, key in enumerate(keys, first):
        data = DataFrames("energy").build(0, b"{}", f"{EPOCH}-{offset + 1}", key.encode())
        made.append(Entry(0, offset, 0, data), 0.0)
    return made


def keyed_start(
    ring: Ring, subscribe: Subscribe, found: StartPoint | None = None
) -> tuple[Subscribed, Cursor | Position | None]:
    return start_point("energy", ring, ring.head, subscribe, found, 0.0, A)


def test_what_is_replayed_of_some_keys_is_exact_in_the_ring_and_unknown_in_the_log() -> None:
    ring = keyed_ring("abbaba", first=4)
    reply, cursor = keyed_start(ring, resume(f"{EPOCH}-6"))
    assert reply == Subscribed(f"{EPOCH}-6", True, 2)
    assert isinstance(cursor, KeyedCursor)
    reply, place = keyed_start(ring, resume(f"{EPOCH}-1"), StartPoint(at(1), at(0)))
    assert (reply, place) == (Subscribed(f"{EPOCH}-1", True, None), at(1))


def test_how_much_is_missing_of_some_keys_is_unknown() -> None:
    trimmed = StartPoint(at(2), at(2), Unrecovered.RETENTION, (1,))
    reply, _ = keyed_start(keyed_ring("ab", first=4), resume(f"{EPOCH}-1"), trimmed)
    assert (reply.reason, reply.missing) == (Unrecovered.RETENTION, None)


@pytest.mark.parametrize(
    ("last", "index", "reply"),
    [
        (0, 6, Subscribed(f"{EPOCH}-10", True, 0)),
        (2, 3, Subscribed(f"{EPOCH}-7", True, 2)),
        (3, 0, Subscribed(f"{EPOCH}-4", True, 3)),
        (
            4,
            0,
            Subscribed(f"{EPOCH}-4", False, 3, Unrecovered.HISTORY_EXCEEDED, f"{EPOCH}-4"),
        ),
    ],
)
def test_last_of_some_keys_is_what_the_ring_has_of_them(
    last: int, index: int, reply: Subscribed
) -> None:
    ring = keyed_ring("abbaba", first=4)
    wanted = request(last=last, filters={"energy": A})
    assert history_request("energy", ring, wanted) is None
    replied, cursor = keyed_start(ring, wanted)
    assert isinstance(cursor, Cursor)
    assert (replied, cursor.index) == (reply, index)


@pytest.mark.parametrize(
    ("subscribe", "found", "recovered"),
    [
        (resume(f"{EPOCH}-7.7"), None, True),
        (resume(f"{EPOCH}-2.2"), StartPoint(at(2, 2), at(0, 0)), True),
        (resume(f"{EPOCH}-2.2"), StartPoint(at(3, 3), at(3, 3), Unrecovered.RETENTION), False),
        (resume("beef-7.7"), StartPoint(at(0, 0), at(0, 0)), False),
        (resume("garbage"), None, False),
        (request(), None, False),
    ],
)
def test_snapshot_is_for_those_who_do_not_recover(
    subscribe: Subscribe, found: StartPoint | None, recovered: bool
) -> None:
    assert recovers("energy", ring(first=5), subscribe, found) is recovered


def test_reply_with_a_snapshot_begins_at_its_position() -> None:
    told = SnapshotTold(True, None, 3)
    lost = Subscribed("x-1", False, 4, Unrecovered.RETENTION, "x-0", (1,))
    reply = after_snapshot(lost, at(9, 9), told)
    assert reply == Subscribed(
        f"{EPOCH}-9.9", False, None, Unrecovered.RETENTION, "x-0", (1,), snapshot=told
    )
    assert after_snapshot(Subscribed("x-1"), at(9, 9), told).replayed == 0


def test_no_more_is_scanned_than_allowed() -> None:
    found = StartPoint(at(10, 0), at(0, 0))
    assert within_scan(found, at(20, 10), 20) == found
    assert within_scan(found, at(20, 10), 10) == StartPoint(
        at(15, 5), at(15, 5), Unrecovered.HISTORY_EXCEEDED
    )
