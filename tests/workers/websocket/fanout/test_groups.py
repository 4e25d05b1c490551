"""Live subscriptions, grouped by the keys that they get."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.protocol import frame
from energyws.protocol.keys import EVERYBODY, KeyFilter
from energyws.protocol.messages import OnLag
from tests.workers.websocket.fanout.keyed_stream import keys
from workers.websocket.fanout.groups import LEAST_CROWD, Groups, KeyedSubscription

GAP = frame.lagged("s", 3, "ab-1", "ab-4", "RETENTION")
filters = st.builds(
    lambda exact, prefixes: keys(*exact, prefixes=prefixes),
    st.sets(st.sampled_from(["a", "ab", "abc", "b"])),
    st.sets(st.sampled_from(["a", "ab", "b"])),
)


class Sink:
    """A transport that sends nothing."""

    def write_nocheck(self, data: bytes) -> None:
        """Drop it."""

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False


class Client:
    sink = Sink()


def join(groups: Groups, wanted: KeyFilter, told_at: float = 0.0) -> KeyedSubscription:
    client: Any = Client()
    subscription = KeyedSubscription(client, OnLag.SKIP, groups.group(wanted))
    subscription.told_at = told_at
    groups.join(subscription)
    return subscription


@given(st.lists(filters, max_size=12), st.data())
def test_each_group_gets_the_frames_of_its_keys(
    wanted: list[KeyFilter], data: st.DataObject
) -> None:
    groups = Groups(None)
    joined = [(each, join(groups, each)) for each in wanted]
    for left in data.draw(st.sets(st.sampled_from(range(len(joined))))) if joined else ():
        groups.leave(joined[left][1])
        joined[left] = (keys(), joined[left][1])
    members = [(each, subscription) for each, subscription in joined if len(each)]
    sent: list[bytes | None] = data.draw(
        st.lists(st.sampled_from([b"a", b"ab", b"abc", b"abcd", b"b", b"zz", None, EVERYBODY]))
    )
    frames = [GAP if key == EVERYBODY else b"%d" % n for n, key in enumerate(sent)]
    told = [
        frame.uncounted(GAP) if key == EVERYBODY else f for f, key in zip(frames, sent, strict=True)
    ]
    touched = groups.touch(frames, sent)
    assert len(touched) == len(set(touched))
    for each, subscription in members:
        expected = [f for f, key in zip(told, sent, strict=True) if each.admits(key)]
        assert (subscription.group.frames or []) == expected
        assert (subscription.group in touched) == bool(expected)


def test_same_keys_are_one_group_and_nobodys_group_is_none() -> None:
    groups = Groups(None)
    one = join(groups, keys("a", "b", prefixes=("c",)))
    other = join(groups, keys("b", "a", prefixes=("c",)))
    assert one.group is other.group
    assert groups.keys == 3
    groups.leave(one)
    assert groups.keys == 3
    groups.leave(other)
    assert groups.keys == 0
    assert groups.touch([b"x", GAP], [b"a", EVERYBODY]) == []


def test_a_group_that_was_left_can_be_joined_again() -> None:
    groups = Groups(None)
    paused = join(groups, keys("a"))
    groups.leave(paused)
    other = join(groups, keys("a"))
    groups.join(paused)
    assert paused.group is other.group
    assert set(paused.group.everyone()) == {paused, other}


def test_a_large_group_is_a_crowd() -> None:
    groups = Groups(None)
    members = [join(groups, keys("a")) for _ in range(LEAST_CROWD - 1)]
    group = members[0].group
    assert group.crowd is None
    members += [join(groups, keys("a")) for _ in range(3)]
    assert group.crowd is not None
    assert set(group.everyone()) == set(members)
    for gone in members[:5]:
        groups.leave(gone)
    assert set(group.everyone()) == set(members[5:])
    for gone in members[5:]:
        groups.leave(gone)
    assert groups.keys == 0


def due(groups: Groups, now: float, half: float = -1e9) -> list[float]:
    return [group.told_at for group in groups.due(now, 20.0, half)]


def test_those_told_longest_ago_are_due_first() -> None:
    groups = Groups(None)
    members = [join(groups, keys(f"{n}"), float(n)) for n in range(5)]
    assert due(groups, 14.0) == []
    assert due(groups, 22.5) == [0.0, 1.0, 2.0]
    groups.told(members[0].group, 22.5)
    assert due(groups, 22.5) == [1.0, 2.0]


def test_those_told_together_are_told_again_over_some_time() -> None:
    groups = Groups(None)
    members = [join(groups, keys(f"{n}"), 100.0) for n in range(1_000)]
    told = []
    for second in range(25):
        now = 100.0 + second
        found = groups.due(now, 20.0, -1e9)
        told.append(len(found))
        for group in found:
            groups.told(group, now)
    assert told == [0] * 15 + [200] * 5 + [0] * 5
    assert all(member.group.told_at >= 115.0 for member in members)


def test_those_whose_place_is_about_to_leave_the_ring_are_due_earlier_but_not_too_often() -> None:
    groups = Groups(None)
    join(groups, keys("a"), 100.0)
    join(groups, keys("b"), 104.0)
    assert due(groups, 108.0, half=103.0) == [100.0]
    # The ring holds less than a second.
    assert due(groups, 108.0, half=107.9) == [100.0]
    assert due(groups, 109.0, half=108.9) == [100.0, 104.0]


@pytest.mark.parametrize(("of_each", "most"), [(1, 400), (3, 190), (10, 90)])
def test_memory_of_a_client_and_key(of_each: int, most: int) -> None:
    """Bytes, all told but for the key's own text, which the request has made."""
    names = [f"7359990000{n:08}".encode() for n in range(of_each * 2_000)]
    wanted = [
        KeyFilter(frozenset(names[at : at + of_each])) for at in range(0, len(names), of_each)
    ]
    groups = Groups(None)
    client: Any = Client()
    gc.collect()
    tracemalloc.start()
    kept = []
    for each in wanted:
        subscription = KeyedSubscription(client, OnLag.SKIP, groups.group(each))
        groups.join(subscription)
        kept.append(subscription)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (size - sys.getsizeof(kept)) / len(names) <= most
