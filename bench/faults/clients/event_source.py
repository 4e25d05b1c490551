"""A client of Server-Sent Events that reconnects as a browser's EventSource does.

HTML standard, section 9.2.2: the end of a 200 response, a reset and a refused connection are
followed by another attempt, after the reconnection time and with the last event ID; any other
status or content type ends it for ever.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncGenerator, Callable
from typing import Final
from urllib.parse import urlsplit

from bench.faults.clients.event_stream import Event, EventStream

# Chromium's reconnection time until the stream names one.
FIRST_RETRY_MS: Final = 3000
_READ_BYTES: Final = 1 << 16


class GaveUp(Exception):
    """The response is none that an EventSource comes back from."""


class EventSource:
    """url: http://HOST:PORT/PATH, or https. bearer: the token of the next attempt, in a header.

    An id alone is an event without a type, in which it differs from a browser's.

    attempts: how often it has tried to connect. last_event_id: what the next request says.
    retry_ms: the time between two connections.
    """

    def __init__(self, url: str, bearer: Callable[[], str]) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._host, self._port = parts.hostname, parts.port
        self._trust = ssl.create_default_context() if parts.scheme == "https" else None
        self._target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        self._bearer = bearer
        self.retry_ms = FIRST_RETRY_MS
        self._writer: asyncio.StreamWriter | None = None
        self.attempts = 0
        self.last_event_id = ""

    def drop(self) -> None:
        """End the connection, as a failure of the network does."""
        if self._writer is not None:
            self._writer.transport.abort()

    async def events(self) -> AsyncGenerator[Event, None]:
        """The events of any number of connections; raises GaveUp."""
        while True:
            self.attempts += 1
            try:
                async for event in self._connection():
                    yield event
            except (OSError, EOFError):
                pass
            await asyncio.sleep(self.retry_ms / 1000)

    async def _connection(self) -> AsyncGenerator[Event, None]:
        """The events of one connection; raises OSError or EOFError if it fails before them."""
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._trust)
        self._writer = writer
        try:
            writer.write(self._request())
            left = _length(await reader.readuntil(b"\r\n\r\n"))
            stream = EventStream(self.last_event_id, ids=True)
            while left and (data := await reader.read(min(_READ_BYTES, left))):
                left -= len(data)
                events = stream.feed(data)
                self.last_event_id = stream.last_event_id
                if stream.retry_ms is not None:
                    self.retry_ms = stream.retry_ms
                for event in events:
                    yield event
        finally:
            self._writer = None
            writer.transport.abort()

    def _request(self) -> bytes:
        lines = [
            f"GET {self._target} HTTP/1.1",
            f"Host: {self._host}:{self._port}",
            "Accept: text/event-stream",
            "Cache-Control: no-cache",
            f"Authorization: Bearer {self._bearer()}",
        ]
        if self.last_event_id:
            lines.append(f"Last-Event-ID: {self.last_event_id}")
        return "\r\n".join([*lines, "", ""]).encode()


def _length(head: bytes) -> int:
    """The most bytes that the body may have; raises GaveUp if this is no event stream."""
    status, *fields = head.decode("latin-1").strip().split("\r\n")
    pairs = (field.partition(":") for field in fields)
    named = {name.strip().lower(): value.strip() for name, _, value in pairs}
    kind = named.get("content-type", "").partition(";")[0]
    if status.split(" ")[1:2] != ["200"]:
        raise GaveUp(f"answered with {status!r}")
    if kind != "text/event-stream":
        raise GaveUp(f"answered with the content type {kind!r}")
    if "transfer-encoding" in named:
        raise GaveUp(f"the stream has a transfer-encoding: {named['transfer-encoding']!r}")
    return int(named.get("content-length", sys.maxsize))
