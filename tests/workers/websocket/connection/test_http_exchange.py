"""Requests on one connection, with their bytes cut anywhere."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from energyws.protocol.http.request import BadRequest, Request
from energyws.protocol.http.response import Response
from workers.websocket.connection.http_exchange import (
    ANSWERS_BYTES,
    MAX_REQUESTS,
    Exchange,
    Step,
    Then,
)

GET = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
PIECES = [GET, b"\r\n", b"\n", b"\0", b" ", b":", b"GET", b"Content-Length: 3\r\n", b"HTTP/1.1"]


class Gate:
    """Answers every request."""

    leaving = False

    def __init__(self) -> None:
        self.seen: list[Request] = []

    def answer(self, request: Request, peer: str) -> Response:
        self.seen.append(request)
        return Response(200, b"OK")

    def refuse(self, bad: BadRequest, peer: str) -> Response:
        return Response(bad.error.status, b"")


def fed(data: bytes, cuts: list[int]) -> tuple[list[bytes], Then]:
    """The statuses of the responses to data cut at these places, and the next action."""
    exchange = Exchange(Gate(), "127.0.0.1")
    out, step = b"", Step(b"", Then.WAIT)
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in pairwise(places):
        if step.then not in (Then.WAIT, Then.NEXT):
            break
        step = exchange.take(data[begin:end])
        out += step.out
    return re.findall(rb"HTTP/1\.1 (\d+) ", out), step.then


@given(st.integers(0, MAX_REQUESTS - 1), st.lists(st.integers(0, 10_000), max_size=20))
def test_requests_cut_anywhere_are_answered_in_order(count: int, cuts: list[int]) -> None:
    assert fed(GET * count, cuts) == ([b"200"] * count, Then.NEXT if count else Then.WAIT)


@given(
    st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=10)), max_size=8).map(b"".join),
    st.lists(st.integers(0, 500), max_size=8),
)
@example(b"\r\n\r\n", [2])
def test_responses_to_any_bytes_do_not_depend_on_cuts(data: bytes, cuts: list[int]) -> None:
    assert fed(data, cuts)[0] == fed(data, [])[0]


def test_leaving_worker_closes_a_connection_after_its_response() -> None:
    gate = Gate()
    exchange = Exchange(gate, "127.0.0.1")
    assert exchange.take(GET).then is Then.NEXT
    gate.leaving = True
    step = exchange.take(GET)
    assert step.then is Then.CLOSE
    assert b"\r\nConnection: close\r\n" in step.out


def test_only_blanks_around_values_are_removed() -> None:
    gate = Gate()
    Exchange(gate, "127.0.0.1").take(b"GET / HTTP/1.1\r\nHost:\t x \t\r\nA:b\tc\xff\r\n\r\n")
    assert dict(gate.seen[0].headers) == {"Host": "x", "A": "b\tc\xff"}


def test_pipelined_requests_with_large_answers_are_answered_in_portions() -> None:
    class Large(Gate):
        def answer(self, request: Request, peer: str) -> Response:
            super().answer(request, peer)
            return Response(200, bytes(ANSWERS_BYTES // 2))

    gate = Large()
    exchange = Exchange(gate, "127.0.0.1")
    step = exchange.take(GET * 5)
    assert (step.then, len(gate.seen)) == (Then.MORE, 2)
    step = exchange.take(b"")
    assert (step.then, len(gate.seen)) == (Then.MORE, 4)
    step = exchange.take(b"")
    assert (step.then, len(gate.seen)) == (Then.NEXT, 5)
