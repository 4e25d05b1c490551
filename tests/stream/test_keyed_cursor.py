"""Cursors that find their entries by key, and what they say about a gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson
import pytest

from energyws.protocol import frame
from energyws.protocol.frame import DataFrames
from energyws.protocol.keys import KeyFilter
from energyws.protocol.messages import OnLag
from energyws.protocol.position import Position, from_offsets
from energyws.settings import History
from energyws.stream import keyed_cursor
from energyws.stream.keyed_cursor import KeyedCursor, newest, replayed
from energyws.stream.ring import Entry, Ring, gap_entries

ENOUGH: Final = 1 << 20


@dataclass(frozen=True)
class Newest:
    """The newest records of these keys."""

    exact: frozenset[bytes]
    prefixes: tuple[bytes, ...] = ()
    conflates: bool = True


A = KeyFilter(frozenset({b"a"}))


def at(offset: int) -> Position:
    return from_offsets("ab", [offset])


def ring_of(keys: str, **limits: int) -> Ring:
    """A record for each letter, which is its key; "." is one without a key."""
    ring = Ring(History(**limits), at(0), keyed=True)
    for number, key in enumerate(keys):
        text = None if key == "." else key.encode()
        data = DataFrames("s").build(0, b"{}", str(at(number + 1)), text)
        ring.append(Entry(0, number, 0, data), float(number))
    return ring


def offsets(frames: list[bytes]) -> list[int]:
    ids = [orjson.loads(frame.payload(each))["id"] for each in frames]
    return [int(each.partition("-")[2]) - 1 for each in ids]


def test_a_cursor_takes_the_frames_of_its_keys() -> None:
    ring = ring_of("ab.aaba")
    cursor = KeyedCursor(0, at(0), OnLag.SKIP, A)
    frames, skipped = cursor.take("s", ring, ring.end, ENOUGH, 0.0)
    assert (offsets(frames), skipped, cursor.index) == ([0, 3, 4, 6], 0, 7)
    assert cursor.position(ring) == at(7)


def test_a_cursor_takes_what_fits_and_stands_before_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keyed_cursor, "MOST_FOUND", 2)
    ring = ring_of("abbabbabba")
    cursor = KeyedCursor(0, at(0), OnLag.SKIP, A)
    taken = []
    while cursor.index < ring.end:
        frames, _ = cursor.take("s", ring, ring.end, 100, 0.0)
        taken += offsets(frames)
        # It has everything of its own before the place that it says it is at.
        place = cursor.position(ring).offsets[0]
        assert taken == [n for n in (0, 3, 6, 9) if n < place]
    assert taken == [0, 3, 6, 9]


def test_a_cursor_that_stands_ahead_of_live_clients_stays_there() -> None:
    ring = ring_of("aaaa")
    cursor = KeyedCursor(4, at(4), OnLag.SKIP, A)
    assert cursor.take("s", ring, 2, ENOUGH, 0.0) == ([], 0)
    assert cursor.index == 4


def test_a_prefix_is_looked_for_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyed_cursor, "SCAN_ENTRIES", 3)
    ring = ring_of("abbabbab")
    cursor = KeyedCursor(0, at(0), OnLag.SKIP, KeyFilter(frozenset(), (b"a",)))
    steps = []
    while cursor.index < ring.end:
        steps.append(offsets(cursor.take("s", ring, ring.end, ENOUGH, 0.0)[0]))
    assert steps == [[0], [3], [6]]


def test_records_that_the_client_has_are_left_out() -> None:
    ring = ring_of("aaaa")
    cursor = KeyedCursor(0, at(0), OnLag.SKIP, A)
    cursor.skip_to(at(2), 0.0)
    assert offsets(cursor.take("s", ring, ring.end, ENOUGH, 0.0)[0]) == [2, 3]
    assert replayed(ring, A, at(2)) == 2


def test_frames_for_a_prefix_are_counted_and_searched_for_within_bounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keyed_cursor, "SCAN_ENTRIES", 3)
    monkeypatch.setattr(keyed_cursor, "PREFIX_ENTRIES", 4)
    ring = ring_of("aaabab")
    prefix = KeyFilter(frozenset(), (b"a",))
    assert [replayed(ring, prefix, at(n)) for n in (0, 3)] == [None, 1]
    assert replayed(ring, A, at(0)) == 4
    assert [newest(ring, prefix, count) for count in (0, 1, 2, 3)] == [
        (6, 0),
        (4, 1),
        (2, 2),
        (2, 2),
    ]
    assert newest(ring, A, 4) == (0, 4)


def test_how_many_of_the_missing_records_were_its_own_is_unknown() -> None:
    ring = ring_of("abaaab", max_frames=2)
    cursor = KeyedCursor(1, at(1), OnLag.SKIP, A)
    (report,), skipped = cursor.take("s", ring, ring.end, ENOUGH, 0.0)
    message = orjson.loads(frame.payload(report))
    assert (message["missed"], message["from"], message["to"]) == (None, "ab-1", "ab-6")
    assert skipped == 5


@pytest.mark.parametrize(
    ("keys", "begin", "taken", "conflated"),
    [
        # Nothing of its own, one, and more; the newest is its own, and another's.
        ("abbb", 1, [], 0),
        ("abab", 1, [2], 0),
        ("ababa", 1, [4], 1),
        ("abaaab", 0, [4], 3),
        # From here on, some have left the ring, which has seven.
        ("bbabbbabb", 0, [6], 1),
        ("bbbbbbbbb", 0, [], 0),
    ],
)
def test_who_wants_the_latest_only_gets_the_newest_of_its_own(
    keys: str, begin: int, taken: list[int], conflated: int
) -> None:
    ring = ring_of(keys, max_frames=7)
    cursor = KeyedCursor(begin, at(begin), OnLag.LATEST, A)
    reports, _ = cursor.jump_to_newest("s", ring, ring.end)
    # A gap is reported only where some are not known any more.
    assert len(reports) == (begin < ring.first)
    frames, _ = cursor.take("s", ring, ring.end, ENOUGH, 0.0)
    assert offsets(frames[: len(taken)]) == taken
    assert len(frames) == len(taken)
    assert cursor.conflated == conflated
    assert cursor.position(ring) == at(len(keys))


def test_what_it_has_found_is_void_once_it_has_left_the_ring() -> None:
    ring = ring_of("aaaa", max_frames=4)
    cursor = KeyedCursor(0, at(0), OnLag.SKIP, A)
    assert offsets(cursor.take("s", ring, 4, 1, 0.0)[0]) == [0]
    for number in range(4, 12):
        data = DataFrames("s").build(0, b"{}", str(at(number + 1)), b"a")
        ring.append(Entry(0, number, 0, data), 0.0)
    (report,), _ = cursor.take("s", ring, 10, ENOUGH, 0.0)
    assert orjson.loads(frame.payload(report))["to"] == "ab-10"
    assert offsets(cursor.take("s", ring, 12, ENOUGH, 0.0)[0]) == [10, 11]


def test_a_gap_is_for_everybody_and_without_a_count() -> None:
    ring = ring_of("ab")
    (gap,) = gap_entries("s", at(2), at(9), "RETENTION")
    ring.append(gap, 0.0)
    cursor = KeyedCursor(1, at(1), OnLag.SKIP, A)
    (report,), _ = cursor.take("s", ring, ring.end, ENOUGH, 0.0)
    assert report == frame.lagged("s", None, "ab-2", "ab-9", "RETENTION")


def conflating(ring: Ring, index: int = 0) -> KeyedCursor:
    return KeyedCursor(index, at(index), OnLag.SKIP, Newest(frozenset({b"a", b"b"})))


def test_newest_of_each_key_then_how_many_they_supersede() -> None:
    ring = ring_of("abaabxa")
    cursor = conflating(ring)
    frames, _ = cursor.take("s", ring, ring.end, ENOUGH, 0.0)
    # 4 of 6 records are not sent.
    assert offsets(frames) == [4, 6]
    assert cursor.position(ring) == at(7)
    assert cursor.take("s", ring, ring.end, ENOUGH, 0.0) == ([], 0)
    assert cursor.conflated == 4


def test_what_is_counted_as_superseded_is_before_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(keyed_cursor, "MOST_FOUND", 1)
    ring = ring_of("aabbab")
    cursor = conflating(ring)
    taken = []
    while cursor.index < ring.end:
        taken += offsets(cursor.take("s", ring, ring.end, 100, 0.0)[0])
        assert cursor.position(ring).offsets[0] == len(taken) + cursor.conflated
    assert (taken, cursor.conflated) == ([4, 5], 4)


def test_latest_after_a_pause_is_the_newest_of_each_key() -> None:
    ring = ring_of("abaab")
    cursor = KeyedCursor(1, at(1), OnLag.LATEST, KeyFilter(frozenset({b"a", b"b"})))
    assert cursor.jump_to_newest("s", ring, 4) == ([], 0)
    assert offsets(cursor.take("s", ring, ring.end, ENOUGH, 0.0)[0]) == [1, 3]
    assert cursor.conflated == 1
    # What came later is not of the pause.
    assert offsets(cursor.take("s", ring, ring.end, ENOUGH, 0.0)[0]) == [4]
    assert cursor.conflated == 1


def test_records_that_the_client_has_are_not_superseded() -> None:
    ring = ring_of("aaaa")
    cursor = conflating(ring)
    cursor.skip_to(at(2), 0.0)
    assert offsets(cursor.take("s", ring, ring.end, ENOUGH, 0.0)[0]) == [3]
    assert cursor.conflated == 1


@pytest.mark.parametrize("conflates", [False, True])
def test_who_falls_off_the_ring_goes_on_live_or_with_the_newest_of_each_key(
    conflates: bool,
) -> None:
    ring = ring_of("abaabab", max_frames=5)
    wanted = Newest(A.exact, conflates=conflates)
    cursor = KeyedCursor(0, at(0), OnLag.SKIP, wanted)
    (report,), _ = cursor.take("s", ring, ring.end, ENOUGH, 0.0)
    message = orjson.loads(frame.payload(report))
    # As without keys: a client is paused only if it does not read its own records.
    assert (message["from"], message["to"]) == ("ab-0", "ab-2" if conflates else "ab-7")
    frames, _ = cursor.take("s", ring, ring.end, ENOUGH, 0.0)
    assert (offsets(frames), cursor.conflated) == (([5], 2) if conflates else ([], 0))
