"""Finding entries and frames by key."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.protocol import frame
from energyws.protocol.frame import DataFrames
from energyws.protocol.keys import EVERYBODY, KeyFilter
from energyws.stream import key_index
from energyws.stream.key_index import ChunkKeys, KeyIndex

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
    monkeypatch.setattr(key_index, "_SPARE", 4)
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
    assert ChunkKeys(data).find(wanted, data) == [
        frame.uncounted(each) if key == EVERYBODY else each
        for key, each in zip(made, frames, strict=True)
        if wanted.admits(key)
    ]


def test_dropping_and_adding_cost_the_same_in_any_ring() -> None:
    """What is kept besides the entries does not grow with those that were dropped."""
    index = KeyIndex()
    sizes = []
    for number in range(20_000):
        index.append(b"%d" % (number % 7))
        if number >= 100:
            index.drop()
        sizes.append(len(index._previous))
    assert max(sizes) <= 2 * key_index._SPARE + 200
    assert sum(after < before for before, after in pairwise(sizes)) < 30
