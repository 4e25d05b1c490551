"""The answer to a request for history, between a recording hub and an outlet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest

from energyws.errors import RESTART, TOKEN_EXPIRED, TOKEN_EXPIRED_CLOSE
from energyws.process.board import Field
from energyws.protocol import frame, json_lines
from energyws.protocol.frame import DataFrames
from energyws.protocol.messages import OnLag, Subscribe, Subscribed, Unrecovered
from energyws.protocol.position import from_offsets, parse
from tests.principals import principal
from tests.workers.websocket.outlet import Outlet
from tests.workers.websocket.recording import Worker
from workers.websocket.clients import answers
from workers.websocket.clients.answers import MOST_AT_ONCE, Asked
from workers.websocket.clients.history import History

FRAMES = DataFrames("energy")
ASKED = Asked(
    "energy",
    principal(),
    Subscribe(("energy",), {"energy": "ab-0"}, None, OnLag.SKIP),
    {"Vary": "Origin"},
    head_only=False,
    chunked=True,
)
BEGUN = {"energy": Subscribed("ab-0", True, 5)}
Test = Callable[[Worker, History, Outlet], None]


def lines(*offsets: int) -> bytes:
    """What the hub writes for the records at these offsets."""
    built = (FRAMES.build(0, b'{"n":%d}' % n, f"ab-{n + 1}") for n in offsets)
    return b"".join(map(json_lines.encode, built))


def run(test: Test, *, limit: int = 3, asked: Asked = ASKED, settle: bool = True) -> Outlet:
    """The outlet after a test of an answer that has begun."""
    worker, outlet = Worker(), Outlet()

    async def main() -> None:
        history = History(worker.context, asked, limit)
        history.begin(outlet, closes=False)
        test(worker, history, outlet)
        if settle:
            while not outlet.over:
                await asyncio.sleep(0)
            if outlet.over == ["aborted"]:
                history.lost()
            else:
                # Until the client has read it.
                assert worker.row[Field.CONNECTIONS] == 1
                history.sent()
            assert worker.row[Field.CONNECTIONS] == 0
            assert not worker.context.reading
            assert worker.journal.names()[-2:] == ["hub.leave", "registry.leave"]

    asyncio.run(asyncio.wait_for(main(), 10))
    return outlet


def numbers(messages: list[dict[str, Any]]) -> list[int]:
    return [message["data"]["n"] for message in messages if message["type"] == "data"]


@pytest.mark.parametrize("chunked", [True, False])
def test_records_then_the_end(chunked: bool) -> None:
    def test(worker: Worker, history: History, outlet: Outlet) -> None:
        history.subscribed(BEGUN)
        assert outlet.data == b""
        history.write(lines(0, 1))
        history.caught_up(parse("ab-7"))
        # The hub's last write comes after it.
        history.write(lines(2))

    outlet = run(test, asked=replace(ASKED, chunked=chunked))
    assert outlet.over == ["answered"]
    assert outlet.head.startswith("HTTP/1.1 200 OK\r\n")
    assert ("Transfer-Encoding: chunked" in outlet.head) is chunked
    assert "Content-Type: application/x-ndjson" in outlet.head
    assert "Vary: Origin" in outlet.head
    *messages, end = outlet.lines(chunked=chunked)
    assert numbers(messages) == [0, 1, 2]
    assert end == {
        "type": "end",
        "stream": "energy",
        "position": "ab-7",
        "more": False,
        "recovered": True,
    }


def test_answer_is_cut_at_its_limit_with_the_position_to_go_on_from() -> None:
    def test(worker: Worker, history: History, outlet: Outlet) -> None:
        history.subscribed(BEGUN)
        history.write(lines(0, 1))
        history.write(lines(2, 3, 4))
        # It has left the hub, but a chunk may be under way.
        history.write(lines(5))
        history.caught_up(parse("ab-9"))

    *messages, end = run(test).lines()
    assert numbers(messages) == [0, 1, 2]
    assert (end["position"], end["more"]) == ("ab-3", True)


@pytest.mark.parametrize("further", [False, True])
def test_more_is_true_only_if_there_was_more_than_the_limit(further: bool) -> None:
    def test(worker: Worker, history: History, outlet: Outlet) -> None:
        history.subscribed(BEGUN)
        history.write(lines(0, 1, 2))
        if further:
            history.write(lines(3))
        else:
            history.caught_up(parse("ab-3"))

    *messages, end = run(test).lines()
    assert numbers(messages) == [0, 1, 2]
    assert (end["position"], end["more"]) == ("ab-3", further)


def test_gaps_are_lines_and_what_is_missing_is_in_the_end() -> None:
    def test(worker: Worker, history: History, outlet: Outlet) -> None:
        reply = Subscribed("ab-4", False, 5, Unrecovered.RETENTION, "ab-4", (4,))
        history.subscribed({"energy": reply})
        gap = frame.lagged("energy", 2, "ab-5", "ab-7", "RETENTION")
        history.write(lines(4) + json_lines.encode(gap) + lines(7))

    def and_end(worker: Worker, history: History, outlet: Outlet) -> None:
        test(worker, history, outlet)
        history.write(lines(8))

    *messages, end = run(and_end).lines()
    assert [message["type"] for message in messages] == ["data", "lagged", "data"]
    assert (end["recovered"], end["reason"], end["missing"]) == (False, "RETENTION", [4])
    assert end["earliest"] == "ab-4"


def test_nothing_new_is_an_end_line_only() -> None:
    def test(worker: Worker, history: History, outlet: Outlet) -> None:
        history.caught_up(parse("ab-0"))
        history.subscribed(BEGUN)

    assert [line["type"] for line in run(test).lines()] == ["end"]


@pytest.mark.parametrize("begun", [False, True])
def test_history_that_is_unavailable_is_refused_before_the_first_record(begun: bool) -> None:
    def test(worker: Worker, history: History, outlet: Outlet) -> None:
        if begun:
            history.subscribed(BEGUN)
        history.history_unavailable()
        history.history_unavailable()

    outlet = run(test)
    assert outlet.over == ["failed"]
    assert outlet.head.startswith("HTTP/1.1 503 ")
    assert "Retry-After: " in outlet.head
    assert "Connection: close" in outlet.head
    assert orjson.loads(outlet.body)["code"] == "HISTORY_UNAVAILABLE"


def test_answer_that_cannot_go_on_is_cut() -> None:
    def test(worker: Worker, history: History, outlet: Outlet) -> None:
        history.subscribed(BEGUN)
        history.write(lines(0))
        history.history_unavailable()

    assert run(test).over == ["aborted"]


@pytest.mark.parametrize(
    ("found", "fails", "status", "code"),
    [(False, False, 503, "STREAM_UNAVAILABLE"), (True, True, 500, "INTERNAL_ERROR")],
)
def test_request_that_cannot_begin_is_refused(
    found: bool, fails: bool, status: int, code: str
) -> None:
    worker, outlet = Worker(), Outlet()
    worker.hub.found, worker.hub.fails = found, fails

    async def main() -> None:
        history = History(worker.context, ASKED, 3)
        history.begin(outlet, closes=False)
        history.sent()

    asyncio.run(main())
    assert outlet.head.startswith(f"HTTP/1.1 {status} ")
    assert orjson.loads(outlet.body)["code"] == code
    assert outlet.over == ["failed"]
    assert worker.row[Field.CONNECTIONS] == 0


def test_worker_that_leaves_ends_an_answer_early() -> None:
    def test(worker: Worker, history: History, outlet: Outlet) -> None:
        history.subscribed(BEGUN)
        history.write(lines(0))
        history.reconnect(0, RESTART)
        history.reconnect(0, RESTART)
        assert worker.journal.names().count("registry.closing") == 1

    *messages, end = run(test).lines()
    assert numbers(messages) == [0]
    assert (end["position"], end["more"]) == ("ab-1", True)


def test_answer_that_ends_early_says_how_far_the_log_was_searched() -> None:
    def test(worker: Worker, history: History, outlet: Outlet) -> None:
        history.subscribed(BEGUN)
        history.write(lines(0))
        history.scanned(from_offsets("ab", [500]))
        history.reconnect(0, RESTART)

    *messages, end = run(test).lines()
    assert numbers(messages) == [0]
    assert (end["position"], end["more"]) == ("ab-500", True)


def test_worker_that_leaves_before_the_answer_begins_refuses_it() -> None:
    outlet = run(lambda worker, history, outlet: history.reconnect(0, RESTART))
    assert outlet.head.startswith("HTTP/1.1 503 ")


def test_answer_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_SECONDS", 0.01)

    def reads(worker: Worker, history: History, outlet: Outlet) -> None:
        history.subscribed(BEGUN)

    def does_not_read(worker: Worker, history: History, outlet: Outlet) -> None:
        history.subscribed(BEGUN)
        history.pause_writing()

    assert run(reads).lines()[-1]["more"] is True
    assert run(does_not_read).over == ["aborted"]


def test_expired_token_cuts_it_and_pings_are_not_sent() -> None:
    def test(worker: Worker, history: History, outlet: Outlet) -> None:
        history.subscribed(BEGUN)
        history.ping()
        history.send_error(TOKEN_EXPIRED)
        assert outlet.data == b""
        history.close(TOKEN_EXPIRED_CLOSE)

    assert run(test).over == ["aborted"]


def test_slow_reader_is_paused() -> None:
    def test(worker: Worker, history: History, outlet: Outlet) -> None:
        assert worker.context.reading == {"tester": 1}
        history.subscribed(BEGUN)
        history.pause_writing()
        assert not history.writable
        history.resume_writing()
        assert history.writable
        assert worker.journal.names()[-2:] == ["hub.pause", "hub.resume"]
        history.caught_up(parse("ab-0"))

    run(test)


def test_lost_connection_is_forgotten() -> None:
    def test(worker: Worker, history: History, outlet: Outlet) -> None:
        history.subscribed(BEGUN)
        history.caught_up(parse("ab-0"))
        history.lost()
        assert worker.row[Field.CONNECTIONS] == 0
        assert not worker.context.reading

    assert run(test, settle=False).data == b""


@pytest.mark.parametrize(("subjects", "begun"), [(1, 1), (MOST_AT_ONCE + 2, MOST_AT_ONCE)])
def test_requests_of_one_moment_do_not_exceed_the_limit(subjects: int, begun: int) -> None:
    worker, outlets = Worker(), [Outlet() for _ in range(MOST_AT_ONCE + 2)]

    async def main() -> None:
        # The gate has admitted all of them, since none had begun.
        asked = [
            replace(ASKED, principal=principal(str(number % subjects)))
            for number in range(len(outlets))
        ]
        histories = [History(worker.context, each, 3) for each in asked]
        for history, outlet in zip(histories, outlets, strict=True):
            history.begin(outlet, closes=False)
        assert worker.context.reading.total() == begun
        for history, outlet in zip(histories, outlets, strict=True):
            if outlet.over:
                history.sent()
            else:
                history.lost()

    asyncio.run(main())
    assert not worker.context.reading
    assert worker.row[Field.CONNECTIONS] == 0
    refused = [outlet for outlet in outlets if outlet.over]
    assert len(refused) == len(outlets) - begun
    for outlet in refused:
        assert outlet.head.startswith("HTTP/1.1 429 ")
        assert "Retry-After: " in outlet.head
        assert orjson.loads(outlet.body)["code"] == "TOO_MANY_REQUESTS"
