"""Whichever process dies, and wherever a client resumes, it gets the records of its keys once.

Or is told what it misses; and never a foreign one, nor that it has more than it got. A snapshot and
what follows it are the fold of the log.
"""

from __future__ import annotations

from unittest.mock import Mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from energyws.protocol.forms import Form
from energyws.protocol.keys import EVERYTHING, KeyFilter
from energyws.protocol.messages import OnLag
from tests.workers.websocket.fanout.keyed_service import Connection, Service, Worker
from tests.workers.websocket.fanout.keyed_stream import keys
from workers import runtime
from workers.websocket.fanout import (
    catch_up,
    groups,
    hub,
    keyed_fanout,
    keyed_live,
    live,
    requests,
    turns,
)

# By partition: only there are the records of a key in one order, whoever reads them.
KEYS = {"a": 0, "ab": 1, "b": 1, "é": 0, None: 0}
FILTERS = (
    keys("a"),
    keys("a", "b"),
    keys("ab", "é"),
    keys(prefixes=("a",)),
    keys("b", prefixes=("a", "ab")),
)
records = st.lists(
    st.tuples(st.sampled_from(list(KEYS)), st.integers(0, 4)),
    min_size=1,
    max_size=8,
)
filters = st.sampled_from([*FILTERS, EVERYTHING])
rates = st.sampled_from([None, None, 0.1, 2.0, 100.0])
lags = st.sampled_from([OnLag.SKIP, OnLag.SKIP, OnLag.LATEST])
which = st.integers(0, 20)


class Machine(RuleBasedStateMachine):
    """A service, and clients that come back again and again."""

    @initialize(
        max_frames=st.sampled_from([4, 15, 100]),
        warm=st.sampled_from([1, 4, 50]),
        slots=st.sampled_from([1, 3, 50]),
    )
    def begin(self, max_frames: int, warm: int, slots: int) -> None:
        self.service = Service(max_frames, warm, slots, workers=2)
        self.patches = pytest.MonkeyPatch()
        for module in (catch_up, hub, keyed_fanout, keyed_live, live, requests, turns):
            self.patches.setattr(module, "time", self.service.clock)
        self.clients: list[Connection] = []

    def worker(self, number: int) -> Worker:
        return self.service.workers[number % len(self.service.workers)]

    def client(self, number: int) -> Connection:
        return self.clients[number % len(self.clients)]

    @rule(made=records, on=which, delivered=st.integers(0, 8), callbacks=st.integers(0, 4))
    def records(
        self, made: list[tuple[str | None, int]], on: int, delivered: int, callbacks: int
    ) -> None:
        self.service.clock.advance(0.1)
        for key, removed in made:
            self.service.record(key, KEYS[key], removed=not removed)
        self.worker(on).deliver(delivered)
        self.service.clock.run(callbacks)

    @rule(on=which, delivered=st.integers(0, 20), callbacks=st.integers(0, 10))
    def work(self, on: int, delivered: int, callbacks: int) -> None:
        self.worker(on).deliver(delivered)
        self.service.clock.run(callbacks)

    @rule(on=which, past=st.integers(0, 3), snapshots=st.integers(0, 2), steps=st.integers(0, 2))
    def answer(self, on: int, past: int, snapshots: int, steps: int) -> None:
        worker = self.worker(on)
        for answer, times in (
            (worker.past.answer, past),
            (worker.answer, snapshots),
            (self.service.table.answer, steps),
        ):
            for _ in range(times):
                answer()

    @rule(seconds=st.sampled_from([0.5, 3.0, 25.0]))
    def tick(self, seconds: float) -> None:
        # A worker is less behind: a client that is ahead of it for long claims too much.
        for worker in self.service.workers:
            worker.deliver(1_000)
        self.service.clock.advance(seconds)
        for worker in self.service.workers:
            worker.hub.tick()

    @precondition(lambda self: len(self.clients) < 8)
    @rule(
        on=which,
        wanted=filters,
        rate=rates,
        on_lag=lags,
        snapshot=st.booleans(),
        form=st.sampled_from([Form.PLAIN, Form.DEFLATE]),
    )
    def comes(
        self,
        on: int,
        wanted: KeyFilter,
        rate: float | None,
        on_lag: OnLag,
        snapshot: bool,
        form: Form,
    ) -> None:
        client = Connection(self.worker(on), self.service, form)
        if wanted is EVERYTHING and rate is None:
            # Without either, it is served by another fan-out.
            rate = 100.0
        client.subscribe(wanted, rate, on_lag, None, snapshot=snapshot)
        self.clients.append(client)

    @precondition(lambda self: self.clients)
    @rule(number=which, wanted=filters, snapshot=st.sampled_from([False, False, True]))
    def subscribes_again(self, number: int, wanted: KeyFilter, snapshot: bool) -> None:
        client = self.client(number)
        # Who waited for an answer was nowhere yet.
        if client.answered:
            rate = client.rate or (100.0 if wanted is EVERYTHING else None)
            client.subscribe(wanted, rate, client.on_lag, None, snapshot=snapshot)

    @precondition(lambda self: self.clients)
    @rule(number=which, on=which, wanted=filters, rate=rates, planned=st.booleans())
    def comes_back(
        self, number: int, on: int, wanted: KeyFilter, rate: float | None, planned: bool
    ) -> None:
        """With other keys, to any worker."""
        before = self.client(number)
        if planned:
            before.worker.hub.dismiss(before)
        else:
            before.worker.hub.leave(before)
        self._again(before, on, wanted, rate)

    @rule(on=which, wanted=filters)
    def worker_dies(self, on: int, wanted: KeyFilter) -> None:
        """Its clients come back to another, or to its successor."""
        dead = self.worker(on)
        self.service.workers[self.service.workers.index(dead)] = Worker(self.service)
        for client in [each for each in self.clients if each.worker is dead]:
            self._again(client, on + len(client.numbers), wanted, client.rate)

    def _again(self, before: Connection, on: int, wanted: KeyFilter, rate: float | None) -> None:
        self.clients.remove(before)
        after = Connection(self.worker(on), self.service, before.form)
        if wanted is EVERYTHING and rate is None:
            rate = 100.0
        place = before.place if before.has_place else None
        after.subscribe(wanted, rate, before.on_lag, place, snapshot=place is None)
        self.clients.append(after)

    @rule()
    def consumer_dies(self) -> None:
        self.service.replace_consumer()

    @rule(on=which)
    def bus_loses(self, on: int) -> None:
        worker = self.worker(on)
        worker.on_the_way.clear()
        worker.lacks = True

    @precondition(lambda self: self.clients)
    @rule(number=which)
    def pauses(self, number: int) -> None:
        if self.client(number).writable:
            self.client(number).pause()

    @precondition(lambda self: self.clients)
    @rule(number=which)
    def resumes(self, number: int) -> None:
        if not self.client(number).writable:
            self.client(number).resume()

    @precondition(lambda self: self.clients)
    @rule(number=which)
    def pings(self, number: int) -> None:
        self.client(number).worker.hub.tell_positions(self.client(number))

    def teardown(self) -> None:
        if not hasattr(self, "clients"):
            return
        service = self.service
        for client in self.clients:
            if not client.writable:
                client.resume()
        for _ in range(40):
            self._settle()
            service.clock.advance(1.0)
            for worker in service.workers:
                worker.hub.tick()
        self._settle()
        self.patches.undo()
        for client in self.clients:
            # Its snapshot may have been one of a consumer that died.
            if not client.gone:
                client.check_end()

    def _settle(self) -> None:
        service = self.service
        for _ in range(10_000):
            for worker in service.workers:
                worker.deliver(1_000)
                worker.past.answer()
                worker.answer()
            service.table.answer()
            service.clock.run(1_000)
            busy = any(each.past.waits or each.asked for each in service.workers)
            if not busy and not service.table.waits and not service.clock.ready:
                return
        raise AssertionError("no end after 10,000 turns")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices, groups and turns so small that a few clients fill them."""
    monkeypatch.setattr(keyed_live, "JOIN_BYTES", 1_000)
    monkeypatch.setattr(catch_up, "CATCH_UP_BYTES", 300)
    monkeypatch.setattr(turns, "WRITES_PER_TURN", 3)
    monkeypatch.setattr(groups, "LEAST_CROWD", 3)
    monkeypatch.setattr("workers.websocket.snapshots.feed.PIECE_BYTES", 150)
    monkeypatch.setattr("energyws.stream.keyed_cursor.MOST_FOUND", 4)
    monkeypatch.setattr("energyws.stream.keyed_cursor.SCAN_ENTRIES", 5)
    monkeypatch.setattr(runtime, "_fail", _raise)
    monkeypatch.setattr(hub, "_log", Mock())


def _raise() -> None:
    """Instead of the end of the process."""
    raise


@pytest.mark.usefixtures("small")
def test_each_client_gets_its_records_once_from_any_worker_of_any_consumer() -> None:
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=120, stateful_step_count=40, deadline=None)
    )
