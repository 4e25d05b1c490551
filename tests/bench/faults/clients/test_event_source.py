"""The client comes back where an EventSource does, and gives up where one gives up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from bench.faults.clients.event_source import EventSource, GaveUp
from energyws.testing import until

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n\r\n"
SECONDS = 10.0
# SO_LINGER with a timeout of 0: RST instead of FIN.
RESET = struct.pack("ii", 1, 0)


class Server:
    """Answers each request with the next of `answers`; ends a connection once `over` is set."""

    def __init__(self, *answers: bytes, reset: bool = False) -> None:
        self.requests: list[bytes] = []
        self.over = asyncio.Event()
        self._answers = list(answers)
        self._reset = reset

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self._answers.pop(0))
        await self.over.wait()
        if self._reset:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.close()


@contextlib.asynccontextmanager
async def running(server: Server, bound: socket.socket | None = None) -> AsyncIterator[int]:
    """bound: where it listens, instead of a port of its own."""
    if bound is None:
        bound = socket.create_server(("127.0.0.1", 0))
    serving = await asyncio.start_server(server.answer, sock=bound)
    async with serving, asyncio.timeout(SECONDS):
        yield serving.sockets[0].getsockname()[1]


def source(port: int) -> EventSource:
    return EventSource(f"http://127.0.0.1:{port}/sse/energy?last=1", lambda: "token")


def field(request: bytes, name: bytes) -> bytes | None:
    lines = request.split(b"\r\n")
    values = [line.partition(b":")[2] for line in lines if line.lower().startswith(name + b":")]
    return values[0].strip() if values else None


@pytest.mark.parametrize("reset", [False, True])
def test_end_of_the_body_is_followed_by_a_resume(reset: bool) -> None:
    async def run() -> Server:
        server = Server(
            HEAD + b"retry: 1\nid: 5\ndata: a\n\nid: 6\ndata: cut off\n",
            HEAD + b"data: b\n\n",
            reset=reset,
        )
        async with running(server) as port, contextlib.aclosing(source(port).events()) as events:
            assert (await anext(events)).data == "a"
            server.over.set()
            assert (await anext(events)).data == "b"
        return server

    request, again = asyncio.run(run()).requests
    assert request.startswith(b"GET /sse/energy?last=1 HTTP/1.1\r\n")
    assert field(request, b"accept") == b"text/event-stream"
    assert field(request, b"authorization") == b"Bearer token"
    assert field(request, b"last-event-id") is None
    assert field(again, b"last-event-id") == b"5"


def test_body_with_a_length_is_followed_by_a_resume_though_the_connection_stays() -> None:
    async def run() -> bytes | None:
        refusal = b"retry: 1\nid: 5\nevent: problem\ndata: {}\n\n"
        head = HEAD[:-2] + b"content-length: %d\r\n\r\n" % len(refusal)
        server = Server(head + refusal, HEAD + b"data: b\n\n")
        async with running(server) as port, contextlib.aclosing(source(port).events()) as events:
            assert (await anext(events)).type == "problem"
            assert (await anext(events)).data == "b"
            server.over.set()
        return field(server.requests[1], b"last-event-id")

    assert asyncio.run(run()) == b"5"


def test_dropped_connection_is_followed_by_a_resume() -> None:
    async def run() -> bytes | None:
        server = Server(HEAD + b"retry: 1\nid: 5\ndata: a\n\n", HEAD + b"data: b\n\n")
        async with running(server) as port:
            client = source(port)
            async with contextlib.aclosing(client.events()) as events:
                await anext(events)
                client.drop()
                await anext(events)
            server.over.set()
        assert client.attempts == 2
        return field(server.requests[1], b"last-event-id")

    assert asyncio.run(run()) == b"5"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\ncontent-type: text/ev"])
def test_connection_that_ends_before_the_head_is_followed_by_another(answer: bytes) -> None:
    async def run() -> str:
        server = Server(answer, HEAD + b"data: b\n\n")
        server.over.set()
        async with running(server) as port:
            client = source(port)
            client.retry_ms = 1
            async with contextlib.aclosing(client.events()) as events:
                return (await anext(events)).data

    assert asyncio.run(run()) == "b"


def test_refused_connections_are_followed_by_others() -> None:
    async def run() -> str:
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            client = source(bound.getsockname()[1])
            client.retry_ms = 1
            async with contextlib.aclosing(client.events()) as events:
                first = asyncio.ensure_future(anext(events))
                await until(lambda: client.attempts > 2, "some attempts are refused")
                server = Server(HEAD + b"data: b\n\n")
                server.over.set()
                async with running(server, bound):
                    return (await first).data

    assert asyncio.run(run()) == "b"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "503"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "204"),
        (b"HTTP/1.1 401 Unauthorized\r\ncontent-type: text/event-stream\r\n\r\n", "401"),
        (b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n", "text/html"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "content type ''"),
        (HEAD[:-2] + b"transfer-encoding: chunked\r\n\r\n", "transfer-encoding"),
    ],
)
def test_any_other_answer_is_the_end(answer: bytes, why: str) -> None:
    async def run() -> int:
        server = Server(answer, answer)
        async with running(server) as port:
            client = source(port)
            with pytest.raises(GaveUp, match=why):
                await anext(client.events())
            server.over.set()
        return client.attempts

    assert asyncio.run(run()) == 1
