"""The answer to a request for the newest records."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from energyws.errors import RESTART
from energyws.process.board import Field
from energyws.protocol import frame, json_lines, messages
from energyws.protocol.frame import DataFrames
from energyws.protocol.keys import KeyFilter
from energyws.protocol.messages import OnLag, Subscribe, Subscribed
from energyws.protocol.position import parse
from energyws.protocol.snapshot_told import SnapshotTold
from tests.principals import principal
from tests.workers.websocket.outlet import Outlet
from tests.workers.websocket.recording import Worker
from workers.websocket.clients import last
from workers.websocket.clients.answers import Asked
from workers.websocket.clients.last import Last, LastSnapshot

FRAMES = DataFrames("energy")


def lines(*offsets: int) -> bytes:
    """What the hub writes for the records at these offsets."""
    built = (FRAMES.build(0, b'{"n":%d}' % n, f"ab-{n + 1}") for n in offsets)
    return b"".join(map(json_lines.encode, built))


def answer(
    count: int, *writes: bytes, head_only: bool = False, only: KeyFilter | None = None
) -> Outlet:
    """The outlet of an answer for which the hub makes these writes. only: the keys that it has."""
    worker, outlet = Worker(), Outlet()

    async def main() -> None:
        asked = Asked(
            "energy",
            principal(),
            Subscribe(
                ("energy",),
                {},
                count,
                OnLag.SKIP,
                filters={} if only is None else {"energy": only},
            ),
            {"Vary": "Origin"},
            head_only=head_only,
            chunked=True,
        )
        made = Last(worker.context, asked, count)
        made.begin(outlet, closes=False)
        made.subscribed({"energy": Subscribed("ab-0", True, count)})
        # A worker that leaves lets it finish.
        made.reconnect(0, RESTART)
        for data in writes:
            made.write(data)
        made.caught_up(parse("ab-9"))
        while not outlet.over:
            await asyncio.sleep(0)
        # Until the client has read it.
        assert worker.row[Field.CONNECTIONS] == 1
        made.sent()
        assert worker.row[Field.CONNECTIONS] == 0
        assert not worker.context.reading

    asyncio.run(asyncio.wait_for(main(), 10))
    assert outlet.over == ["answered"]
    return outlet


def numbers(outlet: Outlet) -> list[int]:
    body: dict[str, Any] = orjson.loads(outlet.body)
    assert (body["type"], body["stream"], body["position"]) == ("last", "energy", "ab-9")
    return [each["data"]["n"] for each in body["records"]]


def test_newest_records_with_their_position() -> None:
    outlet = answer(3, lines(0), lines(1, 2))
    assert numbers(outlet) == [0, 1, 2]
    for line in ('ETag: "ab-9"', "Cache-Control: no-cache", "Vary: Origin"):
        assert f"\r\n{line}\r\n" in outlet.head
    assert f"\r\nContent-Length: {len(outlet.body)}" in outlet.head
    assert "Connection: close" not in outlet.head


def test_no_cache_keeps_an_answer_with_some_keys_only() -> None:
    outlet = answer(1, lines(0), only=KeyFilter(frozenset({b"a"})))
    assert numbers(outlet) == [0]
    assert "\r\nCache-Control: no-store\r\n" in outlet.head
    assert "ETag" not in outlet.head


def test_records_that_came_meanwhile_replace_older_ones() -> None:
    assert numbers(answer(2, lines(0, 1, 2), lines(3))) == [2, 3]


def test_reports_of_gaps_are_no_records() -> None:
    gap = json_lines.encode(frame.lagged("energy", 1, None, "ab-5", "RETENTION"))
    assert numbers(answer(3, lines(0) + gap + lines(5))) == [0, 5]


def test_empty_topic_has_none() -> None:
    assert numbers(answer(3)) == []


def test_head_has_the_length_of_the_body() -> None:
    with_body, without = answer(1, lines(4)), answer(1, lines(4), head_only=True)
    assert (without.head, without.body) == (with_body.head, b"")


def test_size_is_bounded_but_for_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last, "MOST_BYTES", 250)
    assert numbers(answer(100, lines(*range(20)))) == [18, 19]
    monkeypatch.setattr(last, "MOST_BYTES", 1)
    assert numbers(answer(100, lines(*range(20)))) == [19]


def values(*keys: str) -> bytes:
    """What the hub writes for these keys of a snapshot."""
    built = (FRAMES.snapshot(key.encode(), 0, b'{"n":"\\n"}') for key in keys)
    return b"".join(map(json_lines.encode, built))


def place(position: str, had: SnapshotTold | None = None) -> bytes:
    return json_lines.encode(messages.position("energy", position, had=had))


TOLD = SnapshotTold(True, None, 3)
EXACT = KeyFilter(frozenset({b"a", b"b"}))
PREFIX = KeyFilter(frozenset(), (b"a",))


def snapshot(
    only: KeyFilter | None, *writes: bytes, chunked: bool = True, over: str = "answered"
) -> Outlet:
    """The outlet of an answer with the newest record of each key, see `answer`."""
    worker, outlet = Worker(), Outlet()

    async def main() -> None:
        filters = {} if only is None else {"energy": only}
        wanted = Subscribe(("energy",), {}, None, OnLag.SKIP, filters=filters, snapshot=True)
        asked = Asked(
            "energy", principal(), wanted, {"Vary": "Origin"}, head_only=False, chunked=chunked
        )
        made = LastSnapshot(worker.context, asked)
        made.begin(outlet, closes=False)
        # Only where nobody knows how many there are.
        assert worker.context.reading.total() == (only is not EXACT)
        made.subscribed({"energy": Subscribed("ab-7", snapshot=TOLD)})
        # A worker that leaves lets it finish.
        made.reconnect(0, RESTART)
        for data in writes:
            made.write(data)
        made.caught_up(parse("ab-9"))
        while not outlet.over:
            await asyncio.sleep(0)
        if over == "aborted":
            made.lost()
        else:
            made.sent()
        assert worker.row[Field.CONNECTIONS] == 0
        assert not worker.context.reading

    asyncio.run(asyncio.wait_for(main(), 10))
    assert outlet.over == [over]
    return outlet


@pytest.mark.parametrize("chunked", [True, False])
def test_newest_record_of_each_key_and_what_the_service_knows(chunked: bool) -> None:
    # What comes after the position of exact keys is not waited for.
    writes = values("a"), values("b") + place("ab-7"), lines(7)
    outlet = snapshot(EXACT, *writes, chunked=chunked)
    (body,) = outlet.lines(chunked=chunked)
    assert [(each["type"], each["key"]) for each in body.pop("records")] == [
        ("snapshot", "a"),
        ("snapshot", "b"),
    ]
    assert body == {
        "type": "last",
        "stream": "energy",
        "position": "ab-7",
        "snapshot": {"position": "ab-7", "complete": True, "since": None, "keys": 3},
    }
    assert ("Transfer-Encoding: chunked" in outlet.head) is chunked
    for line in ("Content-Type: application/json", "Cache-Control: no-store", "Vary: Origin"):
        assert f"\r\n{line}\r\n" in outlet.head + "\r\n"
    assert "ETag" not in outlet.head


@pytest.mark.parametrize("only", [EXACT, PREFIX, None])
def test_keys_without_a_record_are_an_empty_list(only: KeyFilter | None) -> None:
    (body,) = snapshot(only, place("ab-7")).lines()
    assert body["records"] == []
    assert body["position"] == ("ab-7" if only is EXACT else "ab-9")


@pytest.mark.parametrize("only", [PREFIX, None])
def test_what_changed_while_many_were_read_follows(only: KeyFilter | None) -> None:
    less = SnapshotTold(False, 1_000, None)
    removed = json_lines.encode(FRAMES.removed(0, "ab-9", b"a2"))
    (body,) = snapshot(only, values("a1", "a2"), place("ab-7", less), lines(7), removed).lines()
    assert [each["type"] for each in body["records"]] == ["snapshot", "snapshot", "data", "removed"]
    assert body["position"] == "ab-9"
    assert body["snapshot"] == less.as_json("ab-7")


def test_snapshot_after_which_records_are_missing_is_cut() -> None:
    gap = json_lines.encode(frame.lagged("energy", 1, None, "ab-8", "RETENTION"))
    outlet = snapshot(None, values("a"), place("ab-7"), gap, over="aborted")
    assert not outlet.body.endswith(b"0\r\n\r\n")


def test_worker_that_leaves_before_it_has_a_snapshot_refuses() -> None:
    worker, outlet = Worker(), Outlet()

    async def main() -> None:
        wanted = Subscribe(("energy",), {}, None, OnLag.SKIP, snapshot=True)
        asked = Asked("energy", principal(), wanted, {}, head_only=False, chunked=True)
        made = LastSnapshot(worker.context, asked)
        made.begin(outlet, closes=False)
        made.reconnect(0, RESTART)
        assert orjson.loads(outlet.body)["code"] == "HISTORY_UNAVAILABLE"

    asyncio.run(asyncio.wait_for(main(), 10))
    assert outlet.head.startswith("HTTP/1.1 503 ")
