"""Server-Sent Events: what a client of the WebSocket gets, by plain HTTP."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from energyws.testing import Records, Service
from tests.clients import open_peer
from tests.http_clients import EventSource

pytestmark = [pytest.mark.e2e, pytest.mark.edge]

Serve = Callable[..., Service]


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
