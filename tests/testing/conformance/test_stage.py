"""The scripted server, with an independent client; tests/web/test_conformance.py has ours."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

import orjson
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from energyws.testing import eventually
from energyws.testing.conformance.patterns import shown
from energyws.testing.conformance.stage import TOKEN, Stage
from energyws.testing.conformance.table import ClientCase

SUBSCRIBE = {"type": "subscribe", "streams": ["energy"]}
REFUSE = {
    "status": 503,
    "message": {"type": "error", "message": "m", "code": "C"},
    "type": "notice",
    "close": {"code": 4503, "reason": "later"},
}


def case(*connections: dict[str, Any], token: str | tuple[str, ...] = TOKEN) -> ClientCase:
    return ClientCase("X-1", "A client MUST x.", "p", connections, {"readings": []}, token)


def say(client: ClientConnection, message: dict[str, Any]) -> None:
    client.send(orjson.dumps(message).decode())


def test_steps_are_played_and_the_last_connection_is_repeated() -> None:
    pieces = [
        {"send": {"n": 1}, "fragments": 2},
        {"text": "{"},
        {"close": {"code": 4999, "reason": "r"}},
    ]
    first = {"steps": [{"expect": {"type": "subscribe"}}, *pieces]}
    with Stage(case(first, {"steps": [{"drop": True}]})) as stage:
        with connect(stage.url, compression=None) as client:
            say(client, {"type": "ping"})
            assert orjson.loads(client.recv(20))["type"] == "pong"
            say(client, SUBSCRIBE)
            assert [client.recv(20), client.recv(20)] == ['{"n":1}', "{"]
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(20)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4999, "r")
        for _ in range(2):
            with connect(stage.url) as client, pytest.raises(ConnectionClosed) as closed:
                client.recv(20)
            assert closed.value.rcvd is None
    assert stage.heard == [{"type": "ping"}, SUBSCRIBE]
    assert (stage.connections, stage.faults) == (3, [])


def test_refusal_is_a_status_for_programs_and_a_message_for_browsers() -> None:
    with Stage(case({"refuse": REFUSE})) as stage:
        with pytest.raises(InvalidStatus) as refused:
            connect(stage.url, additional_headers={"Authorization": "Bearer x"}).close()
        assert refused.value.response.status_code == 503
        assert refused.value.response.body == orjson.dumps(REFUSE["message"])
        with connect(stage.url, subprotocols=["energyws", "bearer.x"]) as client:  # type: ignore[list-item]
            assert client.subprotocol == "energyws"
            assert orjson.loads(client.recv(20)) == {"type": "notice", "message": "m", "code": "C"}
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4503


def test_wrong_message_is_a_fault() -> None:
    resume = {"expect": {"type": "subscribe", "resume": {"energy": "aa-1"}}}
    with Stage(case({"steps": [resume]})) as stage:
        with connect(stage.url) as client:
            say(client, SUBSCRIBE)
            eventually(lambda: stage.faults, "a fault")
        with connect(stage.url):
            pass
        eventually(lambda: len(stage.faults) == 2, "another one")
    assert stage.faults[0] == f"connection 1: resume: missing in {shown(SUBSCRIBE)}"
    assert stage.faults[1].startswith("closed with 1000 instead of a message")


def test_tokens_are_as_the_case_says() -> None:
    with Stage(
        case({"steps": [{"tokens": 3}, {"send": {}}]}, token=("gives", "fails", "ends"))
    ) as stage:
        with urllib.request.urlopen(stage.token_url, timeout=20) as answer:
            assert answer.read().decode() == TOKEN
        for status in (503, 403):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(stage.token_url, timeout=20)
            with refused.value:
                assert refused.value.code == status
        with pytest.raises(PermissionError):
            stage.mint()
        with connect(stage.url) as client:
            assert client.recv(20) == "{}"
    assert stage.calls == 4
