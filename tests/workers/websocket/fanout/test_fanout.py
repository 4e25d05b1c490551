"""Fan-out with clients that pause, lag, resume and leave, without a socket."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyws.process.board import Board, Field
from energyws.protocol.deflate import Shrinker, inflate
from energyws.protocol.frame import DataFrames
from energyws.protocol.messages import OnLag, Subscribe, Subscribed
from energyws.protocol.position import Position, from_offsets
from energyws.settings import History
from energyws.stream.fair_queue import QueueFull
from energyws.stream.history import Block, Chunk, StartPoint, Stored, assemble
from energyws.stream.recovery import history_request
from energyws.stream.ring import Entry, Ring
from workers.websocket.fanout.fanout import Fanout
from workers.websocket.fanout.subscription import FanoutClient

EPOCH = "abcd0123"
FRAMES = DataFrames("energy")


def messages(data: bytes) -> list[dict[str, object]]:
    """The JSON of the text frames in these bytes, compressed or not."""
    found = []
    while data:
        size, begin = data[1], 2
        if size == 126:
            size, begin = int.from_bytes(data[2:4], "big"), 4
        payload = data[begin : begin + size]
        assert data[0] in (0x81, 0xC1)
        found.append(orjson.loads(inflate(payload, 10_000) if data[0] == 0xC1 else payload))
        data = data[begin + size :]
    return found


class FakeClient:
    """Remembers what it was sent; pauses, in the middle of a write, after `pause_after` writes."""

    def __init__(self, pause_after: int | None = None) -> None:
        self.writable = True
        self.compressed = False
        self.subject = "tester"
        self.fanout: Fanout | None = None
        self.received: list[dict[str, object]] = []
        self.writes = 0
        self.gone = False
        self.lagged = 0
        self.left_out: list[tuple[int, bool]] = []
        self.pause_after = pause_after

    @property
    def sink(self) -> FakeClient:
        return self

    def write_nocheck(self, data: bytes) -> None:
        self.write(data)

    def write(self, data: bytes) -> None:
        self.received += messages(data)
        self.writes += 1
        if self.writes == self.pause_after:
            self.pause()

    def pause(self) -> None:
        self.writable = False
        assert self.fanout is not None
        self.fanout.pause_writing(self)

    def resume(self) -> None:
        self.writable = True
        assert self.fanout is not None
        self.fanout.resume_writing(self)

    def subscribed(self, streams: dict[str, Subscribed]) -> None:
        raise AssertionError("the hub's business")

    def too_slow(self) -> None:
        self.gone = True

    def history_unavailable(self) -> None:
        self.gone = True

    def lagging(self, stream: str) -> None:
        assert stream == "energy"
        self.lagged += 1

    def skipped(self, stream: str, frames: int, by_choice: bool) -> None:
        assert stream == "energy"
        self.left_out.append((frames, by_choice))

    @property
    def numbers(self) -> list[object]:
        return [m["data"]["n"] for m in self.received if m["type"] == "data"]  # type: ignore[index]

    @property
    def gaps(self) -> list[dict[str, object]]:
        return [m for m in self.received if m["type"] == "lagged"]


class FakeLog:
    """All records; answers when a test says so."""

    def __init__(self) -> None:
        self.partitions: list[list[Stored]] = [[], []]
        self.asked: list[Position] = []
        self.ready: dict[Position, Chunk] = {}
        self.max_bytes = 400
        self.full = False
        self.withdrawn: list[FanoutClient] = []

    def withdraw(self, requester: FanoutClient, stream: str) -> None:
        self.withdrawn.append(requester)

    def chunk(self, requester: FanoutClient, stream: str, position: Position) -> Chunk | None:
        if self.full:
            raise QueueFull("no room")
        if position not in self.ready and position not in self.asked:
            self.asked.append(position)
        return self.ready.get(position)

    def answer(self, position: Position) -> None:
        self.asked.remove(position)
        head = from_offsets(EPOCH, [len(records) for records in self.partitions])
        self.ready[position] = assemble(FRAMES, position, head, self._block, self.max_bytes)

    def _block(self, partition: int, offset: int) -> Block | None:
        return Block(0, len(self.partitions[partition]), self.partitions[partition])


class Bench:
    """A fan-out with a ring of `max_frames`, and records that count up."""

    def __init__(self, max_frames: int = 100, *, compressed: bool = False) -> None:
        self.board = Board.create()
        self.row = self.board.row(0)
        self.limits = History(max_frames=max_frames)
        self.log = FakeLog()
        ring = Ring(self.limits, from_offsets(EPOCH, [0, 0]))
        shrink = Shrinker(2_000) if compressed else None
        self.fanout = Fanout("energy", ring, self.log, self.row, shrink)
        self.sent = 0
        self.now = 0.0

    def records(self, count: int = 1) -> list[int]:
        """Append records, alternating between two partitions."""
        numbers = list(range(self.sent, self.sent + count))
        for number in numbers:
            partition, offset = number % 2, number // 2
            head = self.fanout.ring.head.after(partition, offset)
            data = orjson.dumps({"n": number})
            frame = FRAMES.build(number, data, str(head))
            self.log.partitions[partition].append(Stored(offset, number, data))
            self.fanout.ring.append(Entry(partition, offset, number, frame), self.now)
        self.sent += count
        return numbers

    def answer(self) -> None:
        """The log answers the oldest request."""
        if self.log.asked:
            position = self.log.asked[0]
            self.log.answer(position)
            self.fanout.catch_up.arrived(position)

    def settle(self, writes: int = 1000) -> None:
        """Make turns until nothing is left to do."""
        for _ in range(10_000):
            self.answer()
            if not self.fanout.is_busy() and not self.fanout.has_news() and not self.log.asked:
                return
            self.fanout.work(writes, self.now)
        raise AssertionError("it does not settle")

    def subscribe(self, client: FakeClient, **fields: object) -> Subscribed:
        client.fanout = self.fanout
        request = Subscribe(
            ("energy",),
            fields.get("resume", {}),  # type: ignore[arg-type]
            fields.get("last"),  # type: ignore[arg-type]
            fields.get("on_lag", OnLag.SKIP),  # type: ignore[arg-type]
        )
        query = history_request("energy", self.fanout.ring, request)
        found = None
        if query is not None and query.after is not None:
            found = StartPoint(query.after, from_offsets(EPOCH, [0, 0]))
        return self.fanout.subscribe(client, request, found, self.now)


@pytest.fixture
def bench() -> Iterable[Bench]:
    made = Bench()
    yield made
    del made.row, made.fanout._row


def test_pending_frames_are_one_write(bench: Bench) -> None:
    clients = [FakeClient() for _ in range(3)]
    for client in clients:
        bench.subscribe(client)
    numbers = bench.records(20)
    bench.settle()
    assert [client.numbers for client in clients] == [numbers] * 3
    assert [client.writes for client in clients] == [1] * 3
    assert bench.row[Field.DELIVERIES] == 60
    assert bench.row[Field.WRITES] == 3


def test_turn_makes_no_more_writes_than_allowed(bench: Bench) -> None:
    clients = [FakeClient() for _ in range(10)]
    for client in clients:
        bench.subscribe(client)
    bench.records(1)
    assert bench.fanout.work(4, 0.0) == 0
    assert sum(client.writes for client in clients) == 4
    # Later records wait for the next round, and no client gets any twice.
    bench.records(2)
    bench.settle(writes=4)
    assert [client.numbers for client in clients] == [[0, 1, 2]] * 10


def test_client_that_subscribes_during_a_fan_out_gets_what_comes_after_it(bench: Bench) -> None:
    early = [FakeClient() for _ in range(6)]
    for client in early:
        bench.subscribe(client)
    bench.records(3)
    bench.fanout.work(2, 0.0)
    late = FakeClient()
    told = bench.subscribe(late)
    bench.records(2)
    bench.settle()
    assert late.numbers == [3, 4]
    assert told.position == f"{EPOCH}-2.1"
    assert [client.numbers for client in early] == [[0, 1, 2, 3, 4]] * 6


def test_client_that_leaves_during_a_fan_out_gets_nothing_more(bench: Bench) -> None:
    clients = [FakeClient() for _ in range(4)]
    for client in clients:
        bench.subscribe(client)
    bench.records(1)
    bench.fanout.work(2, 0.0)
    for client in clients:
        bench.fanout.leave(client)
    bench.settle()
    assert sorted(client.writes for client in clients) == [0, 0, 1, 1]
    assert len(bench.fanout.catch_up) == 0
    assert bench.row[Field.DELIVERIES] == 2


def test_first_client_changes(bench: Bench) -> None:
    clients = [FakeClient() for _ in range(20)]
    for client in clients:
        bench.subscribe(client)
    first = set()
    for round_ in range(50):
        bench.records(1)
        bench.fanout.work(1, 0.0)
        first |= {at for at, client in enumerate(clients) if client.writes > round_}
        bench.settle()
    # By chance it does not once in 20 ** 49 times.
    assert len(first) > 1
    assert [client.numbers for client in clients] == [list(range(50))] * 20


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_client_that_pauses_during_a_fan_out_gets_its_frames_once(bench: Bench, turns: int) -> None:
    clients = [FakeClient() for _ in range(6)]
    for client in clients:
        bench.subscribe(client)
    bench.records(2)
    for _ in range(turns):
        bench.fanout.work(1, 0.0)
    for client in clients:
        client.pause()
    bench.records(1)
    bench.settle()
    assert sum(client.writes for client in clients) == turns
    assert len(bench.fanout.catch_up) == 6
    for client in clients:
        client.resume()
    bench.settle()
    assert [client.numbers for client in clients] == [[0, 1, 2]] * 6


def test_paused_client_catches_up_and_delays_no_other(bench: Bench) -> None:
    slow, quick = FakeClient(pause_after=1), FakeClient()
    bench.subscribe(slow)
    bench.subscribe(quick)
    for _ in range(50):
        bench.records(1)
        bench.settle()
    assert quick.numbers == list(range(50))
    assert slow.numbers == [0]
    assert len(bench.fanout.catch_up) == 1
    assert (slow.lagged, quick.lagged) == (1, 0)
    slow.resume()
    bench.settle()
    bench.records(2)
    bench.settle()
    assert slow.numbers == list(range(52))
    assert slow.gaps == []
    assert slow.left_out == []
    assert len(bench.fanout.catch_up) == 0


@pytest.mark.parametrize("on_lag", list(OnLag))
def test_client_that_falls_off_the_ring_is_told(on_lag: OnLag) -> None:
    bench = Bench(max_frames=10)
    slow = FakeClient(pause_after=1)
    bench.subscribe(slow, on_lag=on_lag)
    bench.records(1)
    bench.settle()
    for _ in range(30):
        bench.records(1)
        bench.settle()
    slow.resume()
    bench.settle()
    if on_lag is OnLag.DISCONNECT:
        assert slow.gone
        assert slow.numbers == [0]
        return
    live = bench.records(2)
    bench.settle()
    (gap,) = slow.gaps
    missed = gap["missed"]
    assert isinstance(missed, int)
    assert gap["from"] == f"{EPOCH}-1.0"
    # Every record is either delivered or counted.
    assert len(slow.numbers) + missed == bench.sent
    assert slow.numbers[-2:] == live
    assert missed == (30 if on_lag is OnLag.SKIP else 29)
    assert slow.left_out == [(missed, on_lag is OnLag.LATEST)]


def test_latest_jumps_to_the_newest_frame_even_within_the_ring(bench: Bench) -> None:
    gauge = FakeClient(pause_after=1)
    bench.subscribe(gauge, on_lag=OnLag.LATEST)
    bench.records(1)
    bench.settle()
    bench.records(9)
    bench.settle()
    gauge.resume()
    bench.settle()
    assert gauge.numbers == [0, 9]
    assert [gap["missed"] for gap in gauge.gaps] == [8]


def test_burst_larger_than_the_ring_comes_from_the_log() -> None:
    bench = Bench(max_frames=10)
    live, catching = FakeClient(), FakeClient()
    bench.subscribe(live)
    bench.records(5)
    bench.fanout.work(1, 0.0)
    bench.subscribe(catching, resume={"energy": f"{EPOCH}-1.0"})
    bench.records(40)
    bench.settle()
    bench.records(1)
    bench.settle()
    assert live.gaps == catching.gaps == []
    assert live.numbers == list(range(46))
    assert catching.numbers == list(range(1, 46))


def test_resume_replays_then_goes_live(bench: Bench) -> None:
    bench.records(20)
    bench.settle()
    client = FakeClient()
    told = bench.subscribe(client, resume={"energy": f"{EPOCH}-5.5"})
    assert told == Subscribed(f"{EPOCH}-5.5", True, 10)
    bench.records(3)
    bench.settle()
    assert client.numbers == list(range(10, 23))


def test_resume_from_another_interleaving_gives_each_record_once(bench: Bench) -> None:
    bench.records(20)
    bench.settle()
    client = FakeClient()
    # It has all of partition 0 but only half of partition 1: no prefix of this ring.
    told = bench.subscribe(client, resume={"energy": f"{EPOCH}-10.5"})
    assert (told.recovered, told.replayed) == (True, 5)
    bench.settle()
    assert client.numbers == [11, 13, 15, 17, 19]


def test_client_that_knows_more_gets_only_what_it_lacks(bench: Bench) -> None:
    bench.records(10)
    bench.settle()
    client = FakeClient()
    told = bench.subscribe(client, resume={"energy": f"{EPOCH}-7.5"})
    assert (told.recovered, told.replayed) == (True, 0)
    for _ in range(8):
        bench.records(1)
        bench.settle()
        bench.fanout.work(100, bench.now)
    assert client.numbers == [11, 13, 14, 15, 16, 17]
    assert client.gaps == []


def test_client_that_claims_the_future_is_told_after_a_while(bench: Bench) -> None:
    bench.records(4)
    bench.settle()
    client = FakeClient()
    bench.subscribe(client, resume={"energy": f"{EPOCH}-1000.2"})
    bench.records(2)
    bench.fanout.work(100, 1.0)
    assert client.gaps == []
    bench.fanout.work(100, 60.0)
    assert [gap["reason"] for gap in client.gaps] == ["POSITION_AHEAD"]
    bench.now = 61.0
    bench.records(2)
    bench.settle()
    assert client.numbers == [5, 6, 7]


def test_resume_below_the_ring_is_replayed_from_the_log() -> None:
    bench = Bench(max_frames=10)
    bench.records(30)
    bench.settle()
    clients = [FakeClient() for _ in range(5)]
    for client in clients:
        told = bench.subscribe(client, resume={"energy": f"{EPOCH}-2.2"})
        assert (told.recovered, told.replayed) == (True, 26)
    bench.fanout.work(100, 0.0)
    # One request, however many clients wait for it.
    assert list(map(str, bench.log.asked)) == [f"{EPOCH}-2.2"]
    assert len(bench.fanout.catch_up) == 5
    bench.settle()
    assert [client.numbers for client in clients] == [list(range(4, 30))] * 5
    assert len(bench.fanout.catch_up) == 0


def test_paused_client_asks_the_log_for_nothing() -> None:
    bench = Bench(max_frames=10)
    bench.records(60)
    bench.settle()
    client = FakeClient(pause_after=1)
    bench.subscribe(client, resume={"energy": f"{EPOCH}-0.0"})
    bench.settle()
    delivered = len(client.numbers)
    assert 0 < delivered < 60
    assert len(bench.log.ready) == 1
    client.resume()
    bench.settle()
    assert client.numbers == list(range(60))


def test_worker_that_missed_too_much_replays_the_log_to_all_clients() -> None:
    bench = Bench(max_frames=10)
    live, paused, late = FakeClient(), FakeClient(pause_after=1), FakeClient()
    bench.subscribe(live)
    bench.subscribe(paused)
    bench.records(4)
    bench.settle()
    bench.records(2)
    # In the middle of a fan-out: one client has the batch already.
    bench.fanout.work(1, 0.0)
    bench.subscribe(late)
    missed = Bench(max_frames=10)
    missed.records(40)
    bench.log.partitions = missed.log.partitions
    bench.fanout.reopen(missed.fanout.ring)
    bench.sent = 40
    bench.settle()
    paused.resume()
    bench.records(1)
    bench.settle()
    assert live.numbers == paused.numbers == list(range(41))
    assert late.numbers == list(range(6, 41))


def test_history_request_is_withdrawn_when_its_client_leaves_or_pauses() -> None:
    bench = Bench(max_frames=4)
    bench.records(40)
    resume = {"energy": f"{EPOCH}-0.0"}
    leaves, pauses = FakeClient(), FakeClient()
    for client in (leaves, pauses):
        bench.subscribe(client, resume=resume)
    bench.fanout.work(100, bench.now)
    assert len(bench.fanout.catch_up) == 2
    bench.log.withdrawn.clear()
    bench.fanout.leave(leaves)
    assert (bench.log.withdrawn, len(bench.fanout.catch_up)) == ([leaves], 1)
    pauses.pause()
    bench.answer()
    bench.fanout.work(100, bench.now)
    assert bench.log.withdrawn == [leaves, pauses]
    pauses.resume()
    bench.settle()
    assert pauses.numbers == list(range(40))


def test_client_is_sent_away_when_the_history_queue_is_full() -> None:
    bench = Bench(max_frames=4)
    bench.records(40)
    client = FakeClient()
    bench.subscribe(client, resume={"energy": f"{EPOCH}-0.0"})
    bench.log.full = True
    bench.fanout.work(100, bench.now)
    assert client.gone


def test_chunk_that_cannot_be_read_ends_the_wait() -> None:
    bench = Bench(max_frames=10)
    bench.records(30)
    bench.settle()
    client = FakeClient()
    bench.subscribe(client, resume={"energy": f"{EPOCH}-2.2"})
    bench.fanout.work(100, 0.0)
    bench.fanout.catch_up.failed(bench.log.asked.pop())
    assert client.gone
    assert len(bench.fanout.catch_up) == 0


def test_topic_that_is_created_anew_is_announced_once(bench: Bench) -> None:
    live, paused = FakeClient(), FakeClient(pause_after=1)
    bench.subscribe(live)
    bench.subscribe(paused)
    bench.records(2)
    bench.settle()
    bench.fanout.restart(Ring(bench.limits, from_offsets("beef", [0, 0])))
    frame = FRAMES.build(0, b'{"n":100}', "beef-1.0")
    bench.fanout.ring.append(Entry(0, 0, 0, frame), 0.0)
    bench.settle()
    assert [gap["reason"] for gap in live.gaps] == ["EPOCH_CHANGED"]
    assert live.numbers == [0, 1, 100]
    paused.resume()
    bench.settle()
    assert paused.numbers == [0, 1, 100]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("records"), st.integers(1, 20)),
            st.tuples(st.just("turn"), st.integers(1, 5)),
            st.tuples(st.just("toggle"), st.integers(0, 3)),
            st.tuples(st.just("stumble"), st.integers(0, 3)),
            st.tuples(st.just("again"), st.integers(0, 3)),
            st.tuples(st.just("answer"), st.just(0)),
        ),
        max_size=60,
    ),
    st.booleans(),
)
def test_every_client_gets_every_record_once_or_is_told(
    script: list[tuple[str, int]], compressed: bool
) -> None:
    """However clients pause, resume and reconnect: delivered + missed = sent, and never twice."""
    bench = Bench(max_frames=12, compressed=compressed)
    clients = [FakeClient() for _ in range(4)]
    slow = set()
    for client in clients:
        bench.subscribe(client)
    for action, argument in script:
        client = clients[argument % 4]
        if action == "records":
            bench.records(argument)
        elif action == "turn":
            bench.fanout.work(argument, bench.now)
        elif action == "answer":
            bench.answer()
        elif action == "toggle":
            slow.add(client)
            client.pause() if client.writable else client.resume()
        elif action == "stumble":
            slow.add(client)
            client.pause_after = client.writes + 1
        else:
            ids = [m["id"] if m["type"] == "data" else m["to"] for m in client.received]
            position = ids[-1] if ids else f"{EPOCH}-0.0"
            told = bench.subscribe(client, resume={"energy": position})
            assert told.recovered
    for client in clients:
        client.pause_after = None
        if not client.writable:
            client.resume()
    bench.settle()
    bench.records(2)
    bench.settle()
    for client in clients:
        numbers = client.numbers
        assert len(numbers) == len(set(numbers))
        assert numbers == sorted(numbers)  # type: ignore[type-var]
        missed = sum(gap["missed"] for gap in client.gaps)  # type: ignore[misc]
        assert len(numbers) + missed == bench.sent
        assert numbers[-1] == bench.sent - 1
        # A client that was never slow is not told that it missed anything.
        assert client in slow or not missed


def test_compressed_clients_get_the_same_in_fewer_bytes() -> None:
    counted = []
    for compressed in (False, True):
        bench = Bench(max_frames=40, compressed=compressed)
        live = FakeClient()
        bench.subscribe(live)
        bench.records(60)
        bench.settle()
        catching, replayed = FakeClient(), FakeClient()
        bench.subscribe(catching, resume={"energy": f"{EPOCH}-20.20"})
        bench.subscribe(replayed, resume={"energy": f"{EPOCH}-0.0"})
        bench.settle()
        assert live.numbers[-40:] == list(range(20, 60))
        assert catching.numbers == list(range(40, 60))
        assert replayed.numbers == list(range(60))
        counted.append((bench.row[Field.DELIVERIES], bench.row[Field.BYTES]))
    (plain, plain_bytes), (shrunk, shrunk_bytes) = counted
    assert plain == shrunk
    # These records are small: only some of an envelope can be saved.
    assert shrunk_bytes < plain_bytes
