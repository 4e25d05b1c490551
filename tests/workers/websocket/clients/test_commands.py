"""The effect of each client message, and the replies to it."""

from __future__ import annotations

from typing import Any

import pytest

from energyws.auth.verifier import Principal
from energyws.protocol.messages import OnLag, Ping, Renew, Subscribe, Unsubscribe
from energyws.protocol.position import from_offsets
from tests.principals import principal
from tests.workers.websocket.recording import Worker
from workers.websocket.clients.commands import carry_out


def subscribe(*streams: str) -> Subscribe:
    return Subscribe(streams, {}, None, OnLag.SKIP)


def codes(worker: Worker) -> list[str]:
    return [each.get("code", each["type"]) for each in worker.journal.messages()]


def test_ping_is_answered_with_the_time() -> None:
    worker = Worker()
    session, _ = worker.connected()
    carry_out(Ping(), session, worker.context)
    (pong,) = worker.journal.messages()
    assert pong["type"] == "pong"


def test_position_follows_the_pong() -> None:
    worker = Worker()
    session, _ = worker.connected()
    worker.hub.at = from_offsets("ab", [7])
    carry_out(Ping(), session, worker.context)
    pong, position = worker.journal.messages()
    assert (pong["type"], position) == (
        "pong",
        {"type": "position", "stream": "energy", "id": "ab-7"},
    )


def test_ping_may_ask_for_the_worker() -> None:
    worker = Worker()
    session, _ = worker.connected()
    carry_out(Ping(worker=True), session, worker.context)
    worker.context.worker = {"slot": 1, "pid": 4711}
    carry_out(Ping(), session, worker.context)
    carry_out(Ping(worker=True), session, worker.context)
    told = [pong.get("worker") for pong in worker.journal.messages()]
    assert told == [None, None, {"slot": 1, "pid": 4711}]


@pytest.mark.parametrize(
    ("found", "replies"), [(True, []), (False, ["STREAM_UNAVAILABLE"])], ids=["found", "not found"]
)
def test_subscribe_is_passed_to_the_hub(found: bool, replies: list[str]) -> None:
    worker = Worker()
    worker.hub.found = found
    session, _ = worker.connected()
    carry_out(subscribe("energy"), session, worker.context)
    assert ("hub.subscribe", ("energy",)) in worker.journal
    assert codes(worker) == replies


@pytest.mark.parametrize("message", [subscribe("energy", "gas"), Unsubscribe(("energy", "gas"))])
def test_unknown_stream_refuses_the_whole_request(message: Any) -> None:
    worker = Worker()
    session, _ = worker.connected()
    carry_out(message, session, worker.context)
    (reply,) = worker.journal.messages()
    assert reply["code"] == "UNKNOWN_STREAM"
    assert reply["message"].endswith("'gas'; known are energy")
    assert worker.journal.names() == ["write"]


def test_stream_that_the_token_does_not_allow_is_refused() -> None:
    worker = Worker()
    session, _ = worker.connected(streams=frozenset({"gas"}))
    carry_out(subscribe("energy"), session, worker.context)
    assert codes(worker) == ["FORBIDDEN_STREAM"]
    assert worker.journal.names() == ["write"]


def test_unsubscribe_is_confirmed_after_it_takes_effect() -> None:
    worker = Worker()
    session, _ = worker.connected()
    carry_out(Unsubscribe(("energy",)), session, worker.context)
    assert worker.journal[0] == ("hub.unsubscribe", ("energy",))
    assert codes(worker) == ["unsubscribed"]


def test_renewal_replaces_the_token_and_its_expiry() -> None:
    worker = Worker()
    session, _ = worker.connected()
    worker.tokens.good["fresh"] = fresh = principal("tester", 2.5e9)
    carry_out(Renew("fresh"), session, worker.context)
    assert session.principal is fresh
    assert worker.journal.names() == ["registry.expires", "write"]
    (reply,) = worker.journal.messages()
    assert reply == {"type": "authenticated", "expires": "2049-03-22T04:26:40.000Z"}


@pytest.mark.parametrize(
    ("fresh", "code"),
    [
        (None, "UNAUTHORIZED"),
        (principal("other", 2.5e9), "UNAUTHORIZED"),
        (principal("tester", 2.5e9, frozenset({"energy"})), "BAD_MESSAGE"),
    ],
    ids=["refused", "another subject", "for other streams"],
)
def test_bad_renewal_keeps_the_old_token(fresh: Principal | None, code: str) -> None:
    worker = Worker()
    session, _ = worker.connected()
    before = session.principal
    if fresh is not None:
        worker.tokens.good["fresh"] = fresh
    carry_out(Renew("fresh"), session, worker.context)
    assert codes(worker) == [code]
    assert session.principal is before
    assert not session.closing
    assert worker.journal.names() == ["write"]
