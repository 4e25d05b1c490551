"""What a refusal costs before the client is known, and where its token is found."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from multidict import CIMultiDict

from energyws.auth.verifier import Verifier
from energyws.protocol.http.request import MAX_HEAD_BYTES, MAX_MEMBERS, MAX_TARGET_BYTES, Request
from energyws.settings import Auth
from tests.auth.tokens import b64
from tests.workers.websocket.recording import Worker
from workers.websocket.accept.admission import MAX_ESCAPES, in_query
from workers.websocket.accept.handshake import Gate
from workers.websocket.connection.http_exchange import Exchange

SPACE = MAX_TARGET_BYTES - 32


def exchange() -> Exchange:
    """One with a real gate and a real verifier, of a shared secret."""
    worker = Worker()
    verifier = Verifier(Auth(jwt_secret="s" * 32))
    tokens = SimpleNamespace(check=lambda token: verifier.verify(token, {}, now=time.time()))
    worker.context.tokens = tokens  # type: ignore[assignment]
    return Exchange(Gate(worker.context, Auth(), worker.board), "192.0.2.1")


def head(path: str, *fields: str) -> bytes:
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
    common = ("Host: here", "Upgrade: websocket", "Connection: Upgrade", key)
    lines = [f"GET {path} HTTP/1.1", *common, "Sec-WebSocket-Version: 13", *fields]
    return "\r\n".join([*lines, "", ""]).encode()


def token(header: str, payload: str) -> str:
    return ".".join((b64(header.encode()), b64(payload.encode()), b64(b"x" * 32)))


def calls(run: Callable[[], object]) -> int:
    """How many functions are called, those of C included: the same in each run, unlike time."""
    count = 0

    def on_event(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(on_event)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


def cost(data: bytes) -> int:
    """Of a refusal, after one that filled the caches."""
    exchange().take(data)
    fresh = exchange()
    return calls(lambda: fresh.take(data))


FORGED = token('{"alg":"HS256"}', '{"sub":"x"}')
PLAIN = head("/ws/energy", f"Authorization: Bearer {FORGED}")


@pytest.mark.parametrize(
    "data",
    [
        head("/ws/energy?" + "a&" * (SPACE // 2)),
        head("/ws/energy?" + "a=b&" * (SPACE // 4)),
        head("/ws/energy?token=" + "%41" * (SPACE // 3)),
        head("/sse/energy?" + "a=b&" * (SPACE // 4)),
        head("/last/energy?" + "a=b&" * (SPACE // 4)),
        head("/history/energy?" + "a=b&" * (SPACE // 4)),
        head("/ws/energy", "Connection: " + "a," * 7500),
        head("/ws/energy", "Upgrade: " + "a," * 7500),
        head("/ws/energy", "Sec-WebSocket-Protocol: " + "a," * 7500),
        head("/ws/energy", *["Sec-WebSocket-Protocol: " + "a," * 70] * 80),
        head("/ws/energy", "Sec-WebSocket-Extensions: " + "a," * 7500 + "a"),
        head("/ws/energy", "Sec-WebSocket-Extensions: a" + ";b=c" * 3700),
        head("/ws/energy", 'Sec-WebSocket-Extensions: a;b="' + "\\a" * 7000 + '"'),
        head("/ws/energy", *[f"A{n}: b" for n in range(90)]),
        head("/ws/energy", "Authorization: Bearer " + token("[" * 2900 + "]" * 2900, "{}")),
        head("/ws/energy", "Authorization: Bearer " + token(f"[{'{},' * 1900}0]", "{}")),
        head("/ws/energy", "Authorization: Bearer " + token('{"alg":"HS256"}', "[" * 5900)),
        head("/ws/energy", "Authorization: Bearer " + "a." * 4000),
    ],
    ids=lambda data: data.split(b"\r\n")[0 if b"?" in data else -3][:40].decode(),
)
def test_no_refusal_is_dearer_than_two_plain_ones(data: bytes) -> None:
    assert len(data) < MAX_HEAD_BYTES
    # Each header field is a call or two of the parser's.
    assert cost(data) <= 2 * cost(PLAIN) + 4 * data.count(b"\r\n")


@pytest.mark.parametrize(
    ("name", "members"),
    [
        # Beside the one of every handshake.
        ("Connection", "a" + ", a" * (MAX_MEMBERS - 2)),
        ("Sec-WebSocket-Protocol", "energyws" + ", a" * (MAX_MEMBERS - 1)),
        ("Sec-WebSocket-Extensions", "a; b=c" + ", a" * (MAX_MEMBERS - 2)),
    ],
)
def test_lists_have_a_bounded_number_of_members(name: str, members: str) -> None:
    allowed = head("/ws/energy", f"{name}: {members}")
    assert exchange().take(allowed).out.startswith(b"HTTP/1.1 401 ")
    for more in (f"{name}: {members}, b", f"{name}: {members}\r\n{name}: b"):
        answer = exchange().take(head("/ws/energy", more)).out
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert f"{name} may have {MAX_MEMBERS} members".encode() in answer


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ""),
        ("token=a.b.c", "a.b.c"),
        ("subscribe=energy&token=a.b.c&last=1", "a.b.c"),
        ("token=a%2Eb+c", "a.b c"),
        ("token=&token=a&token=b", "a"),
        ("mytoken=a&xtoken=b", ""),
        ("token", ""),
        ("a=token=b", ""),
        ("token=" + "%61" * MAX_ESCAPES, "a" * MAX_ESCAPES),
        ("token=" + "%61" * (MAX_ESCAPES + 1), "%61" * (MAX_ESCAPES + 1)),
    ],
)
def test_token_is_found_in_the_query(query: str, found: str) -> None:
    assert in_query(Request("GET", "/ws/energy", query, 1, CIMultiDict())) == found
