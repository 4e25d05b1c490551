"""The gate: which requests become WebSockets, and the responses to the others."""

from __future__ import annotations

import base64
import json
import resource
from typing import Any

import pytest
from multidict import CIMultiDict

from energyws.auth.verifier import Principal
from energyws.dashboard.site import Site
from energyws.errors import BAD_REQUEST
from energyws.process.board import Field
from energyws.process.counters import HANDSHAKES
from energyws.protocol.forms import Form
from energyws.protocol.http.client_address import TrustedProxies
from energyws.protocol.http.request import BadRequest, Request
from energyws.protocol.http.response import Response
from energyws.settings import Auth, Limits, Server
from tests.principals import principal
from tests.workers.websocket.recording import RecordingTransport, Worker
from workers.websocket.accept.handshake import PATH, Gate, max_descriptor
from workers.websocket.clients.refusal import RefusedClient
from workers.websocket.clients.session import Session
from workers.websocket.connection.upgrade import Upgrade

PEER = "192.0.2.1"
KEY = base64.b64encode(bytes(16)).decode()


def gate(reject: Any = "auto", **server: Any) -> tuple[Gate, Worker]:
    """The gate of a worker that accepts the token `good`."""
    worker = Worker(**server)
    worker.tokens.good["good"] = principal()
    return Gate(worker.context, Auth(reject=reject), worker.board), worker


def upgrade(query: str = "", **fields: str | None) -> Request:
    """A handshake; `fields` replace its header fields, None removes one."""
    headers: dict[str, str | None] = {
        "Host": "here",
        "Upgrade": "websocket",
        "Connection": "keep-alive, Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
        "Authorization": "Bearer good",
    }
    headers |= {name.replace("_", "-"): value for name, value in fields.items()}
    given = CIMultiDict((name, value) for name, value in headers.items() if value is not None)
    return Request("GET", PATH, query, 1, given)


def get(path: str, method: str = "GET") -> Request:
    return Request(method, path, "", 1, CIMultiDict(Host="here"))


def code(answer: object) -> str:
    assert isinstance(answer, Response)
    found: str = json.loads(answer.body)["code"]
    return found


def handshakes(worker: Worker) -> dict[str, int]:
    return {labels[0]: n for labels, n in HANDSHAKES.read(worker.row.columns()).items() if n}


def test_good_token_becomes_a_session() -> None:
    made, worker = gate()
    answer = made.answer(upgrade(), PEER)
    assert isinstance(answer, Upgrade)
    assert isinstance(answer.listener, Session)
    assert (answer.listener.subject, answer.listener.form) == ("tester", Form.PLAIN)
    assert answer.key == KEY
    assert (worker.row[Field.HANDSHAKES], worker.row[Field.REFUSALS]) == (1, 0)
    assert handshakes(worker) == {"accepted": 1}


@pytest.mark.parametrize(
    "request_",
    [
        upgrade(),
        upgrade(Authorization="bearer  good"),
        upgrade(Authorization=None, Sec_WebSocket_Protocol="energyws, bearer.good"),
        upgrade("token=good", Authorization=None),
        upgrade("subscribe=energy&token=good", Authorization="Basic eDp5"),
    ],
    ids=["header", "any case", "subprotocol", "query", "query beside another scheme"],
)
def test_token_may_be_in_any_of_its_places(request_: Request) -> None:
    made, _ = gate()
    assert isinstance(made.answer(request_, PEER), Upgrade)


def test_subprotocol_with_the_token_is_never_accepted() -> None:
    made, _ = gate()
    for offered, accepted in (("bearer.good, energyws", True), ("bearer.good", False)):
        answer = made.answer(upgrade(Sec_WebSocket_Protocol=offered), PEER)
        assert isinstance(answer, Upgrade)
        head = answer.response.head()
        assert (b"Sec-WebSocket-Protocol: energyws\r\n" in head) is accepted
        assert b"bearer" not in head


def test_compression_is_negotiated_if_the_settings_allow_it() -> None:
    offer = {"Sec_WebSocket_Extensions": "permessage-deflate"}
    for compression in (True, False):
        made, _ = gate(compression=compression)
        answer = made.answer(upgrade(**offer), PEER)
        assert isinstance(answer, Upgrade)
        assert isinstance(answer.listener, Session)
        assert answer.listener.form is (Form.DEFLATE if compression else Form.PLAIN)
        assert (b"permessage-deflate" in answer.response.head()) is compression


@pytest.mark.parametrize(
    ("request_", "status", "error"),
    [
        (upgrade(Upgrade=None), 426, "UPGRADE_REQUIRED"),
        (upgrade(Connection="close"), 426, "UPGRADE_REQUIRED"),
        (upgrade(Sec_WebSocket_Version="8"), 426, "UPGRADE_REQUIRED"),
        (upgrade(Sec_WebSocket_Key=None), 400, "BAD_REQUEST"),
        (upgrade(Sec_WebSocket_Key="c2hvcnQ="), 400, "BAD_REQUEST"),
        (upgrade(Sec_WebSocket_Key="?" * 24), 400, "BAD_REQUEST"),
        (upgrade(Content_Length="3"), 400, "BAD_REQUEST"),
        (upgrade(Sec_WebSocket_Extensions="a b"), 400, "BAD_REQUEST"),
        (upgrade(Authorization="Bearer bad"), 401, "UNAUTHORIZED"),
        (upgrade(Authorization=None), 401, "UNAUTHORIZED"),
        (get("/elsewhere"), 404, "NOT_FOUND"),
        (get(PATH, "POST"), 405, "METHOD_NOT_ALLOWED"),
        (get("/elsewhere", "DELETE"), 404, "NOT_FOUND"),
        (get("*", "OPTIONS"), 405, "METHOD_NOT_ALLOWED"),
    ],
)
def test_refusal_has_its_status_and_code(request_: Request, status: int, error: str) -> None:
    made, worker = gate()
    answer = made.answer(request_, PEER)
    assert isinstance(answer, Response)
    assert (answer.status, code(answer)) == (status, error)
    assert handshakes(worker) == {error.lower(): 1}


@pytest.mark.parametrize(
    ("request_", "header", "value"),
    [
        (upgrade(Authorization=None), "WWW-Authenticate", 'Bearer realm="energyws"'),
        (get(PATH, "POST"), "Allow", "GET, HEAD"),
        (upgrade(Upgrade=None), "Sec-WebSocket-Version", "13"),
    ],
)
def test_refusal_has_the_header_that_helps_the_client(
    request_: Request, header: str, value: str
) -> None:
    made, _ = gate()
    answer = made.answer(request_, PEER)
    assert isinstance(answer, Response)
    assert answer.headers[header] == value
    assert answer.headers["Cache-Control"] == "no-store"


def test_full_service_sends_retry_after() -> None:
    made, worker = gate(max_connections=1)
    assert isinstance(made.answer(upgrade(), PEER), Upgrade)
    # A connection to another worker counts, too.
    worker.board.row(1).add(Field.CONNECTIONS)
    answer = made.answer(upgrade(), PEER)
    assert isinstance(answer, Response)
    assert (answer.status, code(answer)) == (503, "TOO_MANY_CONNECTIONS")
    assert 1 <= int(answer.headers["Retry-After"]) <= 5
    assert worker.row[Field.REFUSALS] == 1


def test_worker_short_of_memory_refuses_before_it_checks_the_token() -> None:
    made, worker = gate()
    made.short_of_memory = True
    answer = made.answer(upgrade(Authorization="Bearer bad"), PEER)
    assert isinstance(answer, Response)
    assert (answer.status, code(answer)) == (503, "TOO_MANY_CONNECTIONS")
    assert answer.headers["Retry-After"].isdigit()
    assert handshakes(worker) == {"too_many_connections": 1}
    health = made.answer(get("/health"), PEER)
    assert isinstance(health, Response)
    assert health.status == 200
    made.short_of_memory = False
    assert isinstance(made.answer(upgrade(), PEER), Upgrade)


def test_draining_service_refuses_before_it_checks_the_token() -> None:
    made, _ = gate()
    made.draining = True
    assert code(made.answer(upgrade(Authorization="Bearer bad"), PEER)) == "SHUTTING_DOWN"


def test_origin_must_be_among_the_allowed_ones() -> None:
    made, _ = gate("http", allowed_origins=("https://good.example",))
    for origin, allowed in ((None, True), ("https://good.example", True), ("null", False)):
        answer = made.answer(upgrade(Origin=origin), PEER)
        assert isinstance(answer, Upgrade) is allowed
        assert allowed or code(answer) == "FORBIDDEN_ORIGIN"


@pytest.mark.parametrize(
    ("reject", "fields", "by_message"),
    [
        ("auto", {}, False),
        ("auto", {"Origin": "https://page.example"}, True),
        ("auto", {"Sec_WebSocket_Protocol": "bearer.bad"}, True),
        ("http", {"Origin": "https://page.example"}, False),
        ("message", {}, True),
    ],
    ids=["program", "browser", "subprotocol of a browser", "always HTTP", "always a message"],
)
def test_browsers_are_refused_with_a_message(
    reject: str, fields: dict[str, str], by_message: bool
) -> None:
    made, worker = gate(reject)
    answer = made.answer(upgrade(Authorization=None, **fields), PEER)
    assert worker.row[Field.REFUSALS] == 1
    if not by_message:
        assert code(answer) == "UNAUTHORIZED"
        return
    assert isinstance(answer, Upgrade)
    assert isinstance(answer.listener, RefusedClient)
    transport: Any = RecordingTransport(worker.journal)
    answer.listener.on_ws_connected(transport)
    assert [message["code"] for message in worker.journal.messages()] == ["UNAUTHORIZED"]
    assert worker.journal.close_codes() == [4401]


def test_bad_subscription_in_the_query_does_not_refuse_the_connection() -> None:
    made, worker = gate()
    answer = made.answer(upgrade("subscribe=energy&last=many"), PEER)
    assert isinstance(answer, Upgrade)
    transport: Any = RecordingTransport(worker.journal)
    answer.listener.on_ws_connected(transport)
    assert [message["code"] for message in worker.journal.messages()] == ["BAD_MESSAGE"]


def test_health_is_ok() -> None:
    made, worker = gate()
    answer = made.answer(get("/health"), PEER)
    assert isinstance(answer, Response)
    assert (answer.status, answer.body) == (200, b"OK")
    assert handshakes(worker) == {}


def test_invalid_request_is_refused_and_counted() -> None:
    made, worker = gate()
    answer = made.refuse(BadRequest(BAD_REQUEST, "no request line"), PEER)
    assert (answer.status, code(answer)) == (400, "BAD_REQUEST")
    assert handshakes(worker) == {"bad_request": 1}


def test_internal_error_is_answered_and_logged_without_the_token(
    caplog: pytest.LogCaptureFixture,
) -> None:
    made, worker = gate()

    def broken(token: str) -> Principal:
        raise RuntimeError(token)

    worker.tokens.check = broken  # type: ignore[method-assign]
    assert code(made.answer(upgrade(Authorization="Bearer secret"), PEER)) == "INTERNAL_ERROR"
    assert [record.getMessage() for record in caplog.records] == ["a request could not be handled"]
    assert "secret" not in str(vars(caplog.records[0])["energyws_fields"])


def test_some_descriptors_are_reserved_for_other_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    assert max_descriptor() == 960


def test_page_is_served_where_it_is_on() -> None:
    made, _ = gate()
    off = made.answer(get("/"), PEER)
    assert isinstance(off, Response)
    assert off.status == 404
    assert b"server.dashboard" in off.body
    made.site = Site({"index.html": b"a page", "app.js": b""})
    index = made.answer(get("/"), PEER)
    assert isinstance(index, Response)
    assert (index.status, index.body) == (200, b"a page")
    again = get("/")
    again.headers["If-None-Match"] = index.headers["ETag"]
    unchanged = made.answer(again, PEER)
    assert isinstance(unchanged, Response)
    assert unchanged.status == 304
    assert code(made.answer(get("/", "POST"), PEER)) == "METHOD_NOT_ALLOWED"
    assert code(made.answer(get("/elsewhere"), PEER)) == "NOT_FOUND"


def limited(**limits: int) -> tuple[Gate, Worker]:
    worker = Worker(Limits(**limits))
    for number in range(3):
        worker.tokens.good[f"good-{number}.sig"] = principal(f"tester-{number}")
    return Gate(worker.context, Auth(), worker.board), worker


def by(number: int = 0, **fields: str | None) -> Request:
    return upgrade(Authorization=f"Bearer good-{number}.sig", **fields)


@pytest.mark.parametrize(
    ("limit", "second", "free"),
    [
        ("connections_per_address", (by(1), PEER), (by(1), "192.0.2.2")),
        ("connections_per_subject", (by(0), "192.0.2.2"), (by(1), PEER)),
        ("connections_per_token", (by(0), "192.0.2.2"), (by(1), PEER)),
    ],
)
def test_who_has_its_share_is_refused_and_others_are_not(
    limit: str, second: tuple[Request, str], free: tuple[Request, str]
) -> None:
    made, worker = limited(**{limit: 1})
    assert isinstance(made.answer(by(0), PEER), Upgrade)
    refused = made.answer(*second)
    assert isinstance(refused, Response)
    assert (refused.status, code(refused)) == (429, "CONNECTION_LIMIT")
    assert f"limits.{limit}" in json.loads(refused.body)["message"]
    assert "Retry-After" in refused.headers
    assert isinstance(made.answer(*free), Upgrade)
    assert worker.row[Field.CONNECTIONS] == 2
    assert handshakes(worker) == {"accepted": 2, "connection_limit": 1}


def test_browser_over_its_limit_gets_a_message() -> None:
    made, _ = limited(connections_per_subject=1)
    made.answer(by(), PEER)
    answer = made.answer(by(Origin="https://page.example"), PEER)
    assert isinstance(answer, Upgrade)
    assert isinstance(answer.listener, RefusedClient)


def test_requests_of_one_moment_do_not_exceed_max_connections() -> None:
    made, worker = gate(max_connections=2)
    answers = [made.answer(upgrade(), PEER) for _ in range(4)]
    assert [isinstance(answer, Upgrade) for answer in answers] == [True, True, False, False]
    # None of them has begun; those that never will are given back.
    worker.shares.tick()
    worker.shares.tick()
    assert isinstance(made.answer(upgrade(), PEER), Upgrade)


def test_limits_are_those_of_the_client_that_a_trusted_proxy_names() -> None:
    made, _ = limited(connections_per_address=1)
    made.proxies = TrustedProxies(["10.0.0.0/8"])
    assert isinstance(
        made.answer(by(X_Forwarded_For="203.0.113.7, 192.0.2.1"), "10.0.0.1"), Upgrade
    )
    named = by(X_Forwarded_For="203.0.113.8, 192.0.2.1")
    assert code(made.answer(named, "10.0.0.2")) == "CONNECTION_LIMIT"
    assert isinstance(made.answer(by(X_Forwarded_For="192.0.2.2"), "10.0.0.1"), Upgrade)
    # Who is no proxy cannot be somebody else.
    assert code(made.answer(by(X_Forwarded_For="192.0.2.9"), "192.0.2.1")) == "CONNECTION_LIMIT"


def test_only_the_chosen_header_names_a_client() -> None:
    made, worker = limited(connections_per_address=1)
    worker.context.settings = Server(forwarded_header="Forwarded")
    made.proxies = TrustedProxies(["10.0.0.1"])
    for host in (1, 2):
        request = by(Forwarded=f"for=192.0.2.{host}", X_Forwarded_For="203.0.113.9")
        assert isinstance(made.answer(request, "10.0.0.1"), Upgrade)


def test_requests_through_a_proxy_are_arrivals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 100.0)
    made, worker = limited(new_connections_per_address_per_second=1)
    made.proxies = TrustedProxies(["10.0.0.1"])
    request = by(X_Forwarded_For="192.0.2.1")
    assert isinstance(made.answer(request, "10.0.0.1"), Upgrade)
    assert code(made.answer(request, "10.0.0.1")) == "CONNECTION_LIMIT"
    assert isinstance(made.answer(by(X_Forwarded_For="192.0.2.2"), "10.0.0.1"), Upgrade)
    assert worker.row[Field.REFUSALS] == 1
