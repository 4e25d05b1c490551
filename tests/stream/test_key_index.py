"""Finding entries and frames by key."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.protocol import frame
from energyws.protocol.frame import DataFrames
from energyws.protocol.keys import EVERYBODY, EVERYTHING, KeyFilter
from energyws.stream import key_index
from energyws.stream.key_index import ChunkKeys, KeyIndex
from tests.stream.test_keyed_cursor import Newest

KEYS = [b"a", b"ab", b"abc", b"b", EVERYBODY, None]
filters = st.builds(
    KeyFilter,
    st.frozensets(st.sampled_from([b"a", b"ab", b"b", b"zz"])),
    st.lists(st.sampled_from([b"a", b"ab", b"z"]), unique=True).map(tuple),
)
keys = st.lists(st.sampled_from(KEYS), max_size=60)


def build(made: list[bytes | None], dropped: int) -> KeyIndex:
    index = KeyIndex()
    for key in made:
        index.append(key)
    for _ in range(dropped):
        index.drop()
    return index


@given(keys, filters, st.data())
def test_entries_are_found_by_key(
    made: list[bytes | None], wanted: KeyFilter, data: st.DataObject
) -> None:
    dropped = data.draw(st.integers(0, len(made)))
    start = data.draw(st.integers(dropped, len(made)))
    stop = data.draw(st.integers(start, len(made)))
    index = build(made, dropped)
    assert index.find(wanted, start, stop) == [
        number for number in range(start, stop) if wanted.admits(made[number])
    ]
    assert index.read(start, stop) == made[start:stop]
    assert [index[number] for number in range(dropped, len(made))] == made[dropped:]
    assert len(index) == len(set(made[dropped:]) - {None})


def test_room_of_dropped_entries_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_index, "SPARE", 4)
    index = KeyIndex()
    made: list[bytes | None] = []
    for number in range(100):
        made.append(KEYS[number % 6])
        index.append(made[-1])
        if number >= 10:
            index.drop()
            first = number - 9
            for key in (b"a", b"b"):
                found = index.find(KeyFilter(frozenset({key})), first, len(made))
                expected = (key, EVERYBODY)
                assert found == [n for n in range(first, len(made)) if made[n] in expected]
    assert len(index._keys) < 40


def message(key: bytes | None, number: int) -> bytes:
    if key == EVERYBODY:
        return frame.lagged("s", number, "ab-1", "ab-2", "RETENTION")
    return DataFrames("s").build(0, b'{"n":%d}' % number, f"ab-{number}", key)


@given(keys, filters)
def test_frames_of_a_chunk_are_found_by_key(made: list[bytes | None], wanted: KeyFilter) -> None:
    frames = [message(key, number) for number, key in enumerate(made)]
    data = b"".join(frames)
    assert ChunkKeys(data).find(wanted, data) == (
        [
            frame.uncounted(each) if key == EVERYBODY else each
            for key, each in zip(made, frames, strict=True)
            if wanted.admits(key)
        ],
        0,
    )


def test_dropping_and_adding_cost_the_same_in_any_ring() -> None:
    """What is kept besides the entries does not grow with those that were dropped."""
    index = KeyIndex()
    sizes = []
    for number in range(20_000):
        index.append(b"%d" % (number % 7))
        if number >= 100:
            index.drop()
        sizes.append(len(index._previous))
    assert max(sizes) <= 2 * key_index.SPARE + 200
    assert sum(after < before for before, after in pairwise(sizes)) < 30


@given(keys, filters, st.integers(1, 5))
def test_newest_entries_of_each_key_and_how_many_they_supersede(
    made: list[bytes | None], wanted: KeyFilter, most: int
) -> None:
    index = build(made, 0)
    found = index.find(wanted, 0, len(made))
    last = {made[number]: number for number in found if made[number] != EVERYBODY}
    expected = [n for n in found if made[n] == EVERYBODY or last[made[n]] == n]
    newest, superseded, stop = index.newest(found, most, len(made))
    assert newest == expected[:most]
    assert stop == (len(made) if len(expected) <= most else expected[most])
    for place, number in enumerate([*newest, stop]):
        before = newest[place - 1] if place else -1
        assert superseded[place] == sum(before < each < number for each in found)


def test_everything_is_also_what_has_no_key() -> None:
    made = [b"a", None, EVERYBODY, b"b"]
    assert build(made, 0).find(EVERYTHING, 0, 4) == [0, 1, 2, 3]
    data = b"".join(message(key, number) for number, key in enumerate(made))
    assert len(ChunkKeys(data).find(EVERYTHING, data)[0]) == 4


def test_of_a_chunk_newer_frames_supersede_older_ones() -> None:
    made = [b"a", None, b"b", b"a", EVERYBODY, None, b"a"]
    frames = [message(key, number) for number, key in enumerate(made)]
    data = b"".join(frames)
    for wanted, numbers, superseded in (
        (KeyFilter(frozenset({b"a"})), [4, 6], 2),
        (EVERYTHING, [2, 4, 5, 6], 3),
    ):
        slow = Newest(wanted.exact, wanted.prefixes)
        expected = [frame.uncounted(frames[n]) if n == 4 else frames[n] for n in numbers]
        assert ChunkKeys(data).find(slow, data) == (expected, superseded)
