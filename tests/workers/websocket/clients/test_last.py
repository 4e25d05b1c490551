"""The answer to a request for the newest records."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from energyws.errors import RESTART
from energyws.process.board import Field
from energyws.protocol import frame, json_lines
from energyws.protocol.frame import DataFrames
from energyws.protocol.keys import KeyFilter
from energyws.protocol.messages import OnLag, Subscribe, Subscribed
from energyws.protocol.position import parse
from tests.principals import principal
from tests.workers.websocket.outlet import Outlet
from tests.workers.websocket.recording import Worker
from workers.websocket.clients import last
from workers.websocket.clients.answers import Asked
from workers.websocket.clients.last import Last

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
    return [message["data"]["n"] for message in body["records"]]


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
