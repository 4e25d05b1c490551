"""What clients with a few keys write into their journals."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from bench.faults.clients.journal import Journal
from bench.faults.clients.keyed import Holder, KeyedEventWatcher
from bench.faults.keys import Seat
from bench.faults.ledger import Ledger
from bench.faults.record import build
from energyws.testing import until
from tests.bench.faults.clients.test_event_source import HEAD, Server, running
from tests.bench.faults.clients.test_watchers import event, subscribed


def data(number: int, position: str, **changes: Any) -> dict[str, Any]:
    record = orjson.loads(build(0, number, 100, "m1"))
    return {"type": "data", "data": record, "key": "m1", "id": position, **changes}


def test_journal_has_what_the_log_is_compared_with() -> None:
    journal, ledger = Journal(), Ledger([0, 0, 0])
    journal.connect(["m1"], None)
    state = {"position": "ab-0.0.0", "recovered": False, "reason": "RETENTION", "missing": [1]}
    journal.message({"type": "subscribed", "positions": {"energy": state}}, ledger)
    journal.message(data(4, "ab-5.0.0"), ledger)
    journal.message({"type": "position", "id": "ab-5.1.0"}, ledger)
    gap = {"type": "lagged", "reason": "LAGGED", "missed": None, "to": "ab-6.1.0"}
    journal.message(gap, ledger)

    assert journal.drain() == [
        ["connect", ["m1"], None, False],
        ["subscribed", "ab-0.0.0", False, "RETENTION", [1]],
        ["data", 0, 4, "m1", "ab-5.0.0"],
        ["position", "ab-5.1.0", 0],
        ["lagged", "LAGGED", None, "ab-6.1.0"],
    ]
    assert journal.drain() == []
    assert (ledger.next, ledger.frames) == ([5, 0, 0], 1)


def test_snapshot_is_not_counted_as_live_records() -> None:
    journal, ledger = Journal(), Ledger([0, 0, 0])
    state = {"positions": {"energy": {"position": "ab-5.0.0"}}}
    snapshots = {"energy": {"position": "ab-5.0.0", "complete": True, "since": None, "keys": 1}}
    journal.message({"type": "subscribed", **state, "snapshots": snapshots}, ledger)
    record = data(4, "")
    journal.message({**record, "type": "snapshot"}, ledger)

    assert journal.drain() == [
        ["subscribed", "ab-5.0.0", None, None, None, True],
        ["snapshot", 0, 4, "m1"],
    ]
    assert (ledger.next, ledger.frames) == ([0, 0, 0], 0)


def test_key_must_be_that_of_the_record() -> None:
    journal = Journal()
    journal.message(data(4, "ab-5.0.0", key="m2"), Ledger([0, 0, 0]))
    assert journal.drain()[0] == ["corrupt", "partition 0, 4: another key than its record's"]


def test_all_that_a_client_with_max_rate_is_told_covers_what_is_superseded() -> None:
    def covered(*, rated: bool) -> list[str]:
        journal, ledger = Journal(), Ledger([0, 0, 0])
        journal.connect(["m1"], None, rated=rated)
        gap = {"type": "lagged", "reason": "LAGGED", "missed": None, "to": "ab-7.1.0"}
        told = {"type": "position", "id": "ab-6.1.0", "conflated": 3}
        places = []
        for message in (data(4, "ab-5.0.0"), told, gap):
            journal.message(message, ledger)
            places.append(str(journal.covered))
        assert ["position", "ab-6.1.0", 3] in journal.drain()
        return places

    assert covered(rated=True) == ["ab-5.0.0", "ab-6.1.0", "ab-7.1.0"]
    assert covered(rated=False) == ["None"] * 3


def test_client_of_events_asks_for_what_its_seat_says() -> None:
    async def run() -> str:
        server = Server(b"HTTP/1.1 401 No\r\n\r\n")
        server.over.set()
        seat = Seat([["m1"]], ["m1"], snapshot=True, max_rate=4.0)
        async with running(server) as port:
            url = f"http://127.0.0.1:{port}/sse/energy"
            watcher = KeyedEventWatcher(url, Holder(seat, ["first"]), "ab-0.0.0")
            await until(lambda: watcher.ledger.refused, "the client has given up")
            await watcher.stop()
        return server.requests[0].decode().partition(" HTTP/")[0]

    assert asyncio.run(run()) == "GET /sse/energy?key=m1&max_rate=4.0&snapshot=1"


def test_event_source_tells_a_position_when_it_comes() -> None:
    async def run() -> list[list[Any]]:
        body = [subscribed(), event(data(0, "ab-1.0.0"), "ab-1.0.0"), b"id: ab-1.5.0\n\n"]
        server = Server(HEAD + b"".join([b"retry: 1\n\n", *body]), b"HTTP/1.1 401 No\r\n\r\n")
        server.over.set()
        holder = Holder(Seat([["m1"], ["m2"]]), ["first", "second"])
        async with running(server) as port:
            watcher = KeyedEventWatcher(f"http://127.0.0.1:{port}/sse/energy", holder)
            await until(lambda: watcher.ledger.refused, "the client has given up")
            await watcher.stop()
        return holder.journal.drain()

    assert asyncio.run(run()) == [
        ["connect", ["m1"], None, False],
        ["subscribed", "ab-0.0.0", None, None, None],
        ["data", 0, 0, "m1", "ab-1.0.0"],
        ["position", "ab-1.5.0", 0],
        ["connect", ["m2"], "ab-1.5.0", False],
    ]
