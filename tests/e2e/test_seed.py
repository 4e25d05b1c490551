"""The seed's five end-to-end cases, by the names that its README gave them."""

from __future__ import annotations

import base64
import re
import time

import jwt
import orjson
import pytest
from websockets.exceptions import InvalidStatus

from energyws.testing import SECRET, Records, Service, token
from tests.clients import open_peer

pytestmark = pytest.mark.e2e

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_broadcast_from_kafka(service: Service, producer: Records) -> None:
    with open_peer(service) as peer:
        peer.subscribe()
        (number,) = producer.send(1, fields={"active_power_total": 1289})
        message = peer.receive()
    assert list(message) == ["type", "stream", "timestamp", "data", "id"]
    assert message["type"] == "data"
    assert message["stream"] == "energy"
    assert message["data"] == {"n": number, "fields": {"active_power_total": 1289}}
    assert RFC3339.fullmatch(message["timestamp"])


def test_several_clients_get_the_same_frame(service: Service, producer: Records) -> None:
    peers = [open_peer(service) for _ in range(8)]
    for peer in peers:
        peer.subscribe()
    producer.send(5)
    frames = [[peer.connection.recv(timeout=20) for _ in range(5)] for peer in peers]
    for peer in peers:
        peer.close()
    assert all(received == frames[0] for received in frames)


def test_reconnection(service: Service, producer: Records) -> None:
    with open_peer(service) as peer:
        peer.subscribe()
        producer.send(4)
        seen = [peer.receive() for _ in range(4)]
    missed = producer.send(10)
    service.caught_up(producer)
    with open_peer(service) as peer:
        reply = peer.subscribe(resume={"energy": seen[-1]["id"]})
        again = peer.numbers(10)
        live = producer.send(3)
        assert sorted(peer.numbers(3)) == live
    assert reply == {"position": seen[-1]["id"], "recovered": True, "replayed": 10}
    assert sorted(again) == missed


def _forged_without_algorithm(spelling: str) -> str:
    parts = (
        {"alg": spelling, "typ": "JWT"},
        {"sub": "mallory", "exp": int(time.time()) + 3600},
    )
    encoded = [base64.urlsafe_b64encode(orjson.dumps(part)).rstrip(b"=") for part in parts]
    return b".".join([*encoded, b""]).decode()


UNAUTHORIZED = {
    "missing": "",
    "malformed": "not-a-token",
    "wrong key": jwt.encode(
        {"sub": "mallory", "exp": int(time.time()) + 3600}, "x" * 40, algorithm="HS256"
    ),
    "expired": jwt.encode({"sub": "me", "exp": 1_700_000_000}, SECRET, algorithm="HS256"),
    "alg none": _forged_without_algorithm("none"),
    "alg nOnE": _forged_without_algorithm("nOnE"),
    "no exp": jwt.encode({"sub": "me"}, SECRET, algorithm="HS256"),
}


@pytest.mark.parametrize("where", ["query", "header"])
@pytest.mark.parametrize("name", UNAUTHORIZED)
def test_unauthorized_is_rejected(service: Service, name: str, where: str) -> None:
    bad = UNAUTHORIZED[name]
    query, headers = "", {}
    if where == "query":
        query = f"?token={bad}"
    else:
        headers = {"Authorization": f"Bearer {bad}"}
    with pytest.raises(InvalidStatus) as refused:
        open_peer(service, query=query, additional_headers=headers)
    response = refused.value.response
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer")
    body = orjson.loads(response.body or b"")
    assert body["type"] == "error"
    assert body["code"] == ("TOKEN_EXPIRED" if name == "expired" else "UNAUTHORIZED")
    assert not bad or bad not in "\n".join(service.lines)


def test_ping_pong(service: Service) -> None:
    with open_peer(service) as peer:
        answer = peer.ask({"type": "ping"})
        assert list(answer) == ["type", "timestamp"]
        assert answer["type"] == "pong"
        assert RFC3339.fullmatch(answer["timestamp"])
        # The iOS client sends its JSON in binary frames.
        peer.send({"type": "ping", "sentAt": 17}, binary=True)
        assert peer.receive()["type"] == "pong"
        assert peer.connection.ping().wait(20)


def test_token_in_the_query_as_the_seed_has_it(service: Service, producer: Records) -> None:
    with open_peer(service, query=f"?token={token()}", additional_headers={}) as peer:
        peer.send('{"type": "subscribe", "streams": ["energy"]}')
        peer.until("subscribed")
        numbers = producer.send(1)
        assert peer.numbers(1) == numbers
