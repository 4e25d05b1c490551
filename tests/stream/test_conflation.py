"""The newest frame of each key waits for its turn."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from energyws.protocol import frame
from energyws.protocol.frame import DataFrames
from energyws.stream import conflation
from energyws.stream.conflation import Alarms, Pending

GAP = frame.lagged("s", None, "ab-1", "ab-4", "RETENTION")


def record(number: int, key: bytes | None, size: int = 0) -> bytes:
    data = b'{"n":%d,"pad":"%b"}' % (number, b"x" * size)
    return DataFrames("s").build(0, data, f"ab-{number}", key)


@given(st.lists(st.sampled_from([b"a", b"b", None]), max_size=20))
def test_newest_of_each_key_stays_in_the_order_in_which_they_came(keys: list[bytes | None]) -> None:
    frames = [record(number, key) for number, key in enumerate(keys)]
    pending = Pending(1.0)
    pending.add(frames)
    last = {key: number for number, key in enumerate(keys)}
    taken, conflated = pending.take(5.0)
    assert taken == [frames[number] for number in sorted(last.values())]
    assert conflated == len(frames) - len(taken)
    assert (pending.frames, pending.size, pending.due_at) == ({}, 0, 6.0)
    assert pending.take(6.0) == ([], 0)


def test_no_gap_supersedes_another() -> None:
    other = frame.lagged("s", None, "ab-5", "ab-9", "RETENTION")
    pending = Pending(1.0)
    pending.add([GAP, record(4, b"a"), other])
    assert pending.take(0.0) == ([GAP, record(4, b"a"), other], 0)


def test_what_was_dropped_is_not_counted() -> None:
    pending = Pending(1.0)
    pending.add([record(1, b"a"), record(2, b"a")])
    pending.drop()
    pending.add([record(3, b"a")])
    assert pending.take(0.0) == ([record(3, b"a")], 0)


def test_little_waits_and_much_does_not() -> None:
    pending = Pending(1.0)
    size = conflation.MOST_BYTES // 2
    pending.add([record(1, b"a", size), record(2, b"a", size)])
    assert not pending.is_full
    pending.add([record(3, b"b", size)])
    assert pending.is_full


def test_alarms_come_in_their_order_and_a_few_at_a_time() -> None:
    alarms: Alarms[str] = Alarms()
    assert alarms.next_at == math.inf
    for at, name in ((3.0, "c"), (1.0, "a"), (2.0, "b"), (1.0, "a2")):
        alarms.add(at, name)
    assert alarms.next_at == 1.0
    assert alarms.take(0.5, 10) == []
    assert alarms.take(2.5, 1) == ["a"]
    assert alarms.take(2.5, 10) == ["a2", "b"]
    assert alarms.next_at == 3.0
