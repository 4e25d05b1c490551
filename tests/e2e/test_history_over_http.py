"""`/last/<stream>` and `/history/<stream>`: records by plain HTTP requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from energyws.protocol.position import parse
from energyws.testing import Broker, Records, Service, eventually
from tests.clients import bare_socket, open_peer
from tests.http_clients import HttpResponse, fetch, read_response, request

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

Serve = Callable[..., Service]


def numbers(messages: list[dict[str, Any]]) -> list[int]:
    return [message["data"]["n"] for message in messages if message["type"] == "data"]


def head(service: Service) -> int:
    """How many records the worker's position covers; -1 before it has found the topic."""
    answer = fetch(service, "/last/energy")
    return sum(parse(answer.json["position"]).offsets) if answer.status == 200 else -1


def arrived(service: Service, producer: Records, count: int) -> list[dict[str, Any]]:
    """Write records; the messages that a WebSocket client gets."""
    with open_peer(service) as peer:
        peer.subscribe()
        producer.send(count)
        return [peer.until("data") for _ in range(count)]


def test_last_is_the_newest_record_with_its_position(service: Service, producer: Records) -> None:
    messages = arrived(service, producer, 30)
    answer = fetch(service, "/last/energy")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.json == {
        "type": "last",
        "stream": "energy",
        "records": messages[-1:],
        "position": messages[-1]["id"],
    }
    assert answer.headers["etag"] == f'"{messages[-1]["id"]}"'
    assert fetch(service, "/last/energy?last=30").json["records"] == messages


def test_last_that_is_known_is_not_sent_again(service: Service, producer: Records) -> None:
    arrived(service, producer, 1)
    etag = ""
    with bare_socket(service) as connection:

        def again() -> HttpResponse:
            connection.sendall(request(service, "/last/energy", f"If-None-Match: {etag}"))
            return read_response(connection)

        etag = again().headers["etag"]
        nothing_new = again()
        assert (nothing_new.status, nothing_new.headers["etag"]) == (304, etag)
        (new,) = producer.send(1)
        eventually(lambda: again().status == 200, "the record has arrived")
        assert numbers(again().json["records"]) == [new]


def test_answers_come_in_the_order_of_the_requests(service: Service, producer: Records) -> None:
    arrived(service, producer, 5)
    health = request(service, "/health")
    with bare_socket(service) as connection:
        connection.sendall(
            health
            + request(service, "/last/energy?last=2")
            + health
            + request(service, "/last/energy", method="HEAD")
            + request(service, "/history/energy?last=3")
            + health
            + request(service, "/last/energy?last=4", "Connection: close")
        )
        assert read_response(connection).body == b"OK"
        assert len(read_response(connection).json["records"]) == 2
        assert read_response(connection).body == b"OK"
        head = read_response(connection, head_only=True)
        assert (head.status, int(head.headers["content-length"]) > 100) == (200, True)
        assert len(read_response(connection).lines) == 4
        assert read_response(connection).body == b"OK"
        answer = read_response(connection)
        assert (len(answer.json["records"]), answer.headers["connection"]) == (4, "close")
        assert connection.recv(1) == b""


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_history_in_pieces_is_the_whole_topic(serve: Serve, records: Records, version: str) -> None:
    # The ring holds a fraction, and each chunk of the log less than a piece.
    service = serve(server={"workers": 1}, history={"max_frames": 50}).ready()
    sent = records.send(2_500, note="x" * 300)
    eventually(lambda: head(service) == len(sent), "all have arrived")
    query, seen, pieces = "since=1970-01-01T00:00:00Z", [], 0
    while True:
        answer = fetch(service, f"/history/energy?{query}&limit=700", version=version)
        assert (answer.status, answer.cut) == (200, False)
        assert answer.headers["content-type"] == "application/x-ndjson"
        assert ("transfer-encoding" in answer.headers) is (version == "1.1")
        *messages, end = answer.lines
        assert (end["type"], end["stream"], end["recovered"]) == ("end", "energy", True)
        seen += numbers(messages)
        pieces += 1
        if not end["more"]:
            break
        assert end["position"] == messages[-1]["id"]
        query = f"after={end['position']}"
    assert pieces == 4
    assert sorted(seen) == sent
    # Nothing is new since.
    assert len(fetch(service, f"/history/energy?after={end['position']}").lines) == 1


def test_last_is_found_in_the_log_after_a_restart(serve: Serve, records: Records) -> None:
    sent = records.send(20)
    service = serve(server={"workers": 1}, history={"max_frames": 5}).ready()
    eventually(lambda: head(service) == len(sent), "the topic is found")
    answer = fetch(service, "/last/energy?last=20")
    assert sorted(numbers(answer.json["records"])) == sent


def test_last_of_an_empty_topic_has_no_records(
    broker: Broker, serve: Serve, records: Records
) -> None:
    service = serve(server={"workers": 1}).ready()
    eventually(lambda: head(service) == 0, "the topic is found")
    assert fetch(service, "/last/energy").json["records"] == []
    assert [line["more"] for line in fetch(service, "/history/energy?last=5").lines] == [False]
