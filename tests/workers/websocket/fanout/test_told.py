"""When clients that get some keys are told where they are: in time, and not twice.

What each was told last is remembered of its group while it is live, and of itself while it is not.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from energyws.protocol.messages import OnLag
from energyws.settings import History
from tests.workers.websocket.fanout.keyed_stream import STREAM, Client, KeyedStream
from tests.workers.websocket.fanout.test_keyed_order import CLOCK
from workers.websocket.fanout import catch_up, keyed_fanout, keyed_live
from workers.websocket.fanout.keyed_fanout import KeyedFanout


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (catch_up, keyed_live, keyed_fanout):
        monkeypatch.setattr(module, "time", CLOCK)


@pytest.fixture
def stream() -> KeyedStream:
    made = KeyedStream()
    made.now = CLOCK.now
    return made


def wait(stream: KeyedStream, seconds: float) -> None:
    """Time passes, and others have records."""
    CLOCK.now += seconds
    stream.now = CLOCK.now
    stream.record("x")
    stream.settle()


def tick(stream: KeyedStream) -> None:
    stream.fanout.tick(20.0)
    stream.settle()


def pause_and_resume(stream: KeyedStream, client: Client) -> None:
    client.pause()
    stream.settle()
    client.resume()
    stream.settle()


def round_under_way(stream: KeyedStream) -> None:
    """A round that has been to one of two groups."""
    others = stream.client("b"), stream.client("c")
    stream.record("b")
    stream.record("c")
    stream.fanout.work(1, CLOCK.now)
    assert sum(len(each.numbers) for each in others) == 1


def test_client_that_was_just_told_is_not_told_again_after_a_pause(stream: KeyedStream) -> None:
    client = stream.client("a")
    wait(stream, 21.0)
    tick(stream)
    assert client.told == [stream.head]
    wait(stream, 1.0)
    pause_and_resume(stream, client)
    assert len(client.told) == 1


def test_a_pause_does_not_put_off_what_is_due(stream: KeyedStream) -> None:
    client = stream.client("a")
    wait(stream, 15.0)
    pause_and_resume(stream, client)
    # It was told long ago, so it is told now.
    assert client.told == [stream.head]
    wait(stream, 3.0)
    pause_and_resume(stream, client)
    assert len(client.told) == 1
    # 20 seconds after it was told, not after it paused.
    wait(stream, 17.5)
    tick(stream)
    assert client.told[1:] == [stream.head]


def test_client_that_pauses_before_it_is_told_is_told_when_it_reads_again(
    stream: KeyedStream,
) -> None:
    client = stream.client("a")
    wait(stream, 21.0)
    stream.fanout.tick(20.0)
    pause_and_resume(stream, client)
    assert client.told == [stream.head]


def test_client_that_pauses_in_the_round_in_which_it_came_is_not_told_anew(
    stream: KeyedStream,
) -> None:
    CLOCK.now += 100.0
    round_under_way(stream)
    client = stream.client("a")
    pause_and_resume(stream, client)
    assert client.told == []


def test_client_that_came_in_a_round_is_told_where_it_is_and_nobody_else(
    stream: KeyedStream,
) -> None:
    before = stream.client("a")
    wait(stream, 1.0)
    round_under_way(stream)
    CLOCK.now += 10.0
    late = stream.client("a")
    stream.fanout.tell(late)
    assert late.told == [stream.head]
    stream.settle()
    wait(stream, 10.0)
    tick(stream)
    assert before.told == [stream.head]


def test_one_that_joins_its_group_later_does_not_put_off_what_is_due(stream: KeyedStream) -> None:
    quiet = stream.client("a")
    wait(stream, 15.0)
    stream.client("a")
    wait(stream, 6.0)
    tick(stream)
    assert quiet.told == [stream.head]


def test_one_that_returns_has_no_other_told(stream: KeyedStream) -> None:
    begin = stream.head
    wait(stream, 1.0)
    wait(stream, 30.0)
    quiet = stream.client("a")
    wait(stream, 1.0)
    returns = stream.client("a", resume=begin)
    stream.settle()
    wait(stream, 1.0)
    tick(stream)
    assert len(returns.told) == 1
    assert quiet.told == []


def test_the_ping_of_one_tells_no_other(stream: KeyedStream) -> None:
    quiet, pings = stream.client("a"), stream.client("a")
    for _ in range(5):
        wait(stream, 5.0)
        stream.fanout.tell(pings)
        tick(stream)
    assert len(pings.told) >= 5
    assert quiet.told


def test_a_ping_after_a_tick_is_answered_once(stream: KeyedStream) -> None:
    client = stream.client("a")
    wait(stream, 21.0)
    stream.fanout.tick(20.0)
    stream.fanout.tell(client)
    assert client.told == [stream.head]
    stream.settle()
    assert len(client.told) == 1


def test_client_that_returns_to_what_came_long_ago_is_told_at_once(stream: KeyedStream) -> None:
    begin = stream.head
    for _ in range(3):
        wait(stream, 10.0)
    # Somebody has just been told, and a tick looks no further.
    stream.client("b")
    client = stream.client("a", resume=begin)
    stream.settle()
    assert client.told == [stream.head]


def test_client_that_returns_and_pauses_before_it_is_told_is_told_later(
    stream: KeyedStream,
) -> None:
    begin = stream.head
    wait(stream, 1.0)
    wait(stream, 30.0)
    client = stream.client("a", resume=begin)
    stream.fanout.work(1, CLOCK.now)
    assert client in stream.fanout.live.members
    assert client.told == []
    pause_and_resume(stream, client)
    assert client.told == [stream.head]


def test_client_that_returns_to_what_has_just_come_is_not_told(stream: KeyedStream) -> None:
    wait(stream, 30.0)
    begin = stream.head
    wait(stream, 1.0)
    client = stream.client("a", resume=begin)
    stream.settle()
    assert client.told == []


def test_first_client_of_a_fanout_is_told_of_what_came_before_it(stream: KeyedStream) -> None:
    begin = stream.head
    wait(stream, 1.0)
    stream.fanout = KeyedFanout(STREAM, stream.fanout.ring, stream.fanout.catch_up._log, stream.row)
    client = stream.client("a", resume=begin)
    stream.settle()
    # It has just come, so it waits as if it had heard of it.
    assert client.told == []
    CLOCK.now += 21.0
    tick(stream)
    assert client.told == [stream.head]


def test_a_scan_tells_once_a_second_and_at_its_end() -> None:
    stream = KeyedStream(max_frames=5)
    stream.now = CLOCK.now
    begin = stream.head
    for _ in range(40):
        stream.record("b")
    client = stream.client("a", resume=begin)
    told: list[float] = []
    while client.place != stream.head:
        CLOCK.now += 0.4
        stream.fanout.work(1, CLOCK.now)
        told += [CLOCK.now] * (len(client.told) - len(told))
        if stream.log.requested:
            stream.log.answer(2)
    assert len(told) > 5
    assert all(after - before >= 1.0 for before, after in pairwise(told[:-1]))
    assert max(after - before for before, after in pairwise(told)) < 2.0


def test_client_with_a_rate_is_told_of_the_end_of_its_scan(stream: KeyedStream) -> None:
    begin = stream.head
    stream.limits = History(max_frames=5)
    stream.reopen()
    numbers = [stream.record(key) for key in "abxxxxx"]
    gauge = stream.client("a", "b", rate=1.0, resume=begin)
    stream.fanout.work(10, CLOCK.now)
    stream.log.answer(10)
    stream.settle()
    assert gauge.numbers == numbers[:2]
    assert gauge.told == [stream.head]


def test_client_with_a_rate_is_told_in_time_of_what_follows_its_scan(
    stream: KeyedStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("energyws.stream.keyed_cursor.SCAN_ENTRIES", 2)
    begin = stream.head
    stream.limits = History(max_frames=5)
    stream.reopen()
    for key in "axxxxxxxx":
        stream.record(key)
    tick(stream)
    CLOCK.now += 1.0
    gauge = stream.client("a", prefixes=("a",), rate=1.0, resume=begin)
    stream.settle()
    # It was told when it got its record, and others followed.
    assert gauge.numbers == [0]
    assert gauge.place != stream.head
    CLOCK.now += 21.0
    tick(stream)
    assert gauge.place == stream.head


def test_a_turn_that_says_where_its_client_is_counts(stream: KeyedStream) -> None:
    gauge = stream.client("a", rate=0.5)
    for _ in range(3):
        stream.record("a")
        stream.settle()
    CLOCK.now += 2.0
    stream.settle()
    assert (gauge.numbers, gauge.conflated) == ([0, 2], 1)
    CLOCK.now += 1.0
    stream.fanout.tell(gauge)
    assert len(gauge.told) == 1


def test_latest_is_told_behind_what_it_gets(stream: KeyedStream) -> None:
    client = stream.client("a", on_lag=OnLag.LATEST)
    client.pause()
    for _ in range(3):
        stream.record("a")
    stream.settle()
    client.resume()
    stream.settle()
    assert (client.numbers, client.conflated) == ([2], 2)
    assert client.told == [stream.head]
