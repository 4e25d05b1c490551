"""The answer to `GET /history/<stream>`: newline-delimited JSON, as fast as the client reads it."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from energyws.errors import HISTORY_UNAVAILABLE, TOO_MANY_REQUESTS, ErrorCode
from energyws.protocol import json_lines
from energyws.protocol.http.response import Response
from energyws.protocol.messages import Subscribed
from energyws.protocol.position import Position
from workers.websocket.clients.answers import Asked, HistoryAnswer
from workers.websocket.clients.context import Context

# At once, of a worker; of one subject it is one.
MOST_AT_ONCE: Final = 4
HEADERS: Final = {"Content-Type": "application/x-ndjson", "Cache-Control": "no-store"}


def is_full(reading: Counter[str], subject: str) -> bool:
    """Whether no further request of this subject may be answered now. reading: as in Context."""
    return reading[subject] > 0 or reading.total() >= MOST_AT_ONCE


class History(HistoryAnswer):
    """Up to `limit` records, then an `end` line. An answer without that line was cut."""

    __slots__ = ("_left", "_position", "_reading", "_started")

    def __init__(self, context: Context, asked: Asked, limit: int) -> None:
        super().__init__(context, asked)
        self._left = limit
        self._position = ""
        self._started = False
        self._reading = context.reading

    def subscribe(self) -> None:
        # Requests that come in the same moment are all admitted before the first of them begins.
        full = is_full(self._reading, self.subject)
        self._reading[self.subject] += 1
        if full:
            self.refuse(TOO_MANY_REQUESTS)
        else:
            super().subscribe()

    def leave(self) -> None:
        self._reading[self.subject] -= 1
        if not self._reading[self.subject]:
            del self._reading[self.subject]
        super().leave()

    def take(self, lines: bytes) -> None:
        count = lines.count(b"\n")
        more = count > self._left
        if more:
            lines = b"".join(lines.splitlines(keepends=True)[: self._left])
            count = self._left
        self._left -= count
        if lines:
            self._position = json_lines.position(lines[:-1].rpartition(b"\n")[2]).decode()
        if more:
            self._end(lines, more=True)
        else:
            self.send(self._framed(lines))

    def scanned(self, position: Position) -> None:
        # So that a client that goes on from there need not wait for the same again.
        self._position = str(position)

    def finish(self, position: str) -> None:
        self._position = position
        self._end(b"", more=False)

    def hurry(self) -> None:
        """End here; the client goes on from there."""
        if self.reply is None:
            self.refuse(HISTORY_UNAVAILABLE)
        elif self.writable:
            self._end(b"", more=True)

    def refuse(self, error: ErrorCode) -> None:
        if self._started:
            self.abort()
        else:
            super().refuse(error)

    def _end(self, lines: bytes, *, more: bool) -> None:
        assert self.reply is not None
        position = self._position or self.reply.position
        last = json_lines.line(end(self.asked.stream, position, self.reply, more=more))
        data = self._framed(lines + last)
        self.end(data + b"0\r\n\r\n" if self.asked.chunked else data)

    def _framed(self, lines: bytes) -> bytes:
        """A part of the body (RFC 9112 section 7.1), after the head if it is the first one."""
        data = b"%x\r\n%b\r\n" % (len(lines), lines) if self.asked.chunked else lines
        if self._started:
            return data
        self._started = True
        headers = {**HEADERS, **self.asked.headers}
        if self.asked.chunked:
            headers["Transfer-Encoding"] = "chunked"
        return self.head(Response(200, None, headers)) + data


def end(stream: str, position: str, reply: Subscribed, *, more: bool) -> dict[str, Any]:
    """The last line. more: the topic had more when the answer ended."""
    message: dict[str, Any] = {
        "type": "end",
        "stream": stream,
        "position": position,
        "more": more,
        "recovered": reply.recovered,
    }
    if reply.reason is not None:
        message |= {
            "reason": reply.reason.value,
            "earliest": reply.earliest,
            "missing": reply.missing,
        }
    return message
