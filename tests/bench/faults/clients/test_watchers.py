"""What an SSE client writes into its ledger."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from bench.faults.clients.watchers import EventWatcher
from bench.faults.ledger import Ledger
from bench.faults.record import build
from energyws.testing import until
from tests.bench.faults.clients.test_event_source import HEAD, Server, running

KEY = "m1"


def event(message: dict[str, Any], position: str, kind: str = "") -> bytes:
    name = b"event: %b\n" % kind.encode() if kind else b""
    return b"%bid: %b\ndata: %b\n\n" % (name, position.encode(), orjson.dumps(message))


def record(partition: int, number: int, position: str) -> bytes:
    data = orjson.loads(build(partition, number, 100, KEY))
    return event({"type": "data", "data": data, "id": position}, position)


def subscribed(**state: Any) -> bytes:
    message = {"type": "subscribed", "positions": {"energy": {"position": "ab-0.0.0", **state}}}
    return event(message, "ab-0.0.0", "subscribed")


def ledger_after(*events: bytes) -> Ledger:
    """The ledger of a client that has received these, and the end of the stream."""

    async def run() -> Ledger:
        server = Server(HEAD + b"".join([b"retry: 1\n\n", *events]), b"HTTP/1.1 401 No\r\n\r\n")
        server.over.set()
        async with running(server) as port:
            watcher = EventWatcher(f"http://127.0.0.1:{port}/sse/energy", lambda: "token")
            await until(lambda: watcher.ledger.refused, "the client has given up")
            await watcher.stop()
        assert (watcher.attempts, watcher.connects) == (2, 1)
        return watcher.ledger

    return asyncio.run(run())


def test_records_are_checked_by_number_and_id() -> None:
    ledger = ledger_after(subscribed(), record(0, 0, "ab-1.0.0"), record(1, 0, "ab-1.1.0"))
    assert (ledger.next, ledger.frames) == ([1, 1, 0], 2)
    assert ledger.corrupt == []
    assert "GaveUp: answered with 'HTTP/1.1 401 No'" in (ledger.refused or "")


def test_gaps_come_from_lagged_and_from_a_resume_that_was_not_possible() -> None:
    lagged = {"type": "lagged", "missed": 2, "to": "ab-2.0.0", "reason": "LAGGED"}
    ledger = ledger_after(
        subscribed(recovered=False, reason="RETENTION", missing=[1, 0, 4]),
        event(lagged, "ab-2.0.0", "lagged"),
        record(0, 2, "ab-3.0.0"),
    )
    gaps = [(gap.reason, gap.missed, gap.offsets) for gap in ledger.reported]
    assert gaps == [("RETENTION", 5, (0, 0, 0)), ("LAGGED", 2, (2, 0, 0))]
    assert [(hole.first, hole.past) for hole in ledger.holes] == [(0, 2)]
    assert ledger.corrupt == []


def test_id_that_differs_from_the_message_is_found() -> None:
    data = orjson.loads(build(0, 0, 100, KEY))
    wrong = event({"type": "data", "data": data, "id": "ab-1.0.0"}, "ab-9.0.0")
    assert len(ledger_after(subscribed(), wrong).corrupt) == 1
