"""Server-Sent Events: what a client of the WebSocket gets, by plain HTTP."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from energyws.protocol.position import parse
from energyws.testing import Records, Service, Traffic, eventually, token
from energyws.testing.certificates import trusting, write_pair
from tests.clients import PATIENCE_SECONDS, bare_socket, open_peer
from tests.http_clients import EventSource, fetch, read_response, request
from tests.web.agent import program

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

Serve = Callable[..., Service]

# More than the buffers of a socket and the ring hold together.
SHALLOW = {"max_frames": 50, "warm": 5}
FLOOD_RECORDS = 400
FLOOD_PAD = "x" * 20_000


def test_live_events_are_the_messages_of_a_websocket(service: Service, producer: Records) -> None:
    with open_peer(service) as peer, EventSource(service) as source:
        assert source.head.status == 200
        assert source.head.headers["content-type"] == "text/event-stream"
        assert source.head.headers["cache-control"] == "no-store, no-transform"
        assert source.head.headers["x-accel-buffering"] == "no"
        assert source.head.headers["connection"] == "close"
        assert not source.head.headers.keys() & {"content-length", "transfer-encoding"}
        begin = source.next()
        assert begin is not None
        assert source.retry_ms is not None
        assert 1000 <= source.retry_ms <= 3000
        assert (begin.name, begin.json["type"]) == ("subscribed", "subscribed")
        assert begin.id == begin.json["positions"]["energy"]["position"]
        peer.subscribe()
        producer.send(50)
        for _ in range(50):
            event = source.next()
            assert event is not None
            assert (event.name, event.json) == ("message", peer.until("data"))
            assert event.id == event.json["id"]


def test_client_resumes_by_its_last_event_id_on_a_new_worker(
    serve: Serve, records: Records
) -> None:
    service = serve(server={"workers": 1}).ready()
    with EventSource(service) as source:
        source.until("subscribed")
        records.send(10)
        first = source.numbers(10)
        service.children()["worker-0"].kill()
        assert source.next() is None
        seen = source.last_id
    missed = records.send(5)
    service.ready()
    # The query is as old as the first request.
    with EventSource(service, "?last=3", last_event_id=seen) as source:
        assert source.until("subscribed").json["positions"]["energy"]["recovered"] is True
        assert sorted(first) == list(range(10))
        assert sorted(source.numbers(5)) == missed


def test_stream_is_the_same_for_http_1_0_and_for_a_program_without_accept(
    service: Service, producer: Records
) -> None:
    with EventSource(service, "?last=1", "Accept:", version="1.0") as source:
        assert source.head.headers["content-type"] == "text/event-stream"
        source.until("subscribed")
        sent = producer.send(1)
        # An older one may come first.
        while source.numbers(1) != sent:
            pass


def test_curl_follows_a_stream(service: Service, producer: Records) -> None:
    executable = program("curl")
    url = f"http://127.0.0.1:{service.port}/sse/energy?last=1&token={token()}"
    producer.send(1)
    with subprocess.Popen([executable, "-sN", url], stdout=subprocess.PIPE) as curl:
        assert curl.stdout is not None
        lines = iter(curl.stdout.readline, b"")
        data = (line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: "))
        assert orjson.loads(next(data))["type"] == "subscribed"
        assert orjson.loads(next(data))["type"] == "data"
        curl.kill()


def test_position_that_is_bad_is_answered_in_the_stream(service: Service) -> None:
    with EventSource(service, last_event_id="what was this?") as source:
        place = source.until("subscribed").json["positions"]["energy"]
    assert (place["recovered"], place["reason"]) == (False, "BAD_POSITION")


@pytest.mark.parametrize("path", ["/sse/energy", "/last/energy", "/history/energy?last=1"])
def test_refusals_are_statuses_that_pages_can_read(service: Service, path: str) -> None:
    events = ("Accept: text/event-stream", "Origin: http://a")
    for fields, target, status, code in (
        (("Authorization:",), path, 401, "UNAUTHORIZED"),
        ((f"Authorization: Bearer {token(streams=['gas'])}",), path, 403, "FORBIDDEN_STREAM"),
        ((), path.replace("energy", "gas"), 404, "NOT_FOUND"),
        ((), path + ("&" if "?" in path else "?") + "last=x&since=y", 400, "BAD_REQUEST"),
    ):
        answer = fetch(service, target, *events, *fields)
        assert (answer.status, answer.json["code"]) == (status, code)
        assert answer.headers["access-control-allow-origin"] == "*"
    preflight = fetch(service, path, "Origin: http://a", "Authorization:", method="OPTIONS")
    assert (preflight.status, "content-length" in preflight.headers) == (204, False)
    assert "Last-Event-ID" in preflight.headers["access-control-allow-headers"]
    assert fetch(service, path, method="HEAD").status == 200
    assert fetch(service, path, method="PUT").status == 405


def test_requests_before_a_stream_are_answered_and_none_after_it(
    service: Service, producer: Records
) -> None:
    producer.send(1)
    health, last = request(service, "/health"), request(service, "/last/energy")
    stream = request(service, "/sse/energy?last=1")
    with bare_socket(service) as connection:
        connection.sendall(health + last + stream + health)
        assert read_response(connection).body == b"OK"
        assert read_response(connection).json["type"] == "last"
        data = b""
        while b'"type":"data"' not in data:
            data += connection.recv(65536)
        assert data.count(b"HTTP/1.1 ") == 1


def test_stream_and_history_with_tls(serve: Serve, records: Records, tmp_path: Path) -> None:
    pair = write_pair(tmp_path)
    service = serve(server={"workers": 1, "tls": pair}, history={"max_frames": 20}).ready()
    trust = trusting(pair["cert"])
    with EventSource(service, trust=trust) as source:
        source.until("subscribed")
        sent = records.send(2_000, pad="x" * 500)
        assert sorted(source.numbers(2_000)) == sent
    with EventSource(service, "?last=2000", trust=trust) as source:
        assert sorted(source.numbers(2_000)) == sent
    history = request(service, "/history/energy?last=2000&limit=3000")
    with bare_socket(service, trust) as connection:
        connection.sendall(history + request(service, "/last/energy"))
        *messages, end = read_response(connection).lines
        assert sorted(message["data"]["n"] for message in messages) == sent
        assert (end["more"], end["recovered"]) == (False, True)
        assert read_response(connection).json["position"] == end["position"]


def test_client_follows_a_roll_of_all_processes(serve: Serve, records: Records) -> None:
    service = serve(server={"workers": 2, "drain_seconds": 0.5}).ready()
    numbers: set[int] = set()
    last_event_id = ""
    with Traffic(records) as traffic:
        for _ in range(2):
            with EventSource(service, last_event_id=last_event_id) as source:
                source.until("subscribed")
                service.signal(signal.SIGUSR2)
                *events, last = source.rest()
            assert last.name == "reconnect"
            assert source.retry_ms == last.json["after_ms"]
            numbers |= {event.json["data"]["n"] for event in events if event.name == "message"}
            last_event_id = source.last_id
            traffic.more(10)
    with EventSource(service, last_event_id=last_event_id) as source:
        while len(numbers) < records.sent:
            numbers |= set(source.numbers(1))
    # Replayed records may come twice: an id says less about the other partitions.
    assert numbers == set(range(records.sent))


def test_stream_ends_when_its_token_expires_and_the_next_one_is_refused(serve: Serve) -> None:
    service = serve(
        server={"workers": 1}, auth={"expiry_notice_seconds": 2, "leeway_seconds": 0}
    ).ready()
    bearer = f"Authorization: Bearer {token(seconds=4)}"
    with EventSource(service, "", bearer) as source:
        source.until("subscribed")
        events = source.rest()
    assert [(event.name, event.json["code"]) for event in events] == [
        ("notice", "TOKEN_EXPIRING"),
        ("problem", "TOKEN_EXPIRED"),
    ]
    answer = fetch(service, "/sse/energy", bearer, "Accept: text/event-stream")
    assert (answer.status, answer.json["code"]) == (401, "TOKEN_EXPIRED")
    service.wait_logged("client disconnected kind=sse", "code=4401")


def test_full_service_lets_an_event_source_come_back(serve: Serve, records: Records) -> None:
    service = serve(server={"workers": 1, "max_connections": 1, "ping_interval_seconds": 1}).ready()
    with EventSource(service) as source:
        source.until("subscribed")
        with EventSource(service) as refused:
            assert refused.head.status == 200
            (event,) = refused.rest()
            assert (event.name, event.json["code"]) == ("problem", "TOO_MANY_CONNECTIONS")
            assert refused.retry_ms is not None
        for path in ("/sse/energy", "/last/energy", "/history/energy?last=1"):
            answer = fetch(service, path)
            assert (answer.status, answer.json["code"]) == (503, "TOO_MANY_CONNECTIONS")
            assert answer.headers["retry-after"]
        eventually(lambda: board(service, "event_streams") == 1, "it is counted")
        # Meanwhile the other one is kept alive.
        comments = source.comments
        with pytest.raises(TimeoutError):
            source.next(2.5)
        assert source.comments > comments
    eventually(lambda: fetch(service, "/last/energy").status == 200, "there is room")
    service.wait_logged("client disconnected kind=sse", "code=1001")


def board(service: Service, field: str) -> int:
    """One figure of the only worker."""
    workers = service.admin("/workers")[1]
    value: int = next(each["board"][field] for each in workers if each["name"] == "worker-0")
    return value


def test_slow_client_that_is_disconnected_resumes_exactly(serve: Serve, records: Records) -> None:
    service = serve(server={"workers": 1}, history=SHALLOW).ready()
    numbers: list[int] = []
    position = None
    with (
        EventSource(service, "?on_lag=disconnect", buffer=65_536) as slow,
        open_peer(service) as ok,
    ):
        slow.until("subscribed")
        ok.subscribe()
        for _ in range(0, FLOOD_RECORDS, 50):
            ok.numbers(len(records.send(50, pad=FLOOD_PAD)))
        for event in slow.rest():
            numbers.append(event.json["data"]["n"])
            seen = parse(event.id)
            position = seen if position is None else position.merge(seen)
    assert 0 < len(numbers) < FLOOD_RECORDS
    with EventSource(service, last_event_id=str(position)) as again:
        numbers += again.numbers(FLOOD_RECORDS - len(numbers))
    assert sorted(numbers) == list(range(FLOOD_RECORDS))


def test_history_is_read_at_the_clients_pace_and_once_for_each_subject(
    serve: Serve, records: Records
) -> None:
    service = serve(server={"workers": 1}, history=SHALLOW).ready()
    path = "/history/energy?since=1970-01-01T00:00:00Z"
    with bare_socket(service) as slow:
        for _ in range(0, FLOOD_RECORDS, 50):
            records.send(50, pad=FLOOD_PAD)
        eventually(
            lambda: (
                sum(parse(fetch(service, "/last/energy").json["position"]).offsets) == FLOOD_RECORDS
            ),
            "all have arrived",
        )
        slow.sendall(request(service, path))
        slow.settimeout(PATIENCE_SECONDS)
        begin = slow.recv(4096)
        again = fetch(service, path)
        assert (again.status, again.json["code"]) == (429, "TOO_MANY_REQUESTS")
        assert again.headers["retry-after"]
        other = fetch(service, path, f"Authorization: Bearer {token('another')}")
        assert len(other.lines) == FLOOD_RECORDS + 1
        # Meanwhile the ring has forgotten everything that it has not read.
        records.send(100)
        data = begin
        while not data.endswith(b"\r\n0\r\n\r\n"):
            piece = slow.recv(1 << 20)
            assert piece, "the answer was cut"
            data += piece
        assert data.count(b'"type":"lagged"') == 0
        assert data.count(b'"type":"data"') >= FLOOD_RECORDS
        assert fetch(service, path + "&limit=1").status == 200
