"""Clients that take records at most so often: when it is their turn."""

from __future__ import annotations

from typing import Any

from energyws.protocol.messages import OnLag
from energyws.protocol.position import from_offsets
from energyws.stream import conflation
from tests.stream.test_conflation import record as keyed_record
from tests.workers.websocket.fanout.keyed_stream import keys
from tests.workers.websocket.fanout.test_groups import Client
from workers.websocket.fanout.groups import KeyedSubscription, SlowGroup
from workers.websocket.fanout.rounds import Waiting


def record(number: int, size: int = 0) -> bytes:
    return keyed_record(number, b"a", size)


START = (7, from_offsets("ab", [7]))


def member(interval: float) -> KeyedSubscription:
    client: Any = Client()
    made = KeyedSubscription(client, OnLag.SKIP, SlowGroup(keys("a"), interval))
    made.group.members = (made,)
    return made


def test_first_frames_are_due_at_once_and_later_ones_after_a_pause() -> None:
    waiting, slow = Waiting(), member(2.0)
    pending = slow.group.pending
    assert pending is not None
    members = {slow.client: slow}
    waiting.hold(slow.group, [record(1)], START)
    assert waiting.due(10.0, 5, members) == [slow]
    pending.take(10.0)
    waiting.hold(slow.group, [record(2)], START)
    waiting.hold(slow.group, [record(3)], START)
    assert waiting.wake_at == 12.0
    assert waiting.due(11.9, 5, members) == []
    assert waiting.due(12.0, 5, members) == [slow]
    assert list(pending.frames.values()) == [record(3)]


def test_too_much_is_due_at_once() -> None:
    waiting, slow = Waiting(), member(2.0)
    pending = slow.group.pending
    assert pending is not None
    pending.due_at = 100.0
    waiting.hold(slow.group, [record(1, conflation.MOST_BYTES)], START)
    assert waiting.due(1.0, 5, {slow.client: slow}) == [slow]


def test_who_has_left_or_has_nothing_is_not_due() -> None:
    waiting, gone, served = Waiting(), member(2.0), member(2.0)
    for each in (gone, served):
        waiting.hold(each.group, [record(1)], START)
    assert served.group.pending is not None
    served.group.pending.take(1.0)
    assert waiting.due(1.0, 5, {served.client: served}) == []
