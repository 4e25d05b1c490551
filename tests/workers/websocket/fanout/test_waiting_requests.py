"""Subscribe requests that wait: for their topics, for the log, or for the rate limit."""

from __future__ import annotations

import asyncio

import pytest

from energyws.protocol.messages import BadClientMessage, Unrecovered
from energyws.stream.history import FindStart, StartPoint
from energyws.stream.ring import Entry
from tests.workers.websocket.fanout.one_hub import (
    EPOCH,
    FakeClient,
    ScriptedLog,
    at,
    found,
    run,
    subscribe,
    turns,
)
from workers.websocket.fanout import requests
from workers.websocket.fanout.hub import Hub
from workers.websocket.fanout.requests import MAX_TEXT


def test_request_waits_until_all_its_topics_are_found() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        assert not hub.subscribe(client, subscribe("a", "b"))
        found(hub, "a")
        assert client.replies == []
        found(hub, "b")
        assert [list(reply) for reply in client.replies] == [["a", "b"]]

    run(test)


def test_unsubscribe_removes_one_of_several_waiting_streams() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        hub.subscribe(client, subscribe("a", "b", resume={"a": f"{EPOCH}-5", "b": f"{EPOCH}-5"}))
        hub.subscribe(client, subscribe("a"))
        hub.unsubscribe(client, ("a",))
        found(hub, "a", "b")
        assert [list(reply) for reply in client.replies] == [["b"]]

    run(test)


def test_history_request_is_sent_for_older_records_and_requests_stay_in_order() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a", "b")
        assert hub.subscribe(client, subscribe("a", "b", resume={"a": f"{EPOCH}-2"}))
        hub.subscribe(client, subscribe("b"))
        ((request, done),) = log.requests
        assert request == FindStart("a", EPOCH, after=at(2))
        assert client.replies == []
        done(StartPoint(at(3), at(3), Unrecovered.RETENTION, (1,)))
        first, second = client.replies
        assert (first["a"].position, first["a"].missing) == (f"{EPOCH}-3", (1,))
        assert list(second) == ["b"]

    run(test)


def test_reply_for_a_client_that_has_left_is_dropped() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-2"}))
        hub.leave(client)
        hub.subscribe(client, subscribe("a"))
        log.requests[0][1](StartPoint(at(2), at(0)))
        assert [reply["a"].recovered for reply in client.replies] == [None]

    run(test)


def test_client_is_closed_when_its_history_request_fails() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-2"}))
        log.requests[0][1](None)
        assert client.gone

    run(test)


def test_history_request_is_repeated_when_the_topic_is_recreated() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-2"}))
        hub.set_floor("a", at(3, epoch="beef"))
        hub.synced()
        assert log.forgotten == ["a"]
        (request, done) = log.requests[1]
        assert request == FindStart("a", "beef", after=at(0, epoch="beef"))
        done(StartPoint(at(1, epoch="beef"), at(1, epoch="beef"), Unrecovered.RETENTION, (1,)))
        (reply,) = client.replies
        assert reply["a"].reason is Unrecovered.EPOCH_CHANGED
        assert reply["a"].position == "beef-1"

    run(test)


def test_newer_request_replaces_the_older_one_for_the_same_streams() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        for offset in range(1000):
            hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-{offset}"}))
        found(hub, "a")
        hub.subscribe(client, subscribe("a", "b", resume={"a": f"{EPOCH}-2"}))
        hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-3"}))
        found(hub, "b")
        # Of the first two requests, only `b` is left.
        assert [list(reply) for reply in client.replies] == [["a"], ["b"]]
        assert (client.replies[0]["a"].position, len(log.requests)) == (f"{EPOCH}-999", 1)
        log.requests[0][1](StartPoint(at(3), at(3)))
        assert client.replies[2]["a"].position == f"{EPOCH}-3"

    run(test)


def test_positions_of_pending_requests_are_bounded() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        hub.subscribe(client, subscribe("a", resume={"a": "0" * MAX_TEXT}))
        with pytest.raises(BadClientMessage, match="wait for their answers"):
            hub.subscribe(client, subscribe("b", resume={"b": "0"}))
        found(hub, "a", "b")
        assert [reply["a"].reason for reply in client.replies] == [Unrecovered.BAD_POSITION]

    run(test)


@pytest.mark.parametrize("how", ["leave", "unsubscribe", "subscribe"])
def test_history_request_is_withdrawn(how: str) -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-2"}))
        log.withdrawn.clear()
        if how == "leave":
            hub.leave(client)
        elif how == "unsubscribe":
            hub.unsubscribe(client, ("a",))
        else:
            hub.subscribe(client, subscribe("a"))
        assert log.withdrawn == ["a"]

    run(test)


def test_repeated_requests_are_rate_limited_and_the_last_one_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests, "SECONDS_PER_REQUEST", 0.05)

    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        for offset in (0, 1, 2, 3) * 10:
            hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-{offset}"}))
            hub.unsubscribe(client, ("a",))
        assert len(log.requests) == requests.BURST_OF_REQUESTS
        hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-4"}))
        assert len(log.requests) == requests.BURST_OF_REQUESTS
        while len(log.requests) == requests.BURST_OF_REQUESTS:
            await asyncio.sleep(0)
        request, done = log.requests[-1]
        assert request.after == at(4)
        done(StartPoint(at(4), at(0)))
        (reply,) = client.replies
        assert reply["a"].recovered

    run(test)


def test_live_stream_continues_beside_a_rate_limited_one() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a", "b")
        hub.subscribe(client, subscribe("b"))
        await turns(hub)
        for offset in (0, 1, 2, 3, 4):
            hub.subscribe(client, subscribe("a", "b", resume={"a": f"{EPOCH}-{offset}"}))
        assert client in hub._waiting._limited
        client.frames.clear()
        hub.append("b", Entry(0, 6, 0, b"live"))
        await turns(hub)
        assert client.frames == [b"live"]

    run(test)


def test_rate_limited_request_ends_with_its_client() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        for offset in range(requests.BURST_OF_REQUESTS + 1):
            hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-{offset}"}))
        assert client in hub._waiting._limited
        hub.leave(client)
        assert hub._waiting._limited == {}

    run(test)


def test_client_is_closed_when_the_history_queue_is_full() -> None:
    async def test(hub: Hub, log: ScriptedLog, client: FakeClient) -> None:
        found(hub, "a")
        log.full = True
        hub.subscribe(client, subscribe("a", resume={"a": f"{EPOCH}-2"}))
        assert client.gone

    run(test)
