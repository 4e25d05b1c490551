"""Clients that get some keys are told where they are: never beyond what they got, and in time."""

from __future__ import annotations

import pytest

from energyws.process.board import Field
from energyws.protocol.forms import Form
from energyws.protocol.keys import EVERYTHING
from energyws.protocol.messages import OnLag
from energyws.protocol.position import from_offsets
from tests.workers.websocket.fanout.keyed_stream import Client, KeyedStream
from tests.workers.websocket.fanout.test_keyed_order import CLOCK
from workers.websocket.fanout import catch_up, keyed_fanout, keyed_live
from workers.websocket.fanout.groups import KeyedSubscription


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catch_up, "time", CLOCK)
    monkeypatch.setattr(keyed_live, "time", CLOCK)
    monkeypatch.setattr(keyed_fanout, "time", CLOCK)


@pytest.fixture
def stream() -> KeyedStream:
    made = KeyedStream()
    made.now = CLOCK.now
    return made


def pass_time(stream: KeyedStream, seconds: float) -> None:
    CLOCK.now += seconds
    stream.now = CLOCK.now
    stream.fanout.catch_up.tick()
    stream.fanout.tick(20.0)
    stream.settle()


def test_a_quiet_client_is_told_its_position_and_one_with_records_is_not(
    stream: KeyedStream,
) -> None:
    quiet, busy = stream.client("a"), stream.client("b")
    for _ in range(30):
        stream.record("b")
        stream.settle()
        pass_time(stream, 1.0)
    assert len(busy.numbers) == 30
    assert busy.told == []
    assert len(quiet.told) in (1, 2)
    assert stream.row[Field.POSITIONS_SENT] == len(quiet.told)


def test_nothing_is_told_while_nothing_comes(stream: KeyedStream) -> None:
    client = stream.client("a")
    for _ in range(5):
        pass_time(stream, 30.0)
    assert client.told == []


def test_records_without_a_frame_are_told_too(stream: KeyedStream) -> None:
    client = stream.client("a")
    stream.hole()
    pass_time(stream, 21.0)
    assert client.told == [stream.head]


def test_a_place_in_the_older_half_of_the_ring_is_told_earlier() -> None:
    stream = KeyedStream(max_frames=10)
    stream.now = CLOCK.now
    client = stream.client("a")
    for _ in range(14):
        stream.record("b")
        stream.settle()
        pass_time(stream, 0.5)
    assert client.told
    located = stream.fanout.ring.locate(client.place)
    assert located.complete


def test_a_ping_is_followed_by_the_position_if_it_has_moved(stream: KeyedStream) -> None:
    client = stream.client("a")
    CLOCK.now += 1
    stream.fanout.tell(client)
    assert client.told == []
    stream.record("b")
    stream.settle()
    CLOCK.now += 1
    stream.fanout.tell(client)
    CLOCK.now += 1
    stream.fanout.tell(client)
    assert client.told == [stream.head]


def test_the_last_word_is_where_the_client_is(stream: KeyedStream) -> None:
    live, paused = stream.client("a"), stream.client("a")
    stream.record("a")
    stream.settle()
    at_pause = stream.head
    paused.pause()
    stream.record("b")
    stream.record("a")
    stream.settle()
    for client, place in ((live, stream.head), (paused, at_pause)):
        word = stream.fanout.last_word(client)
        assert word is not None
        client.write(word)
        assert client.place == place
    assert stream.fanout.last_word(Client(stream, live.wanted)) is None


def test_a_herd_that_returns_reads_no_log_and_gets_nothing_twice() -> None:
    stream = KeyedStream(max_frames=50)
    stream.now = CLOCK.now
    before = [stream.client(f"{n}") for n in range(10)]
    places = []
    for n in range(10):
        stream.record(f"{n}")
        stream.settle()
    for client in before:
        word = stream.fanout.last_word(client)
        assert word is not None
        client.write(word)
        places.append(client.place)
        stream.fanout.leave(client)
    stream.record("3")
    after = [stream.client(f"{n}", resume=place) for n, place in enumerate(places)]
    stream.settle()
    assert [each.numbers for each in after] == [[10] if n == 3 else [] for n in range(10)]
    assert stream.log.ready == {}


def test_a_scan_of_the_log_is_shared_and_tells_where_it_is() -> None:
    stream = KeyedStream(max_frames=5)
    begin = stream.head
    numbers = [stream.record(f"{n % 7}") for n in range(40)]
    clients = [stream.client(f"{n}", resume=begin) for n in range(7)]
    stream.settle()
    for n, client in enumerate(clients):
        assert client.numbers == numbers[n::7]
        assert client.told
    # A chunk has three records.
    assert len(stream.log.ready) <= 14
    assert stream.row[Field.SCAN_RECORDS] == 7 * sum(
        chunk.frames for chunk in stream.log.ready.values()
    )


def test_an_interrupted_scan_goes_on_where_it_was() -> None:
    stream = KeyedStream(max_frames=5)
    for _ in range(30):
        stream.record("b")
    first = stream.client("a", resume=from_offsets(stream.epoch, [0, 0]))
    stream.fanout.work(1, CLOCK.now)
    stream.log.answer(10)
    CLOCK.now += 1
    stream.fanout.work(1, CLOCK.now)
    assert first.told == [from_offsets(stream.epoch, [10, 0])]


@pytest.mark.parametrize("on_lag", [OnLag.SKIP, OnLag.LATEST])
def test_a_client_that_falls_off_the_ring_is_told_without_a_count(on_lag: OnLag) -> None:
    stream = KeyedStream(max_frames=3)
    stream.now = CLOCK.now
    client = stream.client("a", on_lag=on_lag)
    client.pause()
    for _ in range(10):
        stream.record("a")
    stream.fanout.work(100, CLOCK.now)
    client.resume()
    stream.settle()
    (lagged,) = [each for each in client.received if each["type"] == "lagged"]
    assert lagged["missed"] is None
    assert client.numbers == ([] if on_lag is OnLag.SKIP else [9])


def test_a_subscription_that_ends_hears_how_far_it_was_searched() -> None:
    stream = KeyedStream(max_frames=3, form=Form.LINES)
    begin = stream.head
    for n in range(12):
        stream.record("a" if n == 1 else "b")
    client = stream.client("a", resume=begin)
    stream.settle()
    assert client.numbers == [1]
    assert client.over == stream.head
    assert client.place.offsets[0] > 2


def test_events_tell_positions_by_an_id_alone() -> None:
    stream = KeyedStream(form=Form.SSE)
    client = stream.client("a")
    wrote: list[bytes] = []
    client.write = wrote.append  # type: ignore[method-assign]
    stream.record("b")
    stream.settle()
    CLOCK.now += 1
    stream.fanout.tell(client)
    assert wrote == [f"id: {stream.head}\n\n".encode()]


def test_recreated_topic_is_reported_and_followed(stream: KeyedStream) -> None:
    client, paused = stream.client("a"), stream.client("a")
    paused.pause()
    stream.record("a")
    stream.settle()
    stream.recreate()
    number = stream.record("a")
    paused.resume()
    stream.settle()
    for each in (client, paused):
        assert each.received[-2]["type"] == "lagged"
        assert each.numbers[-1] == number


def test_positions_are_told_over_many_turns_of_few_writes(stream: KeyedStream) -> None:
    clients = [stream.client(f"{n}") for n in range(50)]
    stream.record("x")
    stream.settle()
    CLOCK.now += 21.0
    stream.fanout.tick(20.0)
    for _ in range(10):
        assert stream.fanout.is_busy()
        stream.fanout.work(5, CLOCK.now)
    assert not stream.fanout.is_busy()
    assert all(client.told == [stream.head] for client in clients)


def counts(client: Client) -> list[object]:
    """The numbers of records, and how many others a position says they supersede."""
    return [
        message["data"]["n"] if message["type"] == "data" else f"-{message.get('conflated')}"
        for message in client.received
    ]


def counts_of(client: Client) -> list[int]:
    """For each message of a record or of others that it supersedes, how many these are."""
    return [1 if message["type"] == "data" else message["conflated"] for message in client.received]


def test_at_most_so_often_the_newest_of_each_key(stream: KeyedStream) -> None:
    gauge = stream.client("a", "b", rate=0.5)
    for _ in range(3):
        for key in "aabx":
            stream.record(key)
        stream.settle()
        CLOCK.now += 0.5
    # The first at once, then what is newest after two seconds.
    assert counts(gauge) == [1, 2, "-1"]
    CLOCK.now += 0.4
    stream.settle()
    assert stream.fanout.wake_at == pytest.approx(CLOCK.now + 0.1)
    CLOCK.now += 0.2
    assert stream.fanout.is_busy()
    stream.settle()
    assert counts(gauge)[3:] == [9, 10, "-4"]
    assert stream.row[Field.CONFLATED] == gauge.conflated == 5
    assert stream.fanout.wake_at > CLOCK.now


def test_everything_at_most_so_often_is_also_what_has_no_key(stream: KeyedStream) -> None:
    gauge = Client(stream, EVERYTHING, rate=1.0)
    stream.subscribe(gauge)
    for key in ("a", None, "b", None, "a"):
        stream.record(key)
    stream.settle()
    assert counts(gauge) == [2, 3, 4, "-2"]


def test_a_place_that_is_told_is_before_what_waits(stream: KeyedStream) -> None:
    gauge = stream.client("a", rate=0.01)
    stream.record("a")
    stream.settle()
    CLOCK.now += 1.0
    for key in "xaxax":
        stream.record(key)
        stream.settle()
    CLOCK.now += 1.0
    stream.fanout.tell(gauge)
    # Before the first that waits; the client checks it.
    assert gauge.place.offsets[0] == 2
    word = stream.fanout.last_word(gauge)
    assert word is not None
    gauge.write(word)
    assert counts(gauge)[-2:] == [4, "-1"]
    assert gauge.place == stream.head


def test_a_gauge_that_pauses_gets_the_newest_when_it_reads_again(stream: KeyedStream) -> None:
    gauge = stream.client("a", rate=0.01)
    for _ in range(4):
        stream.record("a")
        stream.settle()
    gauge.pause()
    for _ in range(4):
        stream.record("a")
    gauge.resume()
    stream.settle()
    assert counts(gauge) == [0, 7, "-6"]


def test_gauges_share_nothing_and_resume_with_the_newest_from_the_log() -> None:
    stream = KeyedStream(max_frames=5)
    stream.now = CLOCK.now
    begin = stream.head
    for n in range(40):
        stream.record("ab"[n % 2])
    gauge, other = (stream.client("a", rate=rate, resume=begin) for rate in (1.0, 2.0))
    stream.settle()
    for each in (gauge, other):
        # Of the log and the ring together.
        assert counts(each) == [38, "-19"]
        assert each.place == stream.head
    assert stream.row[Field.CONFLATED] == 38


def test_a_scan_that_takes_long_keeps_the_rate_and_counts_exactly() -> None:
    stream = KeyedStream(max_frames=5)
    begin = stream.head
    for _ in range(40):
        stream.record("a")
    gauge = stream.client("a", rate=0.5, resume=begin)
    fast = stream.client("a", resume=begin)
    stream.fanout.work(100, CLOCK.now)
    while gauge.place != stream.head:
        CLOCK.now += 0.7
        stream.now = CLOCK.now
        if stream.log.requested:
            stream.log.answer(3)
        # A chunk of three every 0.7 seconds: with every fourth, it is its turn.
        for _ in range(2):
            stream.fanout.work(100, CLOCK.now)
        assert gauge.place.offsets[0] == sum(counts_of(gauge))
    assert counts(gauge)[:4] == [11, "-11", 23, "-11"]
    assert sum(counts_of(gauge)) == 40
    assert len(fast.numbers) == 40


def test_a_scan_keeps_no_more_for_a_gauge_than_a_live_one_may_have(
    stream: KeyedStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("energyws.stream.conflation.MOST_BYTES", 800)
    stream = KeyedStream(max_frames=5)
    begin = stream.head
    for n in range(40):
        stream.record(f"{n}")
    gauge = Client(stream, EVERYTHING, rate=0.01)
    stream.subscribe(gauge, resume=begin)
    most = 0
    while stream.log.requested or stream.fanout.is_busy():
        if stream.log.requested:
            stream.log.answer(3)
        stream.fanout.work(1, CLOCK.now)
        (pending,) = [
            each.group.pending
            for each in [stream.fanout.catch_up.find(gauge), stream.fanout.live.members.get(gauge)]
            if isinstance(each, KeyedSubscription)
        ]
        assert pending is not None
        most = max(most, pending.size)
    assert 0 < most < 800
    assert gauge.numbers == list(range(40))


def gauge_behind_the_ring(on_lag: OnLag = OnLag.SKIP) -> tuple[KeyedStream, Client]:
    """It has asked the log for the 20 records of its key, of which the ring has five."""
    stream = KeyedStream(max_frames=5)
    begin = stream.head
    for _ in range(20):
        stream.record("a")
    gauge = stream.client("a", rate=0.01, resume=begin, on_lag=on_lag)
    stream.fanout.work(100, CLOCK.now)
    return stream, gauge


def test_records_of_the_log_wait_for_nothing_where_it_ends_with_the_ring() -> None:
    stream, gauge = gauge_behind_the_ring()
    stream.log.answer(20)
    stream.fanout.work(100, CLOCK.now)
    assert (gauge.numbers, stream.fanout.is_busy()) == ([], True)
    stream.fanout.work(100, CLOCK.now)
    assert (counts(gauge), stream.fanout.is_busy()) == ([19, "-19"], False)


def test_records_of_the_log_that_wait_come_before_a_gap() -> None:
    stream, gauge = gauge_behind_the_ring(OnLag.LATEST)
    stream.log.answer(17)
    stream.fanout.work(100, CLOCK.now)
    gauge.pause()
    stream.fanout.work(100, CLOCK.now)
    for _ in range(10):
        stream.record("a")
    gauge.resume()
    stream.settle()
    assert [each["type"] for each in gauge.received[:2]] == ["data", "lagged"]
    assert gauge.numbers == [16, 29]
    assert gauge.conflated == 16 + 4


def test_who_leaves_while_records_of_the_log_wait_comes_back_to_before_them() -> None:
    stream = KeyedStream(max_frames=5)
    begin = stream.head
    for n in range(20):
        stream.record("xxxa"[n % 4])
    gauge = stream.client("a", rate=0.01, resume=begin)
    stream.fanout.work(100, CLOCK.now)
    stream.log.answer(7)
    stream.fanout.work(100, CLOCK.now)
    word = stream.fanout.last_word(gauge)
    assert word is not None
    gauge.write(word)
    assert (gauge.numbers, gauge.place) == ([], begin)


def test_records_of_the_log_that_wait_end_with_their_topic() -> None:
    stream, gauge = gauge_behind_the_ring()
    stream.log.answer(7)
    stream.fanout.work(100, CLOCK.now)
    stream.recreate()
    number = stream.record("a")
    stream.settle()
    CLOCK.now += 101.0
    stream.settle()
    assert [each["type"] for each in gauge.received] == ["lagged", "data"]
    assert gauge.numbers == [number]


def test_what_waits_for_a_gauge_comes_before_the_end_of_its_topic(stream: KeyedStream) -> None:
    gauge = stream.client("a", rate=0.01)
    for _ in range(3):
        stream.record("a")
        stream.settle()
    stream.recreate()
    assert [each["type"] for each in gauge.received] == ["data", "data", "position", "lagged"]
    assert gauge.numbers == [0, 2]
