"""Arrivals: who is accepted, PROXY headers on real sockets, and who makes room."""

from __future__ import annotations

import math
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from energyws.process.board import Board, Field
from energyws.protocol.http.client_address import TrustedProxies
from energyws.settings import Limits, Server
from workers.websocket.accept.arrivals import (
    AT_LEAST,
    PATIENCE_SECONDS,
    SHED_PART,
    Arrivals,
    HttpConnection,
)
from workers.websocket.connection.http_exchange import Exchange
from workers.websocket.shares import Shares

V1 = b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 443\r\n"
V2_LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"


class Made:
    """proxies: those that are trusted; `limits` are those of Limits."""

    def __init__(self, proxies: tuple[str, ...] = (), mode: Any = "off", **limits: Any) -> None:
        self.board = Board.create()
        self.row = self.board.open_row(0)
        shares = Shares(self.board.usage(0), self.row, Limits(**limits))
        self.server = Server(proxy_protocol=mode, max_connections=100)
        self.arrivals = Arrivals(shares, self.board, self.server, TrustedProxies(proxies))
        self.ours, self.client = socket.socketpair()
        self.ours.setblocking(False)

    def pending(self, peer: str = "10.0.0.1") -> HttpConnection:
        return HttpConnection(self.ours, Exchange(cast(Any, None), peer), None)

    @property
    def waiting(self) -> int:
        return self.board.total(Field.PENDING)


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Iterator[Made]:
    it = Made(**getattr(request, "param", {}))
    yield it
    it.ours.close()
    it.client.close()


TRUSTING = {"proxies": ("10.0.0.0/8",), "mode": "required"}
OPTIONAL = {"proxies": ("10.0.0.0/8",), "mode": "optional"}


def test_connection_is_counted_until_it_is_over(made: Made) -> None:
    pending = made.pending()
    assert made.arrivals.admit(pending)
    assert (made.waiting, pending.head) == (1, None)
    made.arrivals.over(pending.address)
    assert made.waiting == 0


@pytest.mark.parametrize(
    "made",
    [{"pending_per_address": 1}, {"new_connections_per_address_per_second": 1}],
    ids=["pending", "new"],
    indirect=True,
)
def test_one_more_of_an_address_is_closed_and_others_are_not(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    assert made.arrivals.admit(made.pending("192.0.2.1"))
    assert not made.arrivals.admit(made.pending("192.0.2.1"))
    assert made.arrivals.admit(made.pending("192.0.2.2"))
    assert made.waiting == 2


@pytest.mark.parametrize(
    "made", [{"proxies": ("10.0.0.1",), "pending_per_address": 1}], indirect=True
)
def test_proxy_is_no_client(made: Made) -> None:
    assert all(made.arrivals.admit(made.pending()) for _ in range(3))


@pytest.mark.parametrize("made", [TRUSTING], indirect=True)
@pytest.mark.parametrize("parts", [[V1], [V1[:3], V1[3:20], V1[20:]], [V1 + b"GET /"]])
def test_client_is_named_and_nothing_behind_the_header_is_read(
    made: Made, parts: list[bytes]
) -> None:
    pending = made.pending()
    assert made.arrivals.admit(pending)
    for part in parts:
        assert pending.head is not None
        made.client.send(part)
        assert made.arrivals.read_head(pending)
    assert pending.head is None
    assert pending.exchange.peer == "192.0.2.1"
    assert made.waiting == 1
    rest = b"".join(parts)[len(V1) :]
    if rest:
        assert made.ours.recv(100) == rest
    with pytest.raises(BlockingIOError):
        made.ours.recv(1)


@pytest.mark.parametrize("made", [TRUSTING], indirect=True)
def test_incomplete_header_is_waited_for_without_being_woken_again(made: Made) -> None:
    pending = made.pending()
    made.arrivals.admit(pending)
    made.client.send(V1[:10])
    assert made.arrivals.read_head(pending)
    with pytest.raises(BlockingIOError):
        made.arrivals.read_head(pending)


@pytest.mark.parametrize("made", [TRUSTING], indirect=True)
def test_proxy_may_speak_for_itself(made: Made) -> None:
    pending = made.pending()
    made.arrivals.admit(pending)
    made.client.send(V2_LOCAL)
    assert made.arrivals.read_head(pending)
    assert (pending.head, pending.exchange.peer) == (None, "10.0.0.1")


@pytest.mark.parametrize("made", [TRUSTING], indirect=True)
@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n", b"\x16\x03\x01", V1[:-2] + b"\n", b""])
def test_required_header_that_is_missing_or_bad_ends_the_connection(
    made: Made, data: bytes
) -> None:
    pending = made.pending()
    made.arrivals.admit(pending)
    made.client.send(data)
    made.client.shutdown(socket.SHUT_WR)
    assert not made.arrivals.read_head(pending)


@pytest.mark.parametrize("made", [TRUSTING], indirect=True)
def test_only_trusted_proxies_may_connect_where_a_header_is_required(made: Made) -> None:
    assert not made.arrivals.admit(made.pending("192.0.2.1"))
    assert made.waiting == 0


@pytest.mark.parametrize("made", [OPTIONAL], indirect=True)
@pytest.mark.parametrize("parts", [[b"GET / HTTP/1.1"], [b"P", b"ROPFIND / HTTP/1.1"]])
def test_optional_header_may_be_missing(made: Made, parts: list[bytes]) -> None:
    pending = made.pending()
    made.arrivals.admit(pending)
    for part in parts:
        assert pending.head is not None
        made.client.send(part)
        assert made.arrivals.read_head(pending)
    assert pending.head is None
    # What was read already is the beginning of the request.
    begun = pending.exchange._data
    assert begun + made.ours.recv(100) == b"".join(parts)


@pytest.mark.parametrize("made", [OPTIONAL], indirect=True)
def test_header_of_a_stranger_is_not_read(made: Made) -> None:
    pending = made.pending("192.0.2.7")
    assert made.arrivals.admit(pending)
    assert pending.head is None


@pytest.mark.parametrize("made", [{**TRUSTING, "pending_per_address": 1}], indirect=True)
def test_limits_are_those_of_the_named_client(made: Made) -> None:
    for good in (True, False):
        pending = made.pending()
        assert made.arrivals.admit(pending)
        made.client.send(V1)
        assert made.arrivals.read_head(pending) is good
        # Whoever closes it says so.
        assert made.waiting == (1 if good else 2)


@dataclass(eq=False)
class Waiting:
    came: float
    peer: str


def test_those_of_the_busiest_address_make_room_the_oldest_first(made: Made) -> None:
    now = time.monotonic()
    waits = PATIENCE_SECONDS
    few = [Waiting(now - 3600, "192.0.2.8"), Waiting(-math.inf, "192.0.2.9")]
    for count, closed in ((AT_LEAST + 1, AT_LEAST), (2 * AT_LEAST * SHED_PART, 2 * AT_LEAST)):
        many = [Waiting(now - waits - age, f"2001:db8::{age:x}") for age in range(count)]
        chosen = made.arrivals.to_shed([*few, *many])
        assert chosen == many[: -closed - 1 : -1]


def test_who_has_just_come_or_is_served_makes_no_room(made: Made) -> None:
    assert made.arrivals.to_shed([Waiting(time.monotonic(), ""), Waiting(math.inf, "")]) == []


@pytest.mark.parametrize("made", [{"pending_connections": 2}, {}], indirect=True)
def test_as_many_wait_as_may(made: Made) -> None:
    most = made.arrivals._shares.limits.pending_connections or made.server.max_connections
    for _ in range(most):
        assert made.arrivals.room() > 0
        made.arrivals.admit(made.pending())
    assert made.arrivals.room() == 0
