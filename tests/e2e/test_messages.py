"""Messages of clients, valid and invalid, and the answers; an error keeps the connection."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from math import inf
from typing import Any

import jwt
import orjson
import pytest

from energyws.client import Client, Reading
from energyws.testing import SECRET, Records, Service, token
from tests.clients import (
    bare_socket,
    close_code,
    masked,
    open_peer,
    response_head,
    upgrade_request,
)

pytestmark = pytest.mark.e2e

BAD_MESSAGES: dict[str, tuple[object, str]] = {
    "not JSON": ("hello", "BAD_JSON"),
    "empty": ("", "BAD_JSON"),
    "an array": ([], "BAD_JSON"),
    "no type": ({}, "BAD_MESSAGE"),
    "type is a number": ({"type": 1}, "BAD_MESSAGE"),
    "unknown type": ({"type": "publish"}, "UNKNOWN_TYPE"),
    "no streams": ({"type": "subscribe"}, "BAD_MESSAGE"),
    "streams is a string": ({"type": "subscribe", "streams": "energy"}, "BAD_MESSAGE"),
    "a stream is a number": ({"type": "subscribe", "streams": [1]}, "BAD_MESSAGE"),
    "unknown stream": ({"type": "subscribe", "streams": ["gas"]}, "UNKNOWN_STREAM"),
    "unsubscribe unknown": ({"type": "unsubscribe", "streams": ["gas"]}, "UNKNOWN_STREAM"),
    "resume is a list": (
        {"type": "subscribe", "streams": ["energy"], "resume": []},
        "BAD_MESSAGE",
    ),
    "last is negative": ({"type": "subscribe", "streams": ["energy"], "last": -1}, "BAD_MESSAGE"),
    "bad token": ({"type": "auth", "token": "x.y.z"}, "UNAUTHORIZED"),
    "deep nesting": ('{"type":' + "[" * 5000 + "]" * 5000 + "}", "BAD_JSON"),
}


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_bad_message_gets_an_error_and_keeps_the_connection(service: Service, name: str) -> None:
    message, code = BAD_MESSAGES[name]
    with open_peer(service) as peer:
        error = peer.ask(message)
        assert (error["type"], error["code"]) == ("error", code)
        assert peer.ask({"type": "ping"})["type"] == "pong"


def test_data_comes_only_while_subscribed(service: Service, producer: Records) -> None:
    with open_peer(service) as watcher, open_peer(service) as peer:
        watcher.subscribe()
        producer.send(3)
        watcher.numbers(3)
        # The peer got no message before this answer.
        assert peer.ask({"type": "ping"})["type"] == "pong"
        peer.subscribe()
        numbers = producer.send(3)
        assert sorted(peer.numbers(3)) == numbers
        assert peer.ask({"type": "unsubscribe", "streams": ["energy"]}) == {
            "type": "unsubscribed",
            "streams": ["energy"],
        }
        producer.send(3)
        watcher.numbers(6)
        assert peer.ask({"type": "ping"})["type"] == "pong"


def test_values_that_parsers_cannot_represent_pass_unchanged_live_and_from_the_log(
    serve: Callable[..., Service], records: Records
) -> None:
    odd = [
        b'{"n":0,"name":"kitchen \\ud83d"}',
        b'{"n":1,"w":1e400}',
        b'{"n":2,"w":%b}' % (b"9" * 400),
    ]
    service = serve(server={"workers": 1}, history={"max_frames": 1}).ready()
    with open_peer(service) as peer:
        position = peer.subscribe()["position"]
        for value in odd:
            records.raw(value)
        records.flush()
        for value in odd:
            assert f'"data":{value.decode()},"id":"' in peer.connection.recv(timeout=30)
    # From the log as well, and through energyws.client.
    client = Client(service.url, token=token(), resume={"energy": position})

    async def three() -> list[object]:
        found: list[object] = []
        async with aclosing(client.messages()) as messages:
            async for message in messages:
                assert isinstance(message, Reading)
                found.append(message.data)
                if len(found) == len(odd):
                    break
        return found

    assert asyncio.run(asyncio.wait_for(three(), 30)) == [
        {"n": 0, "name": "kitchen \ud83d"},
        {"n": 1, "w": inf},
        {"n": 2, "w": int("9" * 400)},
    ]
    assert service.logged("record skipped") == []


def test_last_brings_the_newest(service: Service, producer: Records) -> None:
    with open_peer(service) as watcher:
        watcher.subscribe()
        producer.send(12)
        newest = watcher.numbers(12)[-6:]
    service.caught_up(producer)
    with open_peer(service) as peer:
        reply = peer.subscribe(last=6)
        assert (reply["recovered"], reply["replayed"]) == (True, 6)
        assert peer.numbers(6) == newest
    with open_peer(service, query="?subscribe=energy&last=6") as peer:
        assert peer.receive()["type"] == "subscribed"
        assert peer.numbers(6) == newest


def test_last_beyond_the_available_history_says_so(service: Service, producer: Records) -> None:
    producer.send(1)
    service.caught_up(producer)
    with open_peer(service) as peer:
        reply = peer.subscribe(last=1_000_000)
        assert reply["recovered"] is False
        assert reply["reason"] == "HISTORY_EXCEEDED"
        assert len(peer.numbers(reply["replayed"])) == producer.sent


def test_resume_in_the_query(service: Service, producer: Records) -> None:
    with open_peer(service) as peer:
        position = peer.subscribe()["position"]
    numbers = producer.send(5)
    service.caught_up(producer)
    with open_peer(service, query=f"?subscribe=energy&resume={position}") as peer:
        reply = peer.receive()["positions"]["energy"]
        assert reply == {"position": position, "recovered": True, "replayed": 5}
        assert sorted(peer.numbers(5)) == numbers


@pytest.mark.parametrize(
    ("position", "reason"),
    [
        ("garbage", "BAD_POSITION"),
        ("", "BAD_POSITION"),
        ("7f3a-1.2.3'; DROP TABLE", "BAD_POSITION"),
        ("0-1.2.3", "EPOCH_CHANGED"),
        ("ffffffffffffffff-9.9.9", "EPOCH_CHANGED"),
    ],
)
def test_position_that_cannot_be_used_is_not_recovered(
    service: Service, producer: Records, position: str, reason: str
) -> None:
    with open_peer(service) as peer:
        reply = peer.subscribe(resume={"energy": position})
        assert (reply["recovered"], reply["reason"]) == (False, reason)
        numbers = producer.send(1)
        while peer.numbers(1) != numbers:
            # With an unknown epoch, the available history comes first.
            assert reason == "EPOCH_CHANGED"


def test_position_from_the_future_is_live_again_after_a_while(
    service: Service, producer: Records
) -> None:
    with open_peer(service) as peer:
        epoch = peer.subscribe()["position"].partition("-")[0]
        far = f"{epoch}-{2**62}.{2**62}.{2**62}"
        peer.subscribe(resume={"energy": far})
        lagged = peer.until("lagged")
        assert (lagged["reason"], lagged["missed"], lagged["from"]) == (
            "POSITION_AHEAD",
            None,
            far,
        )
        numbers = producer.send(3)
        assert sorted(peer.numbers(3)) == numbers


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([masked(1, b"\xff\xfe")], 1007),
        ([masked(1, b"\xc3", final=False), masked(0, b"\x28")], 1007),
        ([masked(0, b"x")], 1002),
        ([masked(1, b"a", final=False), masked(1, b"b")], 1002),
        ([masked(1, b"{}", reserved=4)], 1002),
        ([masked(9, b"", reserved=2)], 1002),
        ([masked(3, b"")], 1002),
        ([b"\x81\x02{}"], 1002),
        ([masked(1, b"x" * 16_385)], 1009),
        ([masked(1, b"x" * 9000, final=False), masked(0, b"x" * 9000)], 1009),
        ([masked(1, b"", final=False)] + [masked(0, b"", final=False)] * 80, 1009),
        ([masked(8, (1006).to_bytes(2, "big"))], 1002),
        ([masked(8, (5000).to_bytes(2, "big"))], 1002),
        ([masked(8, b"\x03")], 1002),
        ([masked(8, b"")], 1000),
        ([masked(8, (4321).to_bytes(2, "big"))], 4321),
        ([masked(1, b'{"type":"ping"}')] * 1000, 1008),
    ],
    ids=[
        "text that is not UTF-8",
        "UTF-8 cut wrongly between fragments",
        "continuation of nothing",
        "message inside a message",
        "reserved bit",
        "reserved bit on a ping",
        "reserved opcode",
        "not masked",
        "frame over the limit",
        "message over the limit",
        "endless fragments",
        "close 1006",
        "close 5000",
        "close with half a code",
        "close without a code",
        "close of an application",
        "flood",
    ],
)
def test_broken_frames_get_the_close_code_of_the_standard(
    service: Service, frames: list[bytes], code: int
) -> None:
    with bare_socket(service) as client:
        client.sendall(upgrade_request(service))
        assert " 101 " in response_head(client)
        client.sendall(b"".join(frames))
        assert close_code(client) == code


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Connection: keep-alive, Upgrade"], 101),
        (["Connection: keep-alive", "Connection: upgrade"], 101),
        (["Upgrade: WebSocket"], 101),
        (["Connection: keep-alive"], 426),
        (["Upgrade: h2c"], 426),
        (["Sec-WebSocket-Version: 8"], 426),
        (["Sec-WebSocket-Key: short"], 400),
        (["Sec-WebSocket-Key:"], 400),
        (["Host:"], 400),
        (["Host: a", "Host: b"], 400),
        (["Content-Length: 5"], 400),
    ],
    ids=lambda value: " + ".join(value) if isinstance(value, list) else str(value),
)
def test_handshakes(service: Service, lines: list[str], status: int) -> None:
    with bare_socket(service) as client:
        client.sendall(upgrade_request(service, *lines))
        head = response_head(client)
    assert head.startswith(f"HTTP/1.1 {status} ")
    if status == 426:
        assert "Sec-WebSocket-Version: 13" in head


def test_claim_keys_of_another_kind_means_nothing_where_no_stream_has_keys(
    service: Service,
) -> None:
    def bearer(keys: object) -> str:
        claims = {"sub": "tester", "exp": int(time.time()) + 600, "keys": keys}
        return jwt.encode(claims, SECRET, "HS256")

    headers = {"Authorization": f"Bearer {bearer({'door': 17})}"}
    with open_peer(service, additional_headers=headers) as peer:
        peer.subscribe()
        for keys in (None, ["another"]):
            assert peer.ask({"type": "auth", "token": bearer(keys)})["type"] == "authenticated"


def test_subprotocol_with_the_token_selects_energyws_only(service: Service) -> None:
    line = f"Sec-WebSocket-Protocol: energyws, bearer.{token()}"
    with bare_socket(service) as client:
        client.sendall(upgrade_request(service, line, "Authorization:"))
        head = response_head(client)
    assert " 101 " in head
    selected = [line for line in head.splitlines() if line.lower().startswith("sec-websocket-prot")]
    assert [line.partition(":")[2].strip() for line in selected] == ["energyws"]


@pytest.mark.parametrize(
    "options",
    [
        {
            "additional_headers": {
                "Origin": "https://dashboard.example",
                "Authorization": "Bearer nonsense",
            }
        },
        {"additional_headers": {}, "subprotocols": ["energyws", "bearer.nonsense"]},
    ],
    ids=["browser by its origin", "browser by its subprotocol"],
)
def test_refused_browser_can_read_the_reason(service: Service, options: dict[str, Any]) -> None:
    with open_peer(service, **options) as peer:
        error = peer.receive()
        assert (error["type"], error["code"]) == ("error", "UNAUTHORIZED")
        assert peer.closed() == (4401, "unauthorized")


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [("/health", 200, b"OK"), ("/", 404, None), ("/ws/gas", 404, None), ("/ws/energy", 426, None)],
)
def test_plain_http(service: Service, path: str, status: int, body: bytes | None) -> None:
    with bare_socket(service) as client:
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head = response_head(client)
        answer = b""
        while piece := client.recv(4096):
            answer += piece
    assert head.startswith(f"HTTP/1.1 {status} ")
    if body is None:
        error: dict[str, Any] = orjson.loads(answer)
        assert error["type"] == "error"
    else:
        assert answer == body
