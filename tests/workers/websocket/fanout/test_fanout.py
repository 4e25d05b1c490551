"""Fan-out to clients that pause, lag, resume and leave, without a socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.process.board import Field
from energyws.protocol.forms import Form
from energyws.protocol.messages import OnLag
from energyws.protocol.position import Position, from_offsets
from energyws.stream.ring import Entry, Ring
from tests.workers.websocket.fanout.one_stream import EPOCH, FRAMES, OneStream, ReadingClient


def test_paused_client_catches_up_and_does_not_delay_others(stream: OneStream) -> None:
    slow, quick = ReadingClient(pause_after=1), ReadingClient()
    stream.subscribe(slow)
    stream.subscribe(quick)
    for _ in range(50):
        stream.records(1)
        stream.settle()
    assert quick.numbers == list(range(50))
    assert slow.numbers == [0]
    assert len(stream.fanout.catch_up) == 1
    assert (slow.lagged, quick.lagged) == (1, 0)
    slow.resume()
    stream.settle()
    stream.records(2)
    stream.settle()
    assert slow.numbers == list(range(52))
    assert slow.gaps == []
    assert slow.skips == []
    assert len(stream.fanout.catch_up) == 0


@pytest.mark.parametrize("on_lag", list(OnLag))
def test_client_that_falls_off_the_ring_gets_a_report(on_lag: OnLag) -> None:
    stream = OneStream(max_frames=10)
    slow = ReadingClient(pause_after=1)
    stream.subscribe(slow, on_lag=on_lag)
    stream.records(1)
    stream.settle()
    for _ in range(30):
        stream.records(1)
        stream.settle()
    slow.resume()
    stream.settle()
    if on_lag is OnLag.DISCONNECT:
        assert slow.gone
        assert slow.numbers == [0]
        return
    live = stream.records(2)
    stream.settle()
    (gap,) = slow.gaps
    missed = gap["missed"]
    assert isinstance(missed, int)
    assert gap["from"] == f"{EPOCH}-1.0"
    # Every record is either delivered or counted.
    assert len(slow.numbers) + missed == stream.sent
    assert slow.numbers[-2:] == live
    assert missed == (30 if on_lag is OnLag.SKIP else 29)
    assert slow.skips == [(missed, on_lag is OnLag.LATEST)]


def test_latest_jumps_to_the_newest_frame_even_within_the_ring(stream: OneStream) -> None:
    gauge = ReadingClient(pause_after=1)
    stream.subscribe(gauge, on_lag=OnLag.LATEST)
    stream.records(1)
    stream.settle()
    stream.records(9)
    stream.settle()
    gauge.resume()
    stream.settle()
    assert gauge.numbers == [0, 9]
    assert [gap["missed"] for gap in gauge.gaps] == [8]


def test_recreated_topic_is_reported_once(stream: OneStream) -> None:
    live, paused = ReadingClient(), ReadingClient(pause_after=1)
    stream.subscribe(live)
    stream.subscribe(paused)
    stream.records(2)
    stream.settle()
    stream.fanout.restart(Ring(stream.limits, from_offsets("beef", [0, 0])))
    frame = FRAMES.build(0, b'{"n":100}', "beef-1.0")
    stream.fanout.ring.append(Entry(0, 0, 0, frame), 0.0)
    stream.settle()
    assert [gap["reason"] for gap in live.gaps] == ["EPOCH_CHANGED"]
    assert live.numbers == [0, 1, 100]
    paused.resume()
    stream.settle()
    assert paused.numbers == [0, 1, 100]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("records"), st.integers(1, 20)),
            st.tuples(st.just("turn"), st.integers(1, 5)),
            st.tuples(st.just("toggle"), st.integers(0, 3)),
            st.tuples(st.just("pause later"), st.integers(0, 3)),
            st.tuples(st.just("again"), st.integers(0, 3)),
            st.tuples(st.just("answer"), st.just(0)),
        ),
        max_size=60,
    ),
    st.sampled_from([Form.PLAIN, Form.DEFLATE, Form.SSE]),
)
def test_every_client_gets_every_record_once_or_a_report(
    script: list[tuple[str, int]], form: Form
) -> None:
    """Clients pause, resume and reconnect; delivered + missed = sent, and none twice."""
    stream = OneStream(max_frames=12, form=form)
    clients = [ReadingClient() for _ in range(4)]
    slow = set()
    for client in clients:
        stream.subscribe(client)
    for action, argument in script:
        client = clients[argument % 4]
        if action == "records":
            stream.records(argument)
        elif action == "turn":
            stream.fanout.work(argument, stream.now)
        elif action == "answer":
            stream.answer()
        elif action == "toggle":
            slow.add(client)
            client.pause() if client.writable else client.resume()
        elif action == "pause later":
            slow.add(client)
            client.pause_after = client.writes + 1
        else:
            ids = [m["id"] if m["type"] == "data" else m["to"] for m in client.received]
            position = ids[-1] if ids else f"{EPOCH}-0.0"
            reply = stream.subscribe(client, resume={"energy": position})
            assert reply.recovered
    for client in clients:
        client.pause_after = None
        if not client.writable:
            client.resume()
    stream.settle()
    stream.records(2)
    stream.settle()
    for client in clients:
        numbers = client.numbers
        assert len(numbers) == len(set(numbers))
        assert numbers == sorted(numbers)  # type: ignore[type-var]
        missed = sum(gap["missed"] for gap in client.gaps)  # type: ignore[misc]
        assert len(numbers) + missed == stream.sent
        assert numbers[-1] == stream.sent - 1
        # A client that was never slow has missed nothing.
        assert client in slow or not missed


def test_compressed_clients_get_the_same_records_in_fewer_bytes() -> None:
    counted = []
    for form in (Form.PLAIN, Form.DEFLATE):
        stream = OneStream(max_frames=40, form=form)
        live = ReadingClient()
        stream.subscribe(live)
        stream.records(60)
        stream.settle()
        catching, replayed = ReadingClient(), ReadingClient()
        stream.subscribe(catching, resume={"energy": f"{EPOCH}-20.20"})
        stream.subscribe(replayed, resume={"energy": f"{EPOCH}-0.0"})
        stream.settle()
        assert live.numbers[-40:] == list(range(20, 60))
        assert catching.numbers == list(range(40, 60))
        assert replayed.numbers == list(range(60))
        counted.append((stream.row[Field.DELIVERIES], stream.row[Field.BYTES]))
    (plain, plain_bytes), (small, small_bytes) = counted
    assert plain == small
    # These records are small, so compression saves only a part of the envelope.
    assert small_bytes < plain_bytes


def test_recreated_topic_is_reported_in_the_clients_form() -> None:
    stream = OneStream(form=Form.SSE)
    written: list[bytes] = []
    client = ReadingClient()
    client.write = written.append  # type: ignore[method-assign]
    stream.subscribe(client)
    stream.fanout.restart(Ring(stream.limits, from_offsets("beef", [0, 0])))
    (report,) = written
    assert report.startswith(b"event: lagged\nid: beef-0.0\ndata: {")


class EndingClient(ReadingClient):
    """A client whose subscriptions end. ended: where; None before that."""

    def __init__(self) -> None:
        super().__init__()
        self.form = Form.LINES
        self.ended: str | None = None

    def caught_up(self, position: Position) -> None:
        assert self.ended is None
        self.ended = str(position)


def test_subscription_that_ends_has_everything_however_slowly_its_client_reads() -> None:
    stream = OneStream(max_frames=10, form=Form.LINES)
    stream.records(30)
    client = EndingClient()
    stream.subscribe(client, resume={"energy": f"{EPOCH}-0.0"})
    stream.fanout.work(1, stream.now)
    stream.answer()
    for _ in range(4):
        client.pause_after = client.writes + 1
        while client.writable and client.ended is None:
            stream.fanout.work(1, stream.now)
            stream.answer()
        # Meanwhile the ring forgets what it has not read.
        stream.records(15)
        client.resume()
    client.pause_after = None
    stream.settle()
    assert client.numbers == list(range(90))
    assert client.gaps == []
    assert client.ended == str(stream.fanout.ring.head)
    stream.records(1)
    stream.settle()
    assert len(client.numbers) == 90


def test_subscription_that_ends_where_it_begins_ends_at_once() -> None:
    stream = OneStream(form=Form.LINES)
    stream.records(4)
    client = EndingClient()
    stream.subscribe(client)
    assert (client.received, client.ended) == ([], str(stream.fanout.ring.head))


def test_subscription_that_ends_does_so_in_a_topic_that_is_created_anew() -> None:
    stream = OneStream(form=Form.LINES)
    stream.records(4)
    client = EndingClient()
    stream.subscribe(client, last=2)
    stream.fanout.restart(Ring(stream.limits, from_offsets("beef", [0, 0])))
    assert [gap["reason"] for gap in client.gaps] == ["EPOCH_CHANGED"]
    assert client.ended == "beef-0.0"


def test_subscription_that_ends_reads_the_log_where_the_ring_has_forgotten() -> None:
    stream = OneStream(max_frames=10, form=Form.LINES)
    stream.records(10)
    client = EndingClient()
    stream.subscribe(client, last=10)
    client.pause()
    stream.fanout.work(1, stream.now)
    stream.records(20)
    client.resume()
    stream.settle()
    assert (client.numbers, client.gaps) == (list(range(30)), [])
