"""Which keys each way in gives, and what a client is told that may not have them."""

from __future__ import annotations

from typing import Any

import pytest

from energyws.process.board import Field
from energyws.process.counters import LIMITED
from energyws.protocol.http.queries import parse_query
from energyws.protocol.keys import KeyFilter
from energyws.protocol.messages import BadClientMessage, Renew, Subscribe
from energyws.settings import Limits, Snapshot, Stream
from tests.principals import principal
from tests.workers.websocket.recording import Worker
from workers.websocket.clients.commands import carry_out

STREAMS = {
    "energy": Stream(
        topic="readings", key="record", access="keyed", snapshot=Snapshot(enabled=True)
    ),
    "prices": Stream(topic="prices", key="record"),
    "news": Stream(topic="news"),
}


def request(query: str) -> Subscribe:
    made = parse_query(query)
    assert made is not None
    return made


def resolved(query: str, keys: object = None, **limits: Any) -> Subscribe:
    worker = Worker(Limits(**limits), STREAMS)
    return worker.context.keys.with_filters(request(query), principal(keys=keys))


def only(*keys: bytes) -> KeyFilter:
    return KeyFilter(frozenset(keys))


def test_client_that_names_no_keys_gets_those_of_its_token() -> None:
    assert resolved("subscribe=energy", ["a", "b"]).filters == {"energy": only(b"a", b"b")}


def test_client_gets_some_of_its_keys() -> None:
    assert resolved("subscribe=energy&key=b", ["a", "b"]).filters == {"energy": only(b"b")}


def test_stream_without_keys_needs_no_filter() -> None:
    plain = request("subscribe=news")
    worker = Worker(streams=STREAMS)
    assert worker.context.keys.with_filters(plain, principal()) is plain


def test_snapshot_is_of_the_keys_that_the_client_gets() -> None:
    made = resolved("subscribe=energy&snapshot=1", ["a", "b"])
    assert (made.snapshot, made.filters) == (True, {"energy": only(b"a", b"b")})


def test_each_of_several_streams_has_its_filter() -> None:
    made = resolved("subscribe=energy,prices,news&key=energy:a:1&key=prices:x", "a*")
    assert made.filters == {"energy": only(b"a:1"), "prices": only(b"x")}


@pytest.mark.parametrize(
    ("query", "keys", "code"),
    [
        ("subscribe=energy", None, "FORBIDDEN_KEY"),
        ("subscribe=energy", [], "FORBIDDEN_KEY"),
        ("subscribe=energy&key=foreign", ["mine"], "FORBIDDEN_KEY"),
        ("subscribe=energy&key=mine&key=foreign", ["mine"], "FORBIDDEN_KEY"),
        ("subscribe=energy&key=m*", ["mine"], "FORBIDDEN_KEY"),
        ("subscribe=energy", {"prices": "mine"}, "FORBIDDEN_KEY"),
        ("subscribe=news&key=mine", ["mine"], "NOT_KEYED"),
        ("subscribe=prices&key=mine&key=foreign&key=c", None, "TOO_MANY_KEYS"),
        ("subscribe=prices&key=", None, "BAD_MESSAGE"),
        ("subscribe=prices&snapshot=1", None, "SNAPSHOT_UNAVAILABLE"),
        ("subscribe=news&snapshot=1", None, "SNAPSHOT_UNAVAILABLE"),
        ("subscribe=energy&key=foreign&snapshot=1", ["mine"], "FORBIDDEN_KEY"),
    ],
)
def test_what_a_client_may_not_have_is_refused_as_a_whole(
    query: str, keys: object, code: str
) -> None:
    with pytest.raises(BadClientMessage) as refused:
        resolved(query, keys, keys_per_subscription=2)
    assert refused.value.error.code == code
    assert "mine" not in str(refused.value)
    assert "foreign" not in str(refused.value)


@pytest.mark.parametrize(
    ("query", "keys", "detail"),
    [
        ("subscribe=energy", None, "it names none of stream 'energy'"),
        ("subscribe=energy&key=foreign", ["mine"], "of stream 'energy'"),
    ],
)
def test_refusal_tells_a_token_without_keys_from_foreign_keys(
    query: str, keys: object, detail: str
) -> None:
    with pytest.raises(BadClientMessage) as refused:
        resolved(query, keys)
    assert refused.value.detail == detail


@pytest.mark.parametrize(
    ("query", "keys", "doubted"),
    [
        ("subscribe=prices", ["mine"], True),
        ("subscribe=prices&key=*", {"prices": "mine"}, True),
        ("subscribe=prices&key=mine", ["mine"], False),
        ("subscribe=prices", {"energy": "mine"}, False),
        ("subscribe=prices", "*", False),
        ("subscribe=prices", None, False),
        ("subscribe=energy", ["mine"], False),
        ("subscribe=news", ["mine"], False),
    ],
)
def test_stream_that_gives_more_than_a_token_names_is_told_of_once(
    query: str, keys: object, doubted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(streams=STREAMS)
    for _ in range(3):
        worker.context.keys.with_filters(request(query), principal(keys=keys))
    assert caplog.text.count("a token names keys, but") == doubted
    assert "mine" not in caplog.text


def test_refusals_are_counted() -> None:
    worker = Worker(Limits(keys_per_subscription=1), STREAMS)
    for query in ("subscribe=energy", "subscribe=prices&key=a&key=b"):
        with pytest.raises(BadClientMessage):
            worker.context.keys.with_filters(request(query), principal())
    assert worker.row[Field.FORBIDDEN_KEYS] == 1
    assert LIMITED.read(worker.row.columns())["keys_per_subscription",] == 1


def test_keys_of_a_token_do_not_count_for_the_limit() -> None:
    keys = [str(number) for number in range(200)]
    assert len(resolved("subscribe=energy", keys).filters["energy"]) == 200


def test_refusal_in_the_url_is_answered_and_the_connection_stays() -> None:
    worker = Worker(streams=STREAMS)
    session, transport = worker.session(first=request("subscribe=energy"))
    session.on_ws_connected(transport)  # type: ignore[arg-type]
    assert [each.get("code") for each in worker.journal.messages()] == ["FORBIDDEN_KEY"]
    assert not session.closing


def test_fresh_token_must_allow_the_same_keys() -> None:
    worker = Worker(streams=STREAMS)
    session, _ = worker.connected()
    worker.tokens.good["other"] = principal(keys=["b"])
    carry_out(Renew("other"), session, worker.context)
    (reply,) = worker.journal.messages()
    assert (reply["code"], "other keys" in reply["message"]) == ("BAD_MESSAGE", True)
    assert session.principal.token.rights is None
