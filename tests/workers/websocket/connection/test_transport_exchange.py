"""HTTP on a transport: the effect of each response on the connection and its timeout."""

from __future__ import annotations

import asyncio
import errno
import math
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from energyws.errors import SLOW
from energyws.protocol.http.request import BadRequest, Request
from energyws.protocol.http.response import Response
from energyws.settings import Server
from tests.workers.websocket.connected import connected
from workers.websocket.connection import transport_exchange
from workers.websocket.connection.accepted import AcceptedSocket
from workers.websocket.connection.answer import Answer, Outlet
from workers.websocket.connection.http_exchange import ANSWERS_BYTES, Exchange
from workers.websocket.connection.transport_exchange import LINGER_BYTES, TransportExchange

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LATE = GET.replace(b"/ ", b"/late ")
DEADLINE_SECONDS = 10.0


class Late(Answer):
    """An answer that a test gives when it likes."""

    def __init__(self) -> None:
        self.outlet: Outlet
        self.closes = False
        self.calls: list[str] = []

    def begin(self, outlet: Outlet, *, closes: bool) -> None:
        self.outlet, self.closes = outlet, closes
        outlet.set_write_buffer_limits(high=2, low=1)

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")

    def lost(self) -> None:
        self.calls.append("lost")

    def sent(self) -> None:
        self.calls.append("sent")


class Gate:
    """Answers every request with 200, those for /late when the test says so."""

    leaving = False

    def __init__(self) -> None:
        self.late = Late()

    def answer(self, request: Request, peer: str) -> Response | Answer:
        if request.path == "/late":
            return self.late
        return Response(200, bytes(ANSWERS_BYTES) if request.path == "/large" else b"OK")

    def refuse(self, bad: BadRequest, peer: str) -> Response:
        return Response(400, b"no")


class Transport:
    """Records what is written, and how it ends. plain: without TLS. reset: by the client."""

    def __init__(self) -> None:
        self.plain = False
        self.reset = False
        self.written = b""
        self.unsent = 0
        self.ended: list[str] = []
        self.reads = True
        self.on_write: Callable[[], None] | None = None

    def can_write_eof(self) -> bool:
        return self.plain

    def write_eof(self) -> None:
        if self.reset:
            # As aiofastnet does: its socket is no longer connected.
            raise OSError(errno.ENOTCONN, "not connected")
        self.ended.append("eof")

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        assert high > low

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def write(self, data: bytes) -> None:
        self.written += data
        if self.on_write is not None:
            self.on_write()

    def close(self) -> None:
        self.ended.append("close")

    def abort(self) -> None:
        self.ended.append("abort")


class Connection:
    """An exchange after its TLS handshake."""

    def __init__(self, connection: AcceptedSocket, timeout: float = 3600.0) -> None:
        self.gate = Gate()
        self.over: list[TransportExchange] = []
        self.transport: Any = Transport()
        self.exchange = TransportExchange(
            Exchange(self.gate, "192.0.2.1"),
            connection,
            Server(handshake_timeout_seconds=timeout),
            self.over.append,
        )
        self.exchange.connection_made(self.transport)

    def receive(self, data: bytes) -> None:
        while data:
            buffer = self.exchange.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            self.exchange.buffer_updated(size)
            data = data[size:]


@pytest.fixture
def accepted() -> Iterator[AcceptedSocket]:
    server, client = connected()
    with server, client:
        yield server


Test = Callable[[], Coroutine[Any, Any, None]]


def run(test: Test) -> None:
    asyncio.run(asyncio.wait_for(test(), DEADLINE_SECONDS))


def test_requests_are_answered_in_turn(accepted: AcceptedSocket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.receive(GET[:5])
        assert it.transport.written == b""
        it.receive(GET[5:] + GET)
        assert it.transport.written.count(b"HTTP/1.1 200 OK") == 2
        assert it.transport.ended == []

    run(test)


def test_kernel_ends_it_if_the_client_does_not_read_the_rest(accepted: AcceptedSocket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.exchange.connection_lost(None)
        option = socket.TCP_USER_TIMEOUT
        assert socket.socket.getsockopt(accepted, socket.IPPROTO_TCP, option) == 30_000

    run(test)


def test_last_response_closes_without_waiting_for_the_client(accepted: AcceptedSocket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.gate.leaving = True
        it.receive(GET)
        assert b"Connection: close" in it.transport.written
        # The abort keeps aiofastnet from reading further data.
        assert it.transport.ended == ["close", "abort"]

    run(test)


def test_bytes_after_an_error_are_dropped_up_to_a_bound(accepted: AcceptedSocket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.receive(b"\0\r\n\r\n")
        response = it.transport.written
        assert response.startswith(b"HTTP/1.1 400 ")
        it.receive(GET + bytes(LINGER_BYTES - len(GET)))
        assert (it.transport.written, it.transport.ended) == (response, [])
        it.receive(b"x")
        assert it.transport.ended == ["abort"]

    run(test)


def test_client_that_does_not_read_its_responses_gets_no_further_ones(
    accepted: AcceptedSocket,
) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.exchange.pause_writing()
        it.receive(GET)
        before = it.transport.written
        assert not it.transport.reads
        # A transport may have read it before.
        it.receive(GET)
        assert it.transport.written == before
        it.exchange.close_if_idle()
        assert it.transport.ended == []
        it.exchange.resume_writing()
        assert it.transport.reads
        it.receive(GET)
        assert it.transport.written.count(b"200 OK") == 3

    run(test)


def test_large_answers_wait_until_the_client_has_read_those_before(
    accepted: AcceptedSocket,
) -> None:
    large = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"

    async def test() -> None:
        it = Connection(accepted)
        # It pauses with each large answer, as a small write buffer would.
        it.transport.on_write = it.exchange.pause_writing
        it.receive(large * 3)
        for count in (1, 2, 3):
            assert it.transport.written.count(b"200 OK") == count
            it.exchange.resume_writing()
        assert it.transport.ended == []

    run(test)


def test_requests_behind_a_late_answer_wait_for_it(accepted: AcceptedSocket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.receive(GET + LATE + GET[:9])
        assert it.transport.written.count(b"200 OK") == 1
        assert not it.transport.reads
        it.receive(GET[9:] + GET)
        it.exchange.close_if_idle()
        it.gate.late.outlet.write(b"<late>")
        assert it.transport.written.endswith(b"<late>")
        assert not it.gate.late.closes
        it.gate.late.outlet.answered(failed=False)
        assert it.transport.reads
        assert it.transport.written.partition(b"<late>")[2].count(b"200 OK") == 2
        assert it.transport.ended == []

    run(test)


def test_silence_during_a_late_answer_is_no_timeout(accepted: AcceptedSocket) -> None:
    async def test() -> None:
        it = Connection(accepted, timeout=0.01)
        it.receive(LATE)
        await asyncio.sleep(0.05)
        assert it.transport.ended == []
        it.gate.late.outlet.answered(failed=False)
        while it.transport.ended != ["abort"]:
            await asyncio.sleep(0.001)

    run(test)


@pytest.mark.parametrize("request_", [GET, LATE, GET[:-2] + b"Content-Length: 3\r\n\r\n"])
def test_slow_client_has_time_to_read_the_end_of_an_answer(
    accepted: AcceptedSocket, request_: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_exchange, "LINGER_SECONDS", 0.01)

    async def test() -> None:
        it = Connection(accepted, timeout=0.01)
        it.transport.unsent = 5
        it.receive(request_)
        if request_ is LATE:
            it.gate.late.outlet.answered(failed=False)
        await asyncio.sleep(0.05)
        assert it.transport.ended == []

    run(test)


@pytest.mark.parametrize(
    ("request_", "failed", "plain", "ended"),
    [
        (b"Connection: close\r\n", False, False, ["close", "abort"]),
        (b"Connection: close\r\n", False, True, ["close"]),
        (b"", True, True, ["close"]),
        (b"Content-Length: 3\r\n", False, True, ["eof"]),
        (b"Content-Length: 3\r\n", False, False, []),
    ],
    ids=["tls", "plain", "error", "body", "body with tls"],
)
def test_connection_ends_after_a_late_answer_that_is_the_last(
    accepted: AcceptedSocket, request_: bytes, failed: bool, plain: bool, ended: list[str]
) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.transport.plain = plain
        it.receive(LATE[:-2] + request_ + b"\r\n")
        assert it.gate.late.closes is not failed
        it.gate.late.outlet.answered(failed=failed)
        assert it.transport.ended == ended

    run(test)


def test_reset_during_a_late_answer_does_not_reach_what_ends_it(accepted: AcceptedSocket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.transport.plain = it.transport.reset = True
        it.receive(LATE[:-2] + b"Content-Length: 3\r\n\r\n")
        it.gate.late.outlet.answered(failed=False)
        assert it.transport.ended == ["abort"]

    run(test)


def test_last_answer_is_written_before_the_end_with_tls(accepted: AcceptedSocket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.gate.leaving = True
        it.receive(LATE)
        it.transport.unsent = 5
        it.gate.late.outlet.answered(failed=False)
        # No abort: it would drop what is unsent.
        assert it.transport.ended == ["close"]

    run(test)


@pytest.mark.parametrize("rest", [b"", GET[:9]])
def test_connection_ends_after_a_late_answer_if_the_worker_leaves_meanwhile(
    accepted: AcceptedSocket, rest: bytes
) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.receive(LATE + rest)
        it.gate.leaving = True
        it.gate.late.outlet.answered(failed=False)
        # The beginning of another request is waited for.
        assert it.transport.ended == ([] if rest else ["close", "abort"])
        if rest:
            it.receive(GET[9:])
            assert b"Connection: close" in it.transport.written

    run(test)


def test_late_answer_learns_of_the_connection(accepted: AcceptedSocket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.receive(LATE)
        it.exchange.pause_writing()
        it.exchange.resume_writing()
        it.exchange.connection_lost(None)
        assert it.gate.late.calls == ["pause", "resume", "lost"]
        it.gate.late.outlet.write(b"x")
        it.gate.late.outlet.abort()
        assert (it.transport.written, it.transport.ended) == (b"", [])

    run(test)


def test_silent_client_is_aborted_after_the_handshake_timeout(accepted: AcceptedSocket) -> None:
    async def test() -> None:
        it = Connection(accepted, timeout=0.01)
        while it.transport.ended != ["abort"]:
            await asyncio.sleep(0.001)

    run(test)


def test_only_a_connection_between_two_requests_is_idle(accepted: AcceptedSocket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        for sent in (b"", GET[:5]):
            it.receive(sent)
            it.exchange.close_if_idle()
            assert it.transport.ended == []
        it.receive(GET[5:])
        it.exchange.close_if_idle()
        assert it.transport.ended == ["close", "abort"]

    run(test)


def test_end_of_the_connection_is_reported(accepted: AcceptedSocket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.exchange.connection_lost(None)
        assert it.over == [it.exchange]
        it.exchange.abort()
        assert it.transport.ended == []

    run(test)


def test_answer_is_sent_once_its_client_reads(accepted: AcceptedSocket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.receive(LATE)
        it.gate.late.outlet.answered(failed=False)
        assert it.gate.late.calls == ["sent"]
        it.receive(LATE)
        it.exchange.pause_writing()
        it.gate.late.outlet.answered(failed=False)
        assert it.gate.late.calls == ["sent", "pause"]
        it.exchange.resume_writing()
        assert it.gate.late.calls == ["sent", "pause", "sent"]

    run(test)


def test_only_a_complete_answer_waits_for_its_reader(accepted: AcceptedSocket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.receive(LATE)
        it.transport.unsent = 5
        assert it.exchange.unread == 0
        it.gate.late.outlet.answered(failed=False)
        assert it.exchange.unread == 5
        accepted.send(b"abc")
        assert it.exchange.unread in (5, 8)
        it.transport.unsent = 0
        assert it.exchange.unread == 0
        it.exchange.close(SLOW)
        assert it.transport.ended == ["abort"]
        it.exchange.connection_lost(None)
        assert it.exchange.unread == 0

    run(test)


def test_complete_answer_whose_connection_is_lost_is_over(accepted: AcceptedSocket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        it.receive(LATE)
        it.exchange.pause_writing()
        it.gate.late.outlet.answered(failed=False)
        it.exchange.connection_lost(None)
        assert it.gate.late.calls == ["pause", "sent"]

    run(test)


def test_connection_is_new_only_once_and_kept_during_an_answer(accepted: AcceptedSocket) -> None:
    async def test() -> None:
        it = Connection(accepted)
        came = it.exchange.came
        it.receive(LATE)
        assert it.exchange.came == math.inf
        it.gate.late.outlet.answered(failed=False)
        assert it.exchange.came == came

    run(test)
