from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.protocol import frame
from energyws.protocol.frame import DataFrames, split
from energyws.protocol.keys import (
    EVERYBODY,
    MAX_KEY_BYTES,
    KeyFilter,
    escaped,
    key_of,
    key_of_snapshot,
    shortest,
)

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
FRAMES = DataFrames("energy")


def _payload(message: bytes) -> bytes:
    ((_, payload),) = split(message)
    return payload


@given(KEYS, st.dictionaries(st.text(), st.text()))
def test_the_key_in_a_frame_is_what_was_put_there(key: str, data: dict[str, str]) -> None:
    record = orjson.dumps({**data, "key": "x", "id": '","key":"y","id":"'})
    message = FRAMES.build(0, record, "7f-1.2", escaped(key))

    assert key_of(_payload(message)) == escaped(key)
    assert orjson.loads(_payload(message))["key"] == key
    assert orjson.loads(_payload(message))["id"] == "7f-1.2"


@given(KEYS)
def test_a_removal_has_a_key(key: str) -> None:
    payload = _payload(FRAMES.removed(0, "7f-1.2", escaped(key)))

    assert key_of(payload) == escaped(key)
    assert orjson.loads(payload)["key"] == key


def test_a_record_without_a_key_has_none() -> None:
    data = b'{"key":"x","id":"y"}'
    assert key_of(_payload(FRAMES.build(0, data, "7f-1"))) is None


def test_a_gap_concerns_everybody() -> None:
    assert key_of(_payload(frame.lagged("energy", 3, None, "7f-1", "RETENTION"))) == EVERYBODY


@pytest.mark.parametrize("key", ["", "\ud800", "ä" * (MAX_KEY_BYTES // 2 + 1)])
def test_keys_that_no_record_can_have_are_refused(key: str) -> None:
    with pytest.raises(ValueError, match="a key"):
        escaped(key)


@given(KEYS, KEYS)
def test_a_prefix_admits_what_begins_with_it(key: str, prefix: str) -> None:
    only = KeyFilter(frozenset(), (escaped(prefix),))

    assert only.admits(escaped(key)) is key.startswith(prefix)
    assert only.admits(escaped(prefix + key))


def test_a_filter_admits_its_keys_and_gaps() -> None:
    only = KeyFilter(frozenset({b"a", b"b"}))

    assert len(only) == 2
    assert only.admits(b"a")
    assert only.admits(EVERYBODY)
    assert not only.admits(b"ab")
    assert not only.admits(None)


@given(st.one_of(KEYS, st.text('a",\\:', min_size=1)))
def test_a_value_of_a_snapshot_has_a_key(key: str) -> None:
    data = b'{"key":"x","timestamp":"y"}'
    payload = _payload(DataFrames('a","key":"b').snapshot(escaped(key), 0, data))

    assert key_of_snapshot(payload) == escaped(key)
    assert orjson.loads(payload)["key"] == key


FILTERS = st.builds(
    KeyFilter,
    st.frozensets(st.sampled_from([b"a", b"ab", b"abc", b"b", b"bc"])),
    st.lists(st.sampled_from([b"", b"a", b"ab", b"abc", b"b"]), max_size=3).map(tuple),
)


@given(st.lists(FILTERS, min_size=1, max_size=5), st.text("abc", min_size=1, max_size=4))
def test_what_filters_have_in_common_is_what_all_of_them_admit(
    filters: list[KeyFilter], text: str
) -> None:
    key, common = text.encode(), filters[0]
    for each in filters[1:]:
        common = common.common(each)

    assert common.admits(key) is all(each.admits(key) for each in filters)
    # Nothing is in it for two reasons.
    if len(filters) > 1 and filters[0] != filters[1]:
        assert shortest(common.prefixes) == common.prefixes
        assert not any(name.startswith(common.prefixes) for name in common.exact)
