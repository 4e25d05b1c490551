"""The HTTP paths of a stream: which requests are admitted, and the headers of their answers."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from multidict import CIMultiDict

from energyws.process.board import Field
from energyws.process.counters import HANDSHAKES
from energyws.protocol.http.request import Request
from energyws.protocol.http.response import Response
from energyws.protocol.position import parse
from energyws.settings import Auth, Snapshot, Stream
from tests.principals import principal
from tests.workers.websocket.recording import Worker
from workers.websocket.accept.handshake import Gate
from workers.websocket.clients.answers import MOST_AT_ONCE
from workers.websocket.clients.event_stream import EventStream
from workers.websocket.clients.history import History
from workers.websocket.clients.last import Last, LastSnapshot

PATHS = ("/sse/energy", "/last/energy", "/history/energy?last=1")
EVENTS = {"Accept": "text/event-stream"}


def gate(**server: Any) -> tuple[Gate, Worker]:
    """The gate of a worker that accepts the token `good`, and `other` for another stream."""
    worker = Worker(**server)
    worker.tokens.good["good"] = principal()
    worker.tokens.good["other"] = principal("tester", 2e9, frozenset({"gas"}))
    return Gate(worker.context, Auth(), worker.board), worker


def ask(made: Gate, target: str, method: str = "GET", minor: int = 1, **fields: str | None) -> Any:
    """The answer to a request with the token `good`; `fields` replace header fields."""
    headers: dict[str, str | None] = {"Host": "here", "Authorization": "Bearer good"}
    headers |= {name.replace("_", "-"): value for name, value in fields.items()}
    given = CIMultiDict((name, value) for name, value in headers.items() if value is not None)
    path, _, query = target.partition("?")
    return made.answer(Request(method, path, query, minor, given), "192.0.2.1")


def refused(answer: Any) -> tuple[int, str]:
    assert isinstance(answer, Response)
    assert answer.body is not None
    return answer.status, orjson.loads(answer.body)["code"]


@pytest.mark.parametrize("place", ["header", "query"])
def test_good_token_is_admitted(place: str) -> None:
    made, worker = gate()
    given = {} if place == "header" else {"Authorization": None}
    token = "" if place == "header" else "?token=good&last=1"
    assert isinstance(ask(made, "/sse/energy" + token, **given), EventStream)
    assert isinstance(ask(made, "/last/energy" + token, **given), Last)
    assert isinstance(ask(made, "/history/energy" + (token or "?last=1"), **given), History)
    counts = {labels[0]: n for labels, n in HANDSHAKES.read(worker.row.columns()).items() if n}
    assert counts == {"accepted": 3}
    assert (worker.row[Field.HANDSHAKES], worker.row[Field.REFUSALS]) == (3, 0)


@pytest.mark.parametrize(
    ("target", "fields", "expected"),
    [
        ("/sse/energy", {"Authorization": None}, (401, "UNAUTHORIZED")),
        ("/sse/energy", {"Authorization": "Bearer bad", **EVENTS}, (401, "UNAUTHORIZED")),
        ("/last/energy?token=bad", {"Authorization": None}, (401, "UNAUTHORIZED")),
        ("/sse/energy", {"Authorization": "Bearer other", **EVENTS}, (403, "FORBIDDEN_STREAM")),
        ("/history/energy?last=1", {"Authorization": "Bearer other"}, (403, "FORBIDDEN_STREAM")),
        ("/sse/gas", EVENTS, (404, "NOT_FOUND")),
        ("/last/", {}, (404, "NOT_FOUND")),
        ("/last/energy/", {}, (404, "NOT_FOUND")),
        ("/last/energy?last=0", {}, (400, "BAD_REQUEST")),
        ("/last/energy?snapshot=1&last=2", {}, (400, "BAD_REQUEST")),
        ("/last/energy?snapshot=1", {}, (400, "SNAPSHOT_UNAVAILABLE")),
        ("/last/energy?snapshot=1&key=a", {}, (400, "NOT_KEYED")),
        ("/history/energy", {}, (400, "BAD_REQUEST")),
        ("/sse/energy?since=now", EVENTS, (400, "BAD_REQUEST")),
        ("/last", {}, (404, "NOT_FOUND")),
        ("//sse/energy", {}, (404, "NOT_FOUND")),
    ],
)
def test_refused_requests(target: str, fields: dict[str, Any], expected: tuple[int, str]) -> None:
    made, worker = gate()
    assert refused(ask(made, target, **fields)) == expected
    assert HANDSHAKES.read(worker.row.columns())[(expected[1].lower(),)] == 1


@pytest.mark.parametrize("path", PATHS)
def test_other_methods_are_refused(path: str) -> None:
    made, worker = gate()
    answer = ask(made, path, "POST")
    assert refused(answer) == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == "GET, HEAD, OPTIONS"
    # Or a page sees only that the network failed.
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert HANDSHAKES.read(worker.row.columns())[("method_not_allowed",)] == 1


def test_full_and_draining_services_refuse_for_now() -> None:
    made, worker = gate(max_connections=1)
    worker.row.add(Field.CONNECTIONS)
    for path in PATHS:
        answer = ask(made, path)
        assert refused(answer) == (503, "TOO_MANY_CONNECTIONS")
        assert 1 <= int(answer.headers["Retry-After"]) <= 5
    made.draining = True
    assert refused(ask(made, "/last/energy", **EVENTS)) == (503, "SHUTTING_DOWN")


def test_temporary_refusal_of_an_event_source_is_an_event() -> None:
    made, worker = gate(max_connections=1)
    worker.row.add(Field.CONNECTIONS)
    answer = ask(made, "/sse/energy", Accept="text/html, Text/Event-Stream;q=1")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/event-stream")
    assert answer.is_error
    pause, event, rest = answer.body.split(b"\n\n", 2)
    assert 1000 <= int(pause.removeprefix(b"retry: ")) <= 5000
    assert event.startswith(b"event: problem\ndata: {")
    assert b"TOO_MANY_CONNECTIONS" in event
    assert rest == b""
    assert worker.row[Field.REFUSALS] == 1


def test_head_of_a_stream_is_its_head_and_begins_nothing() -> None:
    made, worker = gate()
    for path, kind in (("/sse/energy", "text/event-stream"), (PATHS[2], "application/x-ndjson")):
        answer = ask(made, path, "HEAD")
        assert (answer.status, answer.body, answer.headers["Content-Type"]) == (200, None, kind)
        encoded = answer.encode(now=0, closes=False, head_only=True)
        assert b"Content-Length" not in encoded
    assert worker.journal == []


@pytest.mark.parametrize("path", PATHS)
def test_pages_of_any_origin_may_read_unless_origins_are_listed(path: str) -> None:
    made, _ = gate()
    for fields in ({}, {"Origin": "https://a"}, {"Origin": "https://a", "Authorization": None}):
        answer = ask(made, path.replace("energy", "gas"), **fields)  # type: ignore[arg-type]
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Vary" not in answer.headers
    made, _ = gate(allowed_origins=("https://a",))
    good = ask(made, path, Origin="https://a", Authorization=None)
    assert good.headers["Access-Control-Allow-Origin"] == "https://a"
    assert good.headers["Vary"] == "Origin"
    program = ask(made, path, Authorization=None)
    assert (program.status, program.headers["Vary"]) == (401, "Origin")
    bad = ask(made, path, Origin="https://b")
    assert refused(bad) == (403, "FORBIDDEN_ORIGIN")
    assert "Access-Control-Allow-Origin" not in bad.headers


@pytest.mark.parametrize("path", PATHS)
def test_preflight_needs_no_token_and_no_room(path: str) -> None:
    made, worker = gate(allowed_origins=("https://a",), max_connections=0)
    made.draining = True
    answer = ask(made, path, "OPTIONS", Origin="https://a", Authorization=None)
    assert (answer.status, answer.body) == (204, None)
    assert answer.headers == {
        "Vary": "Origin",
        "Access-Control-Allow-Origin": "https://a",
        "Access-Control-Allow-Methods": "GET, HEAD",
        "Access-Control-Allow-Headers": "Authorization, Last-Event-ID, If-None-Match",
        "Access-Control-Max-Age": "600",
    }
    assert worker.row[Field.HANDSHAKES] == 0
    assert refused(ask(made, path, "OPTIONS", Origin="https://b")) == (403, "FORBIDDEN_ORIGIN")


def test_records_that_are_known_are_not_sent_again() -> None:
    made, worker = gate()
    tag = '"ab-1.2"'
    assert isinstance(ask(made, "/last/energy", If_None_Match=tag), Last)
    worker.hub.at = parse("ab-1.2")
    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = ask(made, "/last/energy", If_None_Match=known)
        assert (answer.status, answer.body, answer.headers["ETag"]) == (304, None, tag)
    assert isinstance(ask(made, "/last/energy", If_None_Match='"ab-1.1"'), Last)


def test_what_is_known_of_one_clients_keys_is_not_taken_for_anothers() -> None:
    worker = Worker(streams={"energy": Stream(topic="readings", key="record", access="keyed")})
    worker.tokens.good["good"] = principal(keys=["a"])
    worker.hub.at = parse("ab-1.2")
    made = Gate(worker.context, Auth(), worker.board)
    # A browser whose user is another one by now has the earlier user's answer to this URL.
    for known in ('"ab-1.2"', "*"):
        assert isinstance(ask(made, "/last/energy", If_None_Match=known), Last)


def test_history_is_read_for_each_subject_once_and_for_a_few_at_a_time() -> None:
    made, worker = gate()
    worker.context.reading["tester"] = 1
    assert refused(ask(made, PATHS[2])) == (429, "TOO_MANY_REQUESTS")
    assert isinstance(ask(made, "/last/energy"), Last)
    del worker.context.reading["tester"]
    for other in range(MOST_AT_ONCE):
        assert isinstance(ask(made, PATHS[2]), History)
        worker.context.reading[str(other)] = 1
    answer = ask(made, PATHS[2])
    assert refused(answer) == (429, "TOO_MANY_REQUESTS")
    assert "Retry-After" in answer.headers


KEYED = {"energy": Stream(topic="t", key="record", access="keyed", snapshot=Snapshot(enabled=True))}


def keyed_gate() -> tuple[Gate, Worker]:
    """The gate of a worker whose stream has keys and snapshots; `good` allows m7, `all` all."""
    worker = Worker(streams=KEYED)
    worker.tokens.good["good"] = principal(keys=["m7"])
    worker.tokens.good["all"] = principal(keys=["*"])
    return Gate(worker.context, Auth(), worker.board), worker


@pytest.mark.parametrize(
    ("query", "keys"), [("", [b"m7"]), ("&key=m7", [b"m7"]), ("&key=*", [b"m7"])]
)
def test_newest_record_of_each_key_is_that_of_keys_that_the_token_allows(
    query: str, keys: list[bytes]
) -> None:
    made, _ = keyed_gate()
    answer = ask(made, "/last/energy?snapshot=1" + query)
    assert isinstance(answer, LastSnapshot)
    assert answer.asked.subscribe.snapshot
    assert sorted(answer.asked.subscribe.filters["energy"].exact) == keys
    assert refused(ask(made, "/last/energy?snapshot=1&key=m8")) == (403, "FORBIDDEN_KEY")


def test_newest_record_of_nobody_knows_how_many_keys_is_given_to_few_at_once() -> None:
    made, worker = keyed_gate()
    everything = "/last/energy?snapshot=1&token=all"
    for number in range(MOST_AT_ONCE):
        assert isinstance(ask(made, everything, Authorization=None), LastSnapshot)
        worker.context.reading[f"{number}"] = 1
    assert refused(ask(made, everything, Authorization=None)) == (429, "TOO_MANY_REQUESTS")
    assert isinstance(ask(made, "/last/energy?snapshot=1"), LastSnapshot)


def test_head_of_a_snapshot_begins_nothing() -> None:
    made, _ = keyed_gate()
    answer = ask(made, "/last/energy?snapshot=1", "HEAD")
    assert (answer.status, answer.body) == (200, None)
    assert answer.headers["Cache-Control"] == "no-store"
