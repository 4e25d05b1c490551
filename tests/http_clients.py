"""Clients of the HTTP paths for tests, on bare sockets: an independent reading of the standards."""

from __future__ import annotations

import re
import socket
import ssl
import time
from dataclasses import dataclass
from typing import Any, Self

import orjson

from energyws.testing import Service, token
from tests.clients import PATIENCE_SECONDS, bare_socket, response_head


def request(
    service: Service, path: str, *lines: str, method: str = "GET", version: str = "1.1"
) -> bytes:
    """A request with a valid token; `lines` are added, and replace its headers of the same name."""
    given = {line.partition(":")[0].lower() for line in lines}
    usual = {"Host": f"127.0.0.1:{service.port}", "Authorization": f"Bearer {token()}"}
    kept = [f"{name}: {value}" for name, value in usual.items() if name.lower() not in given]
    sent = [line for line in lines if line.partition(":")[2].strip()]
    return "\r\n".join([f"{method} {path} HTTP/{version}", *kept, *sent, "", ""]).encode()


@dataclass
class HttpResponse:
    """cut: the connection ended before the body did."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    cut: bool = False

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The body as newline-delimited JSON."""
        return [orjson.loads(line) for line in self.body.splitlines()]


def read_head(connection: socket.socket) -> HttpResponse:
    connection.settimeout(PATIENCE_SECONDS)
    line, *fields = response_head(connection).rstrip().split("\r\n")
    assert line, "the connection ended without an answer"
    headers = {
        name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)
    }
    return HttpResponse(int(line.split(" ")[1]), headers)


def read_response(connection: socket.socket, *, head_only: bool = False) -> HttpResponse:
    """The next response, whichever way its body is framed (RFC 9112 section 6.3)."""
    answer = read_head(connection)
    if head_only or answer.status in (204, 304):
        return answer
    with connection.makefile("rb", 0) as file:
        if answer.headers.get("transfer-encoding") == "chunked":
            while size := int(file.readline() or b"0", 16):
                answer.body += _exactly(file, size + 2)[:-2]
            answer.cut = file.readline() != b"\r\n"
        elif "content-length" in answer.headers:
            answer.body = _exactly(file, int(answer.headers["content-length"]))
        else:
            assert answer.headers["connection"] == "close"
            while data := file.read(65536):
                answer.body += data
    return answer


def _exactly(file: Any, size: int) -> bytes:
    data = b""
    while len(data) < size and (piece := file.read(size - len(data))):
        data += piece
    return data


def fetch(
    service: Service,
    path: str,
    *lines: str,
    method: str = "GET",
    version: str = "1.1",
    trust: ssl.SSLContext | None = None,
) -> HttpResponse:
    """One request on a connection of its own."""
    with bare_socket(service, trust) as connection:
        connection.sendall(request(service, path, *lines, method=method, version=version))
        return read_response(connection, head_only=method == "HEAD")


@dataclass
class ServerEvent:
    name: str
    id: str
    data: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.data)


class EventSource:
    """One connection of an EventSource: parses as WHATWG HTML section 9.2.6 says.

    retry_ms, last_id: the newest that came. comments: how many came. buffer: of its socket, in
    bytes.
    """

    def __init__(
        self,
        service: Service,
        query: str = "",
        *lines: str,
        last_event_id: str = "",
        version: str = "1.1",
        path: str = "/sse/energy",
        trust: ssl.SSLContext | None = None,
        buffer: int | None = None,
    ) -> None:
        self.connection = bare_socket(service, trust)
        if buffer is not None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        if last_event_id:
            lines = (*lines, f"Last-Event-ID: {last_event_id}")
        lines = ("Accept: text/event-stream", *lines)
        self.connection.sendall(request(service, path + query, *lines, version=version))
        self.head = read_head(self.connection)
        self.retry_ms: int | None = None
        self.last_id = last_event_id
        self.comments = 0
        self.ended = False
        self._buffer = b""
        self._name = ""
        self._data: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    def next(self, seconds: float = PATIENCE_SECONDS) -> ServerEvent | None:
        """The next event; None: the body has ended. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while True:
            while (line := self._line()) is not None:
                event = self._take(line)
                if event is not None:
                    return event
            self.connection.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                data = self.connection.recv(65536)
            except (ConnectionError, ssl.SSLEOFError):
                data = b""
            if not data:
                self.ended = True
                return None
            self._buffer += data

    def until(self, name: str) -> ServerEvent:
        """The next event of this name; others are dropped."""
        while (event := self.next()) is not None:
            if event.name == name:
                return event
        raise AssertionError(f"the body ended without {name}")

    def numbers(self, count: int) -> list[int]:
        """The numbers of the next `count` records."""
        return [self.until("message").json["data"]["n"] for _ in range(count)]

    def rest(self) -> list[ServerEvent]:
        """Everything until the body ends."""
        events = []
        while (event := self.next()) is not None:
            events.append(event)
        return events

    def _line(self) -> str | None:
        found = re.match(rb"([^\r\n]*)(\r\n|\n|\r)", self._buffer)
        if found is None:
            return None
        self._buffer = self._buffer[found.end() :]
        return found[1].decode()

    def _take(self, line: str) -> ServerEvent | None:
        if not line:
            name, data = self._name or "message", self._data
            self._name, self._data = "", []
            return ServerEvent(name, self.last_id, "\n".join(data)) if data else None
        if line.startswith(":"):
            self.comments += 1
            return None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match field:
            case "event":
                self._name = value
            case "data":
                self._data.append(value)
            case "id":
                self.last_id = value
            case "retry":
                self.retry_ms = int(value)
            case _:
                raise AssertionError(f"unknown field {field!r}")
        return None
