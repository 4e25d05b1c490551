"""Whatever happens, each client gets the records of its keys once, or is told what it misses.

And no other; and what it is told about where it is never goes beyond what it got.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from energyws.protocol.forms import Form
from energyws.protocol.keys import EVERYTHING, KeyFilter
from energyws.protocol.messages import OnLag
from energyws.protocol.position import Position, parse
from tests.workers.websocket.fanout.keyed_stream import Client, KeyedStream, keys
from workers.websocket.fanout import catch_up, groups, keyed_fanout, keyed_live

KEYS = ("a", "ab", "b", "é")
# Few, so that many clients want the same.
FILTERS = (
    keys("a"),
    keys("b"),
    keys("a", "b"),
    keys("a", "é"),
    keys(prefixes=("a",)),
    keys("ab", "b", prefixes=("a", "ab")),
)
filters = st.sampled_from(FILTERS)
records = st.lists(
    st.tuples(st.sampled_from([*KEYS, None]), st.integers(0, 1)), min_size=1, max_size=12
)


class Clock:
    """Time that passes only when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


CLOCK = Clock()


class Machine(RuleBasedStateMachine):
    """One stream, its clients, and the positions that clients have left with."""

    @initialize(
        max_frames=st.sampled_from([4, 15, 15, 100]),
        form=st.sampled_from([Form.PLAIN, Form.PLAIN, Form.DEFLATE, Form.SSE, Form.LINES]),
        wanted=st.lists(filters, min_size=4, max_size=12),
    )
    def begin(self, max_frames: int, form: Form, wanted: list[KeyFilter]) -> None:
        self.stream = KeyedStream(max_frames, form)
        self.clients: list[Client] = []
        self.places: list[Position] = [self.stream.head]
        for each in wanted:
            self.connect(each, 1, OnLag.SKIP, None, None, None, everything=False)

    @rule(made=records, writes=st.integers(0, 6))
    def records(self, made: list[tuple[str | None, int]], writes: int) -> None:
        CLOCK.now += 0.1
        self.stream.now = CLOCK.now
        for key, partition in made:
            self.stream.record(key, partition)
        if writes:
            self.stream.fanout.work(writes, CLOCK.now)

    @rule(writes=st.sampled_from([1, 1, 2, 3, 50]))
    def work(self, writes: int) -> None:
        self.stream.fanout.work(writes, CLOCK.now)

    @precondition(lambda self: self.stream.log.requested)
    @rule(most=st.integers(1, 10))
    def answer(self, most: int) -> None:
        self.stream.log.answer(most)

    @rule(seconds=st.sampled_from([0.5, 3.0, 16.0, 25.0]))
    def tick(self, seconds: float) -> None:
        CLOCK.now += seconds
        self.stream.now = CLOCK.now
        self.stream.fanout.catch_up.tick()
        self.stream.fanout.tick(20.0)

    @rule(
        event=st.sampled_from(["hole", "hole", "gap", "reopen", "recreate", *["none"] * 6]),
        partition=st.integers(0, 2),
        hidden=st.integers(1, 10),
    )
    def happens(self, event: str, partition: int, hidden: int) -> None:
        if event == "hole":
            self.stream.hole(partition)
        elif event == "gap":
            self.stream.gap(2, partition % 2)
        elif event == "reopen":
            # The worker misses these, and has to read them in the log.
            for number in range(hidden):
                self.stream.record(KEYS[number % len(KEYS)], number % 2, hidden=True)
            self.stream.reopen()
        elif event == "recreate":
            self.stream.recreate()
            # Who resumes from an older topic may be told nothing of how much is missing.
            self.places = [self.stream.head]

    @rule(
        wanted=filters,
        count=st.sampled_from([1, 1, 3]),
        on_lag=st.sampled_from([OnLag.SKIP, OnLag.SKIP, OnLag.DISCONNECT, OnLag.LATEST]),
        back=st.none() | st.integers(0, 50),
        last=st.none() | st.integers(0, 10),
        rate=st.sampled_from([None, None, 0.1, 2.0, 100.0]),
        everything=st.sampled_from([False, False, True]),
    )
    def connect(
        self,
        wanted: KeyFilter,
        count: int,
        on_lag: OnLag,
        back: int | None,
        last: int | None,
        rate: float | None,
        everything: bool,
    ) -> None:
        if self.stream.form.ends:
            rate = None
        for _ in range(count):
            # Who wants everything, and every record of it, is served by another fan-out.
            wants = EVERYTHING if everything and rate is not None else wanted
            client = Client(self.stream, wants, self.stream.form, rate=rate)
            if last is not None and wants is EVERYTHING:
                # More would be searched for in the log.
                last = min(last, len(self.stream.fanout.ring))
            if back is not None:
                self.subscribe(client, resume=self.places[back % len(self.places)], on_lag=on_lag)
            else:
                self.subscribe(client, last=last, on_lag=on_lag)
            self.clients.append(client)

    def subscribe(self, client: Client, **fields: Any) -> None:
        reply = self.stream.subscribe(client, **fields)
        if reply.recovered and reply.replayed is not None and fields.get("last") is None:
            begin = parse(reply.position)
            coming = [
                record.number
                for record in self.stream.records
                if record.epoch == self.stream.epoch
                and not record.before(begin)
                and client.wants(record)
            ]
            # A gap is counted, too.
            assert len(coming) <= reply.replayed <= len(coming) + len(self.stream.fanout.ring)

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 50), wanted=filters, resumes=st.booleans())
    def want_others(self, which: int, wanted: KeyFilter, resumes: bool) -> None:
        """A subscription is replaced: the same place, with other keys."""
        client = self.clients[which % len(self.clients)]
        left = self.stream.fanout.place(client)
        if not client.gone and left is not None:
            fresh = Client(
                self.stream, wanted, client.form, writable=client.writable, rate=client.rate
            )
            self.stream.fanout.leave(client)
            if resumes:
                self.subscribe(fresh, resume=client.place)
            else:
                # All before that, and nothing after it, was sent.
                client.scanned(left)
                self.subscribe(fresh, left=left)
                assert fresh.place == left
            self.clients.remove(client)
            self.clients.append(fresh)

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 50))
    def pause(self, which: int) -> None:
        client = self.clients[which % len(self.clients)]
        if client.writable:
            client.pause()

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 50))
    def pause_in_a_write(self, which: int) -> None:
        self.clients[which % len(self.clients)].pauses = True

    @precondition(lambda self: any(not each.writable for each in self.clients))
    @rule(which=st.integers(0, 50))
    def resume(self, which: int) -> None:
        paused = [each for each in self.clients if not each.writable]
        paused[which % len(paused)].resume()

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 50))
    def ping(self, which: int) -> None:
        client = self.clients[which % len(self.clients)]
        # What waits for a client that takes records at most so often is not told before.
        live = client in self.stream.fanout.live.members and client.rate is None
        self.stream.fanout.tell(client)
        if live and not self.stream.fanout.is_busy() and not self.stream.fanout.has_news():
            head = self.stream.head
            assert not head.beyond(client.place) or client.place.epoch != head.epoch

    @precondition(lambda self: self.clients)
    @rule(which=st.integers(0, 50), planned=st.booleans())
    def leave(self, which: int, planned: bool) -> None:
        client = self.clients.pop(which % len(self.clients))
        word = self.stream.fanout.last_word(client)
        self.stream.fanout.leave(client)
        if planned and word is not None and not client.gone:
            client.write(word)
        self.places.append(client.place)

    @invariant()
    def index_has_the_keys_of_live_clients(self) -> None:
        if hasattr(self, "clients"):
            found = self.stream.fanout.keyed.groups
            assert bool(found.keys) <= bool(self.stream.fanout.live.members)

    def teardown(self) -> None:
        if not hasattr(self, "clients"):
            return
        self.clients = [each for each in self.clients if not each.gone]
        for client in self.clients:
            client.pauses = False
            if not client.writable:
                client.resume()
        self.stream.settle()
        # All who take records at most so often have had their turn.
        CLOCK.now += 25.0
        self.stream.settle()
        CLOCK.now += 25.0
        self.stream.fanout.tick(20.0)
        self.stream.settle()
        for client in self.clients:
            if client.gone:
                continue
            assert sorted(client.numbers) == sorted(set(client.numbers))
            counts = not client.lost and client.start.epoch == self.stream.epoch
            if counts and not self.stream.form.ends:
                wanted = [
                    each
                    for each in self.stream.records
                    if client.wants(each) and not each.before(client.start)
                ]
                assert len(wanted) == len(client.numbers) + client.conflated
            if self.stream.form is Form.LINES:
                assert client.over is not None
                client.scanned(client.over.merge(client.place))
            else:
                assert client in self.stream.fanout.live.members
                # It was told where it is, and it is at the head.
                assert client.place == client.place.merge(self.stream.head)
            assert set(client.owed()) <= set(client.numbers)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices, groups and turns so small that a few clients fill them."""
    monkeypatch.setattr(keyed_live, "JOIN_BYTES", 1_000)
    monkeypatch.setattr(catch_up, "CATCH_UP_BYTES", 300)
    monkeypatch.setattr(groups, "LEAST_CROWD", 3)
    monkeypatch.setattr(catch_up, "time", CLOCK)
    monkeypatch.setattr(keyed_live, "time", CLOCK)
    monkeypatch.setattr(keyed_fanout, "time", CLOCK)
    monkeypatch.setattr("energyws.stream.keyed_cursor.MOST_FOUND", 4)
    monkeypatch.setattr("energyws.stream.keyed_cursor.SCAN_ENTRIES", 5)


@pytest.mark.usefixtures("small")
def test_each_client_gets_the_records_of_its_keys_once_or_is_told() -> None:
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=120, stateful_step_count=50, deadline=None)
    )
