from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.protocol.keys import KeyFilter, escaped
from energyws.protocol.position import Position
from energyws.stream.bus_messages import BadMessage
from energyws.stream.snapshot_messages import (
    FindValues,
    Found,
    NotNow,
    OtherTable,
    ScanValues,
    Slice,
    SnapshotAnswer,
    SnapshotRequest,
    TableState,
    pack_answer,
    pack_request,
    unpack_answer,
    unpack_request,
)

u63 = st.integers(0, 2**63 - 1)
# Line feeds and quotes among them, escaped.
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).map(escaped)
names = st.text(min_size=1, max_size=10)
filters = st.builds(
    KeyFilter,
    st.frozensets(keys, max_size=4),
    st.lists(keys, max_size=3).map(tuple),
)
requests: st.SearchStrategy[SnapshotRequest] = st.one_of(
    st.builds(
        FindValues, u63, names, st.booleans(), st.lists(keys, min_size=1, max_size=5).map(tuple)
    ),
    st.builds(
        ScanValues,
        u63,
        names,
        st.booleans(),
        st.none() | filters,
        u63,
        st.none() | st.text("0123456789abcdef", min_size=1),
        st.none() | u63,
    ),
)
states = st.builds(
    TableState,
    st.builds(
        Position,
        st.text("0123456789abcdef", min_size=1, max_size=16),
        st.lists(u63, min_size=1, max_size=4).map(tuple),
    ),
    st.booleans(),
    st.none() | u63,
    u63,
    st.text("0123456789abcdef"),
    u63,
)
answers: st.SearchStrategy[SnapshotAnswer] = st.one_of(
    st.builds(Found, states, st.lists(st.binary(max_size=9), min_size=1, max_size=5)),
    st.builds(Slice, states, u63, st.binary(), st.none() | u63),
    st.just(NotNow()),
    st.just(OtherTable()),
)


@given(requests)
def test_request_comes_as_it_was_sent(request: SnapshotRequest) -> None:
    assert unpack_request(pack_request(request)) == request


@given(u63, answers)
def test_answer_comes_as_it_was_sent(ask: int, answer: SnapshotAnswer) -> None:
    assert unpack_answer(pack_answer(ask, answer)) == (ask, answer)


@pytest.mark.parametrize(
    "parts", [[], [b""], [b"{}"], [b"[1]"], [b'[1,"scan","s",true]', b"", b""], [b"[1,[2]]", b""]]
)
def test_other_bytes_are_refused(parts: Sequence[bytes]) -> None:
    with pytest.raises(BadMessage):
        unpack_request(parts)
    with pytest.raises(BadMessage):
        unpack_answer(parts)
