"""Named bad inputs, and exactly what the client gets. `docs/security.md` has their number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from energyws.auth.claims import TokenRefused
from energyws.auth.verifier import Principal
from energyws.protocol.frame import CLOSE, TEXT, split
from energyws.settings import Auth
from tests.auth.tokens import BY_SECRET, NOW
from tests.bad_inputs import frames, http_requests, messages, tokens
from tests.clients import masked
from tests.principals import principal
from tests.workers.websocket.edge import Client, Edge
from workers.websocket.accept.handshake import Gate
from workers.websocket.connection.http_exchange import Exchange

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
PLAIN = {
    **frames.HEADERS,
    **frames.SIZES,
    **frames.ORDER,
    **frames.TEXT,
}
OBJECTIONS = {**messages.TYPES, **messages.STREAMS, **messages.FIELDS}
COUNTS = {
    "HTTP requests": len(http_requests.HTTP),
    "handshakes": len(http_requests.HANDSHAKES),
    "frames": len(PLAIN),
    "close frames": len(frames.CLOSES) + len(frames.GOOD_CLOSES),
    "compressed messages": len(frames.DEFLATE),
    "messages": len(messages.JSON) + len(OBJECTIONS),
    "positions": len(messages.POSITIONS),
    "tokens": len(tokens.TOKENS),
}


@pytest.fixture(scope="module")
def edge() -> Iterator[Edge]:
    made = Edge(frames.MAX_MESSAGE_BYTES)
    yield made
    made.close()


@pytest.fixture(scope="module")
def wide() -> Iterator[Edge]:
    """For messages that are long, but not too long."""
    made = Edge(16 * 1024)
    yield made
    made.close()


def sent(edge: Edge, data: bytes, *, deflate: bool = False) -> Client:
    """A client that has sent this."""
    client = Client(edge, deflate=deflate)
    client.sent = data
    client.deliver(len(data))
    return client


def replies(client: Client) -> list[dict[str, Any]]:
    """The messages that it got."""
    data = client.wire.received.partition(b"\r\n\r\n")[2]
    return [orjson.loads(payload) for whole, payload in split(data) if whole[0] & 0xF == TEXT]


def close_code(client: Client) -> int:
    """The code of its close frame, which is the last thing that it gets."""
    assert client.wire.over
    found = list(split(client.wire.received.partition(b"\r\n\r\n")[2]))
    assert [whole[0] & 0xF == CLOSE for whole, _ in found] == [False] * (len(found) - 1) + [True]
    return int.from_bytes(found[-1][1][:2], "big")


@pytest.mark.parametrize("name", PLAIN)
def test_frame_is_answered_with_its_close_code(edge: Edge, name: str) -> None:
    data, code = PLAIN[name]
    assert close_code(sent(edge, data + masked(9, b"not heard"))) == code


@pytest.mark.parametrize("name", [*frames.CLOSES, *frames.GOOD_CLOSES])
def test_close_frame_is_answered_with_its_code(edge: Edge, name: str) -> None:
    data, code = {**frames.CLOSES, **frames.GOOD_CLOSES}[name]
    assert close_code(sent(edge, data)) == code


@pytest.mark.parametrize("name", frames.DEFLATE)
def test_compressed_message_is_answered_with_its_close_code(edge: Edge, name: str) -> None:
    data, code = frames.DEFLATE[name]
    assert close_code(sent(edge, data, deflate=True)) == code


def kept_with(edge: Edge, payload: bytes) -> dict[str, Any]:
    """The only answer to a message; the connection goes on."""
    answer, pong = replies(sent(edge, masked(1, payload) + masked(1, b'{"type":"ping"}')))
    assert pong["type"] == "pong"
    return answer


@pytest.mark.parametrize("name", messages.JSON)
def test_text_that_is_no_object_is_bad_json(wide: Edge, name: str) -> None:
    assert kept_with(wide, messages.JSON[name])["code"] == "BAD_JSON"


@pytest.mark.parametrize("name", OBJECTIONS)
def test_message_is_answered_with_its_error(wide: Edge, name: str) -> None:
    payload, code = OBJECTIONS[name]
    assert kept_with(wide, payload)["code"] == code


@pytest.mark.parametrize("name", messages.POSITIONS)
def test_position_is_not_recovered(wide: Edge, name: str) -> None:
    text = messages.POSITIONS[name]
    answer = kept_with(wide, messages.subscribe(resume={"energy": text}))
    state = answer["positions"]["energy"]
    assert (state["recovered"], state["reason"]) == (False, "BAD_POSITION")


def answered(edge: Edge, data: bytes) -> str:
    """The status and code of the answer to a request, after which the connection ends."""

    class Tokens:
        def check(self, token: str) -> Principal:
            if token != http_requests.TOKEN:
                raise TokenRefused("signature")
            return principal()

    context: Any = edge.context
    context.tokens = Tokens()
    step = Exchange(Gate(context, Auth(), edge.board), "192.0.2.1").take(data)
    head, _, body = step.out.partition(b"\r\n\r\n")
    status = re.match(rb"HTTP/1\.1 (\d{3}) ", head)
    assert status is not None
    assert b"\r\nConnection: close" in head
    return f"{status[1].decode()} {orjson.loads(body)['code']}"


@pytest.mark.parametrize("name", http_requests.HTTP)
def test_request_is_refused(edge: Edge, name: str) -> None:
    data, answer = http_requests.HTTP[name]
    assert answered(edge, data) == answer


@pytest.mark.parametrize("name", http_requests.HANDSHAKES)
def test_handshake_is_refused(edge: Edge, name: str) -> None:
    data, answer = http_requests.HANDSHAKES[name]
    assert answered(edge, data) == answer


@pytest.mark.parametrize("name", tokens.TOKENS)
def test_token_is_refused(name: str) -> None:
    token, reason = tokens.TOKENS[name]
    with pytest.raises(TokenRefused) as refused:
        BY_SECRET.verify(token, {}, now=NOW)
    assert refused.value.reason == reason


def test_page_has_their_number() -> None:
    rows = re.findall(r"^\| ([a-zA-Z ]+) \| ([0-9,]+) \|$", PAGE.read_text(), re.MULTILINE)
    found = {kind: int(count.replace(",", "")) for kind, count in rows if kind in COUNTS}
    assert found == COUNTS
    assert f"{sum(COUNTS.values()):,} bad inputs" in PAGE.read_text()
