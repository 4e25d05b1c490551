"""A frame whose position is behind what a client has gets a position that covers it."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.protocol.frame import DataFrames, lagged, split
from energyws.protocol.frame_position import covering, position_of
from energyws.protocol.position import Position, from_offsets, parse

EPOCH = "7f3a90c2"
FRAMES = DataFrames("energy")
# A record may have fields named as ours.
RECORD = b'{"n":1,"id":"1-1","to":"2-2"}'

positions = st.lists(st.integers(0, 2**62), min_size=1, max_size=5).map(
    lambda offsets: from_offsets(EPOCH, offsets)
)


def at(*offsets: int, epoch: str = EPOCH) -> Position:
    return from_offsets(epoch, offsets)


def content(frame: bytes) -> dict[str, object]:
    ((whole, payload),) = split(frame)
    assert whole == frame
    message: dict[str, object] = orjson.loads(payload)
    return message


@given(positions, positions, st.integers(0, 70_000))
def test_position_covers_both_and_all_else_is_unchanged(
    own: Position, known: Position, size: int
) -> None:
    record = b'{"pad":"%b","id":"1-1"}' % (b"x" * size)
    frame = FRAMES.build(0, record, str(own))
    message = content(covering(frame, known))
    assert parse(str(message["id"])) == own.merge(known)
    assert {**message, "id": str(own)} == content(frame)


@pytest.mark.parametrize("known", [at(1), at(3, 4), at(0, 0), at(9, 9, epoch="beef")])
def test_frame_that_covers_it_stays_the_same(known: Position) -> None:
    frame = FRAMES.build(0, RECORD, str(at(3, 4)))
    # A position of another topic says nothing about this one.
    assert covering(frame, known) is frame


@given(positions, positions)
def test_removal_is_no_different(own: Position, known: Position) -> None:
    frame = FRAMES.removed(0, str(own), b"m7")
    message = content(covering(frame, known))
    assert parse(str(message["id"])) == own.merge(known)
    assert {**message, "id": str(own)} == content(frame)


def test_gap_ends_where_the_client_is() -> None:
    frame = lagged("energy", 3, f"{EPOCH}-0.4", f"{EPOCH}-3.4", "RETENTION")
    message = content(covering(frame, at(1, 7)))
    assert message["to"] == f"{EPOCH}-3.7"
    assert {**message, "to": f"{EPOCH}-3.4"} == content(frame)


def test_client_beyond_the_log_is_taken_back() -> None:
    frame = lagged("energy", None, f"{EPOCH}-9.9", f"{EPOCH}-3.4", "POSITION_AHEAD")
    assert covering(frame, at(9, 9)) is frame


def test_position_of_a_frame_is_the_end_of_what_it_covers() -> None:
    assert position_of(FRAMES.build(0, RECORD, str(at(4, 5)))) == at(4, 5)
    report = lagged("energy", 3, str(at(1, 1)), str(at(2, 3)), "LAGGED")
    assert position_of(report) == at(2, 3)
